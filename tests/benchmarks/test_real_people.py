"""The people that networks are chosen by, and those that are looked at once: how they are asked for, and that each look is written down."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import real_people
import torch
from PIL import Image

from lightning_reid.networks import EmbeddingNetwork, build_backbone

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


def some_people(seed: int, *, every: bool) -> real_people.People:
    random = np.random.default_rng(seed)
    pids, camids = (torch.from_numpy(random.integers(1, high, 40)) for high in (5, 4))
    visits = 10 * pids + torch.from_numpy(random.integers(0, 2, 40))
    pids[:6], visits[:6] = 0, 0
    is_query = (pids > 0) & (torch.ones(40, dtype=torch.bool) if every else torch.from_numpy(random.random(40) < 0.4))
    return real_people.People([], pids, camids, visits, is_query, torch.ones(40, dtype=torch.bool) if every else ~is_query)


def one_by_one(people: real_people.People, embeddings: torch.Tensor, *, other_visit: bool) -> tuple[float, float]:
    """The protocol as the data's description has it, a query at a time."""
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    precisions, firsts = [], []
    for query in range(len(unit)):
        if not people.is_query[query]:
            continue
        right = []
        for one in (-(unit @ unit[query])).argsort(stable=True).tolist():
            same = bool(people.pids[one] == people.pids[query])
            if not people.in_gallery[one] or (same and people.camids[one] == people.camids[query]):
                continue
            if other_visit and people.visits[one] == people.visits[query]:
                continue
            right.append(same)
        places = [place for place, yes in enumerate(right, 1) if yes]
        if places:
            precisions.append(np.mean([number / place for number, place in enumerate(places, 1)]))
            firsts.append(places[0] == 1)
    return 100 * float(np.mean(precisions)), 100 * float(np.mean(firsts))


@pytest.mark.parametrize("other_visit", [False, True])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_those_of_the_protocol_a_query_at_a_time(seed, every, other_visit):
    people, embeddings = some_people(seed, every=every), torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
    found = real_people.find_again(people, embeddings, other_visit=other_visit)
    assert (found.mAP, found.R1) == pytest.approx(one_by_one(people, embeddings, other_visit=other_visit))
    assert found.mAP_interval[0] <= found.mAP <= found.mAP_interval[1]


@pytest.fixture
def pets(tmp_path):
    """Two people to choose by and two to look at once, four crops each, and a stranger."""
    rows, folder = [], tmp_path / "pets"
    for split, pids in (("bounding_box_train", (2, 4)), ("query", (1, 3)), ("bounding_box_test", (1, 3))):
        (folder / split).mkdir(parents=True)
        for pid in pids:
            for shot in range(1 if split == "query" else 4):
                camid, visit = 1 + shot % 2, 10 * pid + shot // 2
                name = f"{pid:04d}_c{camid}s1_{shot:06d}_{visit}.jpg"
                Image.effect_noise((20, 40), 10 * pid + shot).convert("RGB").save(folder / split / name)
                rows.append({"split": split, "file": name, "person": pid, "cam": camid, "mot_id": visit})
    with (folder / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    strangers = tmp_path / "tud" / "bounding_box_train"
    strangers.mkdir(parents=True)
    Image.effect_noise((20, 40), 99).convert("RGB").save(strangers / "0101_c1s1_000001_01.jpg")
    return folder


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = EmbeddingNetwork(build_backbone(TINY["backbone"], **TINY["backbone_options"]))
    network.save_pretrained(tmp_path / "model", image_size=(32, 16))
    return str(tmp_path / "model")


def test_the_people_to_choose_by_are_others_than_those_that_are_looked_at_once(pets):
    chosen = real_people.read_people(pets, "validation", pets.parent / "tud")
    looked_at = real_people.read_people(pets, "test")
    assert (int(chosen.is_query.sum()), int(chosen.in_gallery.sum())) == (8, 9)
    assert (int(looked_at.is_query.sum()), int(looked_at.in_gallery.sum())) == (2, 8)
    assert not set(chosen.pids.tolist()) & set(looked_at.pids.tolist())
    assert not set(chosen.paths) & set(looked_at.paths)


def test_choosing_leaves_no_line_and_every_look_leaves_one(pets, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(real_people, "LOG", tmp_path / "looks.csv")
    real_people.main([str(pets), model, "--distractors", str(pets.parent / "tud")])
    assert "8 queries of 2 people, gallery of 9 crops" in capsys.readouterr().out
    assert not (tmp_path / "looks.csv").exists()
    for why in ("the first", "the second"):
        (market, visit), *_ = real_people.main([str(pets), model, "--released", why]).values()
    with (tmp_path / "looks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["why"] for row in rows] == ["the first", "the second"]
    assert {(row["mAP"], row["other_visit_mAP"], row["sha256"]) for row in rows} == {
        (f"{market.mAP:.1f}", f"{visit.mAP:.1f}", real_people.digest_of(model))
    }
