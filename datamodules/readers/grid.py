"""QMUL underGround Re-IDentification (GRID; Loy et al. 2009)."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root, read_folder
from lightning_reid.datamodules.readers.matlab_file import read_variable
from lightning_reid.datamodules.readers.matlab_variable import whole_numbers
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.random_splits import random_note, shuffled
from lightning_reid.records import DISTRACTOR_PID, ReIDDataset

GRID_NAMING = Naming(re.compile(r"(?P<pid>[0-9]{4})_(?P<camid>[0-9]+)_(?P<frame>[0-9]+)_"), "0001_1_25004_107_32_106_221.jpeg")
GRID = OfficialCounts(train_images=250, train_pids=125, query_images=125, query_pids=125, gallery_images=900, gallery_pids=125, cameras=8)
PARTITIONS = "features_and_partitions.mat"


def read_grid(root: StrPath, split: int = 0, seed: int = 0) -> ReIDDataset:
    """Read GRID: ``probe`` and ``gallery``, names ``0001_1_25004_107_32_106_221.jpeg`` = person, camera, frame, box.

    Of the 250 people in both folders 125 train; the others' probes (125) search the others' gallery images and the 775 ``0000`` distractors
    (900). 1,275 images, 8 cameras. The ten published splits are taken from ``features_and_partitions.mat`` where it lies beside the
    folders; without it the split is random. The notes say which.

    Args:
        root: The folder that holds ``probe`` and ``gallery``, or its parent, ``underground_reid``.
        split: 0 to 9.
        seed: Of the random splits; without effect where the published ones are at hand.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing or empty.
        ValueError: A name does not parse, ``split`` is out of range, the partition file has another structure, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    if not 0 <= split < 10:
        raise ValueError(f"GRID has splits 0 to 9, got {split}")
    top = find_root(root, Layout("grid", ("probe", "gallery"), ("underground_reid", "grid")))
    probe = read_folder(top / "probe", GRID_NAMING, "grid")
    gallery = read_folder(top / "gallery", GRID_NAMING, "grid")
    if (top / PARTITIONS).is_file():
        train_pids, note = (
            _published_train_pids(top / PARTITIONS, split, {record.pid for record in probe}),
            f"published split {split} of {PARTITIONS}",
        )
    else:
        people = shuffled((record.pid for record in probe), seed=seed, split=split)
        train_pids, note = frozenset(people[: len(people) // 2]), random_note(seed=seed, split=split)
    return warn_unless_official(
        ReIDDataset(
            "grid",
            train=tuple(record for record in probe + gallery if record.pid in train_pids),
            query=tuple(record for record in probe if record.pid not in train_pids),
            gallery=tuple(record for record in gallery if record.pid == DISTRACTOR_PID or record.pid not in train_pids),
            notes=(note,),
        ),
        GRID,
    )


def _published_train_pids(path: Path, split: int, people: Collection[int]) -> frozenset[int]:
    """Third field of the split's cell of ``trainIdxAll``: the numbers of the people to train on."""
    away = "move the file away to use a random split"
    try:
        cells: Any = read_variable(path, "trainIdxAll")
        value = [*cells[split][0].values()][2]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected ten cells trainIdxAll, each a structure whose third field lists the people to train on ({error}); {away}"
        ) from error
    pids = whole_numbers(value, f"{path}: the people of trainIdxAll, split {split},").ravel().tolist()
    if not pids or len(set(pids)) < len(pids) or not set(pids) <= set(people):
        strange = sorted(set(pids) - set(people))
        told = f"{strange[0]}, who is not in probe" if strange else "somebody twice" if pids else "nobody"
        raise ValueError(f"{path}: split {split} of trainIdxAll trains on {told}; {away}")
    return frozenset(pids)
