"""Sets whose file names tell no camera: QMUL i-LIDS, and 3DPeS, whose names tell the view."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root, read_folder
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.random_splits import random_note, shuffled
from lightning_reid.records import ImageRecord, ReIDDataset

ILIDS_NAMING = Naming(re.compile(r"(?P<pid>[0-9]{4})(?P<image>[0-9]{3})\."), "0001001.jpg")
THREEDPES_NAMING = Naming(
    re.compile(r"(?P<pid>[0-9]+)_(?P<camid>[0-9]+)(?:_FRAME_(?P<frame>[0-9]+))?(?:_\w+)?\.", re.IGNORECASE), "1_1_FRAME_25_RGB.bmp"
)

ILIDS = OfficialCounts(train_pids=59, query_images=60, query_pids=60, gallery_images=60, gallery_pids=60, images=476, pids=119)
THREEDPES = OfficialCounts(images=1_011, pids=192)


def read_ilids(root: StrPath, split: int = 0, seed: int = 0) -> ReIDDataset:
    """Read QMUL i-LIDS (Zheng et al. 2009): ``Persons/0001001.jpg`` = person, image.

    Names tell no camera. 59 of the 119 people train, all their images, camid 0 (unknown); of each of the other 60 one random image is the
    query (camid 1, so that the Market protocol ignores nothing) and another the gallery's (camid 2): the usual single-shot protocol.
    476 images in all, two to eight a person.

    Args:
        root: The folder that holds ``Persons``, or its parent, ``i-LIDS_Pedestrian``.
        split: Which random split.
        seed: Of the family of splits; see ``random_splits.shuffled``.

    Raises:
        FileNotFoundError: The folder is missing or empty.
        ValueError: A file name does not parse, a test person has a single image, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    top = find_root(root, Layout("ilids", ("Persons",), ("i-lids_pedestrian", "ilids", "i-lids")))
    images = read_folder(top / "Persons", ILIDS_NAMING, "ilids", camid=0)
    people = _by_pid(images)
    order = shuffled(people, seed=seed, split=split)
    query, gallery = [], []
    for pid in sorted(order[len(order) // 2 :]):
        if len(people[pid]) < 2:
            raise ValueError(f"ilids: person {pid:04d} of {top / 'Persons'} has one image, but a query and a gallery image are needed")
        first, second = shuffled(range(len(people[pid])), seed=seed, split=split)[:2]
        query.append(replace(people[pid][first], camid=1))
        gallery.append(replace(people[pid][second], camid=2))
    train = tuple(record for pid in sorted(order[: len(order) // 2]) for record in people[pid])
    notes = (random_note(seed=seed, split=split), "cameras unknown: single shot, one query and one gallery image a person")
    return warn_unless_official(ReIDDataset("ilids", train, tuple(query), tuple(gallery), notes), ILIDS, images)


def read_3dpes(root: StrPath, split: int = 0, seed: int = 0) -> ReIDDataset:
    """Read 3DPeS (Baltieri et al. 2011): ``RGB/1_1_FRAME_25_RGB.bmp`` = person, view, frame.

    The second field counts a person's appearances ("views"), not the 8 cameras: camid is the view, so that a match must come from another
    appearance. Half of the 192 people train; of each of the others half of the views, drawn at random, are queries and the rest is the
    gallery; somebody seen in one view only is in the gallery. 1,011 images in all. Arguments and errors as ``read_ilids``.
    """
    top = find_root(root, Layout("3dpes", ("RGB",), ("3dpes", "3dpes_full")))
    images = read_folder(top / "RGB", THREEDPES_NAMING, "3dpes")
    people = _by_pid(images)
    order = shuffled(people, seed=seed, split=split)
    query, gallery = [], []
    for pid in sorted(order[len(order) // 2 :]):
        views = shuffled((record.camid for record in people[pid]), seed=seed, split=split)
        queried = frozenset(views[: len(views) // 2])
        query += [record for record in people[pid] if record.camid in queried]
        gallery += [record for record in people[pid] if record.camid not in queried]
    train = tuple(record for pid in sorted(order[: len(order) // 2]) for record in people[pid])
    notes = (random_note(seed=seed, split=split), "camid is the view (appearance) of the person, the names tell no camera")
    return warn_unless_official(ReIDDataset("3dpes", train, tuple(query), tuple(gallery), notes), THREEDPES, images)


def _by_pid(records: Iterable[ImageRecord]) -> dict[int, list[ImageRecord]]:
    people: dict[int, list[ImageRecord]] = defaultdict(list)
    for record in records:
        people[record.pid].append(record)
    return people
