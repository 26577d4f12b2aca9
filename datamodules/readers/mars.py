"""MARS (Zheng et al. 2016), and the user's own or generated tracklets in its layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lightning_reid.datamodules.readers.folders import Layout, StrPath, find_root, require_files, require_identified, unlabeled_notes
from lightning_reid.datamodules.readers.matlab_variable import read_integers
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.text import read_text
from lightning_reid.datamodules.readers.tracklet_gallery import gallery_note
from lightning_reid.records import TrackletDataset, TrackletRecord

# The paper's 636 test identities count distractors and junk as two: the info files name 634 people, 8 of whom are never queried.
MARS = OfficialCounts(
    train_tracklets=8_298,
    train_images=509_914,
    train_pids=625,
    query_tracklets=1_980,
    query_pids=626,
    gallery_tracklets=12_180,
    gallery_images=681_089,
    gallery_pids=(634, 636),
    cameras=6,
)

FOLDERS = ("bbox_train", "bbox_test")
INFO = ("train_name.txt", "test_name.txt", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat")
# person (four characters, 00-1 is junk), camera, tracklet of that person and camera, frame of the tracklet
NAME = re.compile(r"(?P<pid>[0-9]{4}|00-1)C(?P<camid>[0-9])T[0-9]+F[0-9]+\.\w+")


def read_mars(root: StrPath) -> TrackletDataset:
    """Read MARS: ``bbox_train/0001/0001C1T0001F001.jpg``, ``bbox_test``, and the lists of its evaluation code in ``info``.

    ``info/train_name.txt`` and ``test_name.txt`` name the frames; ``tracks_train_info.mat`` (``track_train_info``) and
    ``tracks_test_info.mat`` (``track_test_info``) have a row ``first, last, pid, camera`` for each tracklet, frames counted from 1, both
    ends included; ``query_IDX.mat`` (``query_IDX``) counts the queries among the rows of the test tracklets, from 1. The gallery is all
    test tracklets, queries included, as the protocol ``mars`` has it; ``0000`` distractors (pid 0) and ``00-1`` junk (pid -1) stay. Names
    count frames within the tracklet and tell no time: ``frame`` is -1.

    Official: 8,298 tracklets (509,914 images) of 625 people; 12,180 test tracklets (681,089 images) of 636 identities, distractors and junk
    counted as two; 1,980 queries; 6 cameras.

    Args:
        root: The folder that holds ``bbox_train``, ``bbox_test`` and ``info``, or its parent, ``MARS``.

    Raises:
        FileNotFoundError: The folder, a part of it, a file of ``info`` or a named image is missing.
        ValueError: A file of ``info`` is not as described: a row reaches past the list of names or holds no frame, its person or camera is
            not that of its images, a query is none of the test tracklets, comes twice or shows nobody; or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    return warn_unless_official(_read(find_root(root, Layout("mars", FOLDERS, ("mars",))), "mars"), MARS)


def read_mars_folder(root: StrPath, name: str | None = None, *, needs_test: bool = True) -> TrackletDataset:
    """Read the user's own, or generated, tracklets in the layout of MARS; nothing is compared with official figures.

    Tracklets of somebody whom nobody knows are named ``00-1`` (pid -1) in the training part too, and counted in the notes.

    Args:
        root: Folder with ``bbox_train``, ``bbox_test`` and ``info`` as ``read_mars`` describes them.
        name: Domain of the records; the folder's own name when ``None``.
        needs_test: Whether there must be test tracklets; otherwise their lists may be empty.

    Raises:
        FileNotFoundError: As ``read_mars``.
        ValueError: As ``read_mars``.

    Example:
        >>> from lightning_reid.datamodules.readers import read_mars_folder
        >>> record = read_mars_folder(mars, name="shop").train[0]  # mars: a folder in the layout of MARS
        >>> record.pid, record.domain, len(record.paths) > 1
        (1, 'shop', True)
    """
    top = find_root(root, Layout(name or "mars folder", FOLDERS))
    return _read(top, name or top.resolve().name, needs_test=needs_test)


