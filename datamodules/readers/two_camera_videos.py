"""What iLIDS-VID and PRID-2011 share: a folder a person in each of two cameras, and ten splits of the people in halves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightning_reid.datamodules.readers.folders import Naming
from lightning_reid.datamodules.readers.matlab_variable import read_integers
from lightning_reid.datamodules.readers.random_splits import random_note, shuffled
from lightning_reid.datamodules.readers.tracklet_folders import folder_names, read_frames
from lightning_reid.records import TrackletDataset, TrackletRecord

NUM_SPLITS = 10
SPLIT_FOLDER = "train-test people splits"
"""Folder of the iLIDS-VID archive with the published splits of both sets."""

PERSON_FOLDER = re.compile(r"person_?(?P<pid>[0-9]+)")


def read_people(camera: Path, naming: Naming, domain: str, camid: int, *, clock: str | None = None) -> dict[int, TrackletRecord]:
    """The tracklet of every person of one camera, by pid, ascending.

    Raises:
        FileNotFoundError: There is no folder of a person, or one holds no image.
        ValueError: A folder or image name does not parse, or an image is of another person or camera.
    """
    people = {}
    for name in folder_names(camera):
        match = PERSON_FOLDER.fullmatch(name)
        if match is None:
            raise ValueError(f"{camera / name} does not parse; expected folders like person001. Move what is no part of the data set out")
        people[int(match["pid"])] = read_frames(camera / name, naming, int(match["pid"]), domain, camid, clock)
    return dict(sorted(people.items()))


def split_people(
    name: str, cameras: Sequence[dict[int, TrackletRecord]], *, root: Path, published: str, split: int, seed: int
) -> TrackletDataset:
    """Half of the people train, with both cameras; of the others the first camera queries and the second is the gallery.

    The half is a published one where the file ``published`` lies in ``root`` or beside it, in itself or in ``SPLIT_FOLDER``; otherwise it
    is ``random_splits.shuffled`` of ``seed`` and ``split``. The note says which.

    Args:
        name: Of the data set.
        cameras: Two mappings of the same people to their tracklets.
        root: The data set's folder.
        published: File name of the published splits.
        split: 0 to 9.
        seed: Of the random splits.

    Raises:
        ValueError: ``split`` is out of range, a person is missing in one camera, there are fewer than two people, or the published splits
            are of other people.
    """
    if not 0 <= split < NUM_SPLITS:
        raise ValueError(f"{name} has splits 0 to {NUM_SPLITS - 1}, got {split}")
    first, second = cameras
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        raise ValueError(
            f"{name}: person {alone[0]} is in one camera only, as are {len(alone) - 1} others; was the archive extracted to its end?"
        )
    people = sorted(first)
    if len(people) < 2:
        raise ValueError(f"{name}: a split in halves needs at least two people, found {len(people)}")
    lists = _find_published(root, published)
    if lists is not None:
        train_pids, note = _published_train_pids(lists, split, people), f"published split {split} of {published}"
    else:
        train_pids, note = shuffled(people, seed=seed, split=split)[: len(people) // 2], random_note(seed=seed, split=split)
    test_pids = sorted(set(people) - set(train_pids))
    return TrackletDataset(
        name,
        train=tuple(camera[pid] for pid in sorted(train_pids) for camera in cameras),
        query=tuple(first[pid] for pid in test_pids),
        gallery=tuple(second[pid] for pid in test_pids),
        notes=(note,),
    )


def _find_published(root: Path, name: str) -> Path | None:
    folders = (root, root / SPLIT_FOLDER, root.parent, root.parent / SPLIT_FOLDER)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _published_train_pids(path: Path, split: int, people: Sequence[int]) -> list[int]:
    """Row ``split`` of ``ls_set`` counts people from 1 in the order of their folders; the first half tests, the second trains."""
    lists = read_integers(path, "ls_set")
    if lists.shape != (NUM_SPLITS, len(people)) or not np.array_equal(np.sort(lists[split]), np.arange(1, len(people) + 1)):
        raise ValueError(
            f"{path}: expected ls_set to hold {NUM_SPLITS} orders of the {len(people)} people found, got shape {lists.shape}; complete the "
            "data set, or move the file away to use a random split"
        )
    return [people[place - 1] for place in lists[split, len(people) // 2 :].tolist()]
