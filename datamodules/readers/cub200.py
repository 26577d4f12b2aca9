"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011): image retrieval without cameras."""

from __future__ import annotations

import re
from pathlib import Path

from lightning_reid.datamodules.readers.folders import Layout, StrPath, find_root, path_below, require_files
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.text import read_lines
from lightning_reid.records import ImageRecord, ReIDDataset

CUB200 = OfficialCounts(train_images=5_864, train_pids=100, query_images=5_924, query_pids=100, gallery_images=5_924, gallery_pids=100)
NUM_TRAIN_CLASSES = 100


def read_cub200(root: StrPath) -> ReIDDataset:
    """Read CUB-200-2011: ``images.txt`` (``1 001.Black_footed_Albatross/….jpg``), ``image_class_labels.txt`` (``1 1``), ``images``.

    The zero-shot retrieval split: classes 1 to 100 train (5,864 images), of classes 101 to 200 every image queries all others (5,924).
    There are no cameras: training images have camid 0, and each test image has a camera of its own (its number in ``images.txt``), so that
    the Market protocol, which ignores the same identity in the same camera, ignores exactly the query itself, as "leave-one-out" does.

    Args:
        root: The folder with the lists, or its parent.

    Raises:
        FileNotFoundError: The folder, a part of it, or a listed image is missing.
        ValueError: A line does not parse, the two lists number different images, a half is empty, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    top = find_root(root, Layout("cub200", ("images.txt", "image_class_labels.txt", "images"), ("cub_200_2011", "cub200", "cub-200-2011")))
    images = _read_numbered(top / "images.txt", r"([0-9]+) (\S.*)")
    classes = _read_numbered(top / "image_class_labels.txt", r"([0-9]+) ([0-9]+)")
    if images.keys() != classes.keys():
        odd = sorted(images.keys() ^ classes.keys())
        raise ValueError(f"{top}: images.txt and image_class_labels.txt number different images, first {odd[0]}, {len(odd)} in all")
    where = f"{top / 'images.txt'}, image"
    paths = {number: path_below(top / "images", image, f"{where} {number}") for number, image in images.items()}
    require_files(paths.values(), str(top / "images.txt"))
    train, test = [], []
    for number, path in paths.items():
        pid = int(classes[number])
        if pid <= NUM_TRAIN_CLASSES:
            train.append(ImageRecord(path, pid, 0, "cub200"))
        else:
            test.append(ImageRecord(path, pid, number, "cub200"))
    if not train or not test:
        raise ValueError(f"{top}: found {len(train)} images of classes 1 to 100 and {len(test)} of classes 101 to 200; both are needed")
    notes = ("no cameras: each test image is its own camera, all other test images are its gallery",)
    return warn_unless_official(ReIDDataset("cub200", tuple(train), tuple(test), tuple(test), notes), CUB200)


def _read_numbered(path: Path, pattern: str) -> dict[int, str]:
    rows = {}
    for number, line in read_lines(path):
        match = re.fullmatch(pattern, line.strip())
        if match is None:
            raise ValueError(f"{path}, line {number}: expected a line that matches {pattern!r}, got {line!r}")
        rows[int(match[1])] = match[2]
    return rows