def _read(top: Path, name: str, *, needs_test: bool = True) -> TrackletDataset:
    missing = [entry for entry in INFO if not (top / "info" / entry).exists()]
    if missing:
        raise FileNotFoundError(
            f"{name}: {top / 'info'} lacks {', '.join(missing)}; the lists come apart from the images, as folder info of the "
            f"MARS-evaluation code: put it beside {FOLDERS[0]}"
        )
    train, test = (
        tuple(_read_tracklets(top, folder, split, name, may_be_empty=split == "test" and not needs_test))
        for folder, split in zip(FOLDERS, ("train", "test"))
    )
    query = tuple(test[row] for row in _query_rows(top / "info" / "query_IDX.mat", len(test)))
    require_identified(query)
    notes = ((gallery_note(query, test),) if test else ()) + unlabeled_notes(train)
    return TrackletDataset(name, train, query, gallery=test, notes=notes)


def _read_tracklets(top: Path, folder: str, split: str, domain: str, *, may_be_empty: bool) -> Iterator[TrackletRecord]:
    names, tracks, variable = f"{split}_name.txt", f"tracks_{split}_info.mat", f"track_{split}_info"
    images = read_text(top / "info" / names).split()
    strange = next((image for image in images if "/" in image), None)
    if strange is not None:
        raise ValueError(
            f"{top / 'info' / names} names {strange}, which leads into another folder; expected names like 0001C1T0001F001.jpg"
        )
    rows = _track_rows(top / "info" / tracks, variable, len(images), names, may_be_empty=may_be_empty)
    # joined as text: MARS has 1.2 million frames, too many for Path objects
    paths = [f"{top}/{folder}/{image[:4]}/{image}" for image in images]
    require_files(paths, f"{top / 'info' / names}")
    for number, (first, last, pid, camid) in enumerate(rows.tolist(), start=1):
        for image in images[first - 1 : last]:  # one in the middle may be another person's, or a path that leads out of the folder
            match = NAME.fullmatch(image)
            told = None if match is None else (int(match["pid"].lstrip("0") or 0), int(match["camid"]))
            if told != (pid, camid):
                raise ValueError(
                    f"{top / 'info' / tracks}, row {number}: frames {first} to {last} of {names} should show person {pid} in camera "
                    f"{camid}, as 0001C1T0001F001.jpg shows person 1 in camera 1, but one of them is {image}; rows count frames from 1"
                )
        yield TrackletRecord(tuple(paths[first - 1 : last]), pid, camid, domain)


def _track_rows(path: Path, variable: str, num_images: int, names: str, *, may_be_empty: bool) -> npt.NDArray[np.int64]:
    """``[N, 4]`` checked rows ``first, last, pid, camera``."""
    rows = read_integers(path, variable)
    if rows.ndim != 2 or rows.shape[1] != 4 or not (len(rows) or may_be_empty):
        raise ValueError(f"{path}: {variable} must have rows of first frame, last frame, pid and camera, got shape {rows.shape}")
    first, last = rows[:, 0], rows[:, 1]
    for bad, what in (
        (last < first, "an empty tracklet: its last frame comes before its first"),
        (
            (first < 1) | (last > num_images),
            f"frames that {names} does not name: it has {num_images}, counted from 1; are both of one release?",
        ),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{path}, row {row + 1}: frames {first[row]} to {last[row]} are {what} ({bad.sum() - 1} more such rows)")
    return rows


def _query_rows(path: Path, num_tracklets: int) -> list[int]:
    """Rows of the test tracklets, from 0."""
    queries = read_integers(path, "query_IDX").ravel()
    outside = queries[(queries < 1) | (queries > num_tracklets)]
    if len(outside):
        raise ValueError(
            f"{path}: query {outside[0]} is none of the {num_tracklets} test tracklets, counted from 1, nor are {len(outside) - 1} more"
        )
    if len(set(queries.tolist())) < len(queries):
        twice = next(query for query in queries.tolist() if (queries == query).sum() > 1)
        raise ValueError(f"{path}: test tracklet {twice} is listed as a query more than once")
    return [query - 1 for query in queries.tolist()]
