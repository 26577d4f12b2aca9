"""The clients of ``federated_ordering.py --method fedureid``: strangers of two generated domains, each seen by two cameras.

A client is a domain, as in the text a data set is. A seed draws who is in it: 240 people in all, at least 100 a client, the other 40 dealt
by a Dirichlet distribution. Of each person two visits are kept, of two crops, so that a client has four images a person: a federation over
five seeds fits into an hour. The queries, of 60 other people a domain, are the same for all seeds.
Seeds from 100 on are for looking: on other people, to train on and to test on, at other places.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.generated import GeneratedPedestrians

DOMAINS = ("market-like", "duke-like")
PEOPLE = {"num_train_pids": 220, "num_test_pids": 60, "images_per_camera": 2, "num_distractors": 30}
LEAST, DEALT, CAMERAS = 100, 40, 2
FIRST_TO_LOOK, SCORED_PEOPLE, LOOKED_AT_PEOPLE = 100, 301, 300


def clients_of(root: Path, seed: int) -> list[str]:
    """The folders of a seed's clients, in the Market and Duke naming; they are made when they are not there."""
    people = LOOKED_AT_PEOPLE if seed >= FIRST_TO_LOOK else SCORED_PEOPLE
    draw = np.random.default_rng([people, seed])
    first = LEAST + round(DEALT * float(draw.dirichlet([1.0, 1.0])[0]))
    found = []
    for domain, number in zip(DOMAINS, (first, 2 * LEAST + DEALT - first), strict=True):
        whole = GeneratedPedestrians(domain, seed=people, **PEOPLE).write(root / f"fedureid-{domain}-{people}", progress=False)
        drawn = root / f"fedureid-seed{seed}" / domain
        if not drawn.is_dir():
            draft = drawn.with_name(f".{domain}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(whole, draft)
            leave_out(draft, number, np.random.default_rng([people, seed, number]))
            draft.rename(drawn)
        found.append(str(drawn))
    return found


def leave_out(folder: Path, number: int, draw: np.random.Generator) -> None:
    """Remove all training crops but those of so many people, in two cameras each."""
    visits: dict[int, dict[int, list[str]]] = {}
    for record in ImageReIDDataModule(str(folder), val_identities=0).read().train:
        visits.setdefault(record.pid, {}).setdefault(record.camid, []).append(record.path)
    chosen = set(draw.permutation(sorted(visits))[:number].tolist())
    for pid, cameras in sorted(visits.items()):
        kept = set(draw.choice(sorted(cameras), CAMERAS, replace=False).tolist()) if pid in chosen else set()
        for path in (path for camid, paths in cameras.items() if camid not in kept for path in paths):
            Path(path).unlink()
