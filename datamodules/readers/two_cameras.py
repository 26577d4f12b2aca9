"""The small sets of two cameras: CUHK01, VIPeR and PRID-2011 (single shot)."""

from __future__ import annotations

import re

from lightning_reid.datamodules.readers.folders import Layout, Naming, StrPath, find_root, read_folder
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.datamodules.readers.random_splits import random_note, shuffled
from lightning_reid.records import ImageRecord, ReIDDataset

CUHK01_NAMING = Naming(re.compile(r"(?P<pid>[0-9]{4})(?P<image>[0-9]{3})\."), "0001001.png")
VIPER_NAMING = Naming(re.compile(r"(?P<pid>[0-9]+)_(?P<angle>[0-9]+)\."), "000_45.bmp", pid_offset=1)
PRID_NAMING = Naming(re.compile(r"person_(?P<pid>[0-9]+)\."), "person_0001.png")

CUHK01 = OfficialCounts(
    train_images=1_940, train_pids=485, query_images=972, query_pids=486, gallery_images=972, gallery_pids=486, cameras=2
)
VIPER = OfficialCounts(train_images=632, train_pids=316, query_images=316, query_pids=316, gallery_images=316, gallery_pids=316, cameras=2)
PRID2011 = OfficialCounts(
    train_images=200, train_pids=100, query_images=100, query_pids=100, gallery_images=649, gallery_pids=649, cameras=2
)

PRID_IN_BOTH = 200
"""People 1..200 of PRID-2011 are seen in both cameras; above, equal numbers in the two cameras are different people."""


def read_cuhk01(root: StrPath, split: int = 0, seed: int = 0) -> ReIDDataset:
    """Read CUHK01 (Li et al. 2012): ``campus/0001001.png``, person 0001, images 001 and 002 of camera 1, 003 and 004 of camera 2.

    Half of the people (485 of 971) train; of the others camera 1 queries (972) and camera 2 is the gallery (972). 3,884 images in all.

    Args:
        root: The folder that holds ``campus``, or its parent, ``CUHK01``.
        split: Which random split.
        seed: Of the family of splits; see ``random_splits.shuffled``.

    Raises:
        FileNotFoundError: The folder is missing or empty.
        ValueError: A file name does not parse, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    top = find_root(root, Layout("cuhk01", ("campus",), ("cuhk01", "cuhk-01")))
    images = read_folder(top / "campus", CUHK01_NAMING, "cuhk01", camid=lambda match: 1 if int(match["image"]) <= 2 else 2)
    return warn_unless_official(_split_in_halves("cuhk01", images, seed=seed, split=split), CUHK01)


def read_viper(root: StrPath, split: int = 0, seed: int = 0) -> ReIDDataset:
    """Read VIPeR (Gray et al. 2007): ``cam_a/000_45.bmp``, ``cam_b/000_90.bmp`` = person, viewing angle.

    Half of the 632 people (316) train; of the others ``cam_a`` (camera 1) queries and ``cam_b`` (camera 2) is the gallery. The usual score
    is the mean over splits 0 to 9. The set counts people from 0: pid here is that number plus one. Arguments and errors as ``read_cuhk01``.
    """
    top = find_root(root, Layout("viper", ("cam_a", "cam_b"), ("viper", "viper.v1.0")))
    images = read_folder(top / "cam_a", VIPER_NAMING, "viper", camid=1) + read_folder(top / "cam_b", VIPER_NAMING, "viper", camid=2)
    return warn_unless_official(_split_in_halves("viper", images, seed=seed, split=split), VIPER)


def read_prid2011(root: StrPath, split: int = 0, seed: int = 0) -> ReIDDataset:
    """Read the single-shot part of PRID-2011 (Hirzer et al. 2011): ``single_shot/cam_a/person_0001.png`` and ``cam_b``.

    People 1 to 200 are in both cameras: 100 of them train (200 images), the other 100 are queried in camera a; the gallery is the rest of
    camera b, 649 people. People above 200 of camera a are in no split, as usual. Arguments and errors as ``read_cuhk01``.
    """
    top = find_root(root, Layout("prid2011", ("single_shot/cam_a", "single_shot/cam_b"), ("prid_2011", "prid2011")))
    cam_a = read_folder(top / "single_shot" / "cam_a", PRID_NAMING, "prid2011", camid=1)
    cam_b = read_folder(top / "single_shot" / "cam_b", PRID_NAMING, "prid2011", camid=2)
    in_both = [record for record in cam_a if record.pid <= PRID_IN_BOTH]
    strangers = tuple(record for record in cam_b if record.pid > PRID_IN_BOTH)
    halves = _split_in_halves("prid2011", (*in_both, *(record for record in cam_b if record.pid <= PRID_IN_BOTH)), seed=seed, split=split)
    return warn_unless_official(ReIDDataset("prid2011", halves.train, halves.query, halves.gallery + strangers, halves.notes), PRID2011)


def _split_in_halves(name: str, images: tuple[ImageRecord, ...], *, seed: int, split: int) -> ReIDDataset:
    pids = shuffled((record.pid for record in images), seed=seed, split=split)
    if len(pids) < 2:
        raise ValueError(f"{name}: a split in halves needs at least two people, found {len(pids)}")
    train_pids = frozenset(pids[: len(pids) // 2])
    train = tuple(record for record in images if record.pid in train_pids)
    test = [record for record in images if record.pid not in train_pids]
    query, gallery = (tuple(record for record in test if record.camid == camid) for camid in (1, 2))
    return ReIDDataset(name, train, query, gallery, (random_note(seed=seed, split=split),))
