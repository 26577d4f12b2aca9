"""MSMT17 (Wei et al. 2018), both editions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root, parse_names, path_below, require_files
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.text import read_lines
from lightning_reid.records import ImageRecord, ReIDDataset

# person, image, camera, date and time of day, frame
MSMT17_NAMING = Naming(
    re.compile(r"(?P<pid>[0-9]+)_[0-9]+_(?P<camid>[0-9]+)_[^_]+_(?P<frame>[0-9]+)_"), "0000_000_01_0303morning_0015_0.jpg", pid_offset=1
)
LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
FOLDERS = {"v1": ("train", "test"), "v2": ("mask_train_v2", "mask_test_v2")}

MSMT17 = OfficialCounts(
    train_images=32_621, train_pids=1_041, query_images=11_659, query_pids=3_060, gallery_images=82_161, gallery_pids=3_060, cameras=15
)


def read_msmt17(root: StrPath, version: Literal["v1", "v2"] = "v1") -> ReIDDataset:
    """Read MSMT17: the images of ``train`` and ``test`` (V2: ``mask_train_v2``, ``mask_test_v2``) that the four lists name.

    Names ``0000/0000_000_01_0303morning_0015_0.jpg``: the third field is the camera, the fifth the frame within its session. Training is
    ``list_train`` (30,248) and ``list_val`` (2,373) together, as is usual. Official: 32,621 images of 1,041 people, 11,659 queries of
    3,060, 82,161 gallery images, 15 cameras. The set counts people from 0, in train and in test anew: pid here is that number plus one, and
    pid 7 of train is not pid 7 of test.

    Args:
        root: The folder with the lists, or its parent.
        version: ``"v1"``, or ``"v2"`` with faces masked.

    Raises:
        FileNotFoundError: The folder, a part of it, or a listed image is missing.
        ValueError: A list line or a file name does not parse, a list is empty or leads out of the set, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    if version not in FOLDERS:
        raise ValueError(f"version must be 'v1' or 'v2', got {version!r}")
    name = f"msmt17-{version}"
    top = find_root(root, Layout(name, (*FOLDERS[version], *LISTS), (f"msmt17_{version}", "msmt17")))
    train_folder, test_folder = (top / folder for folder in FOLDERS[version])
    train, val, query, gallery = (
        _read_list(top / lines, folder, name) for lines, folder in zip(LISTS, (train_folder, train_folder, test_folder, test_folder))
    )
    require_files((record.path for split in (train, val, query, gallery) for record in split), f"the lists of {top}")
    notes = ("train holds list_train and list_val", "pid = number in the set + 1")
    return warn_unless_official(ReIDDataset(name, train + val, query, gallery, notes), MSMT17)


def _read_list(path: Path, folder: Path, domain: str) -> tuple[ImageRecord, ...]:
    images, pids = [], []
    for number, line in read_lines(path):
        image, _, pid = line.strip().rpartition(" ")
        if not image or not re.fullmatch("[0-9]{1,9}", pid):
            raise ValueError(f"{path}, line {number}: expected '0000/{MSMT17_NAMING.example} 0' (image, identity), got {line!r}")
        images.append(path_below(folder, image, f"{path}, line {number}"))
        pids.append(int(pid) + MSMT17_NAMING.pid_offset)
    if not images:
        raise ValueError(f"{path} names no image; was the archive extracted to its end?")
    matches = parse_names(folder, [image.rpartition("/")[2] for image in images], MSMT17_NAMING)
    return tuple(
        ImageRecord(image, pid, int(match["camid"]), domain, int(match["frame"])) for image, pid, match in zip(images, pids, matches)
    )
