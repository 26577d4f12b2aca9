"""Market-1501 and the sets in its folders and file names: DukeMTMC-reID, CUHK03-NP, VeRi-776 and the user's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from lightning_reid.datamodules.readers.folders import (
    Layout,
    Naming,
    StrPath,
    find_root,
    read_folder,
    require_identified,
    unlabeled_notes,
)
from lightning_reid.datamodules.readers.image_files import image_files
from lightning_reid.datamodules.readers.official_counts import OfficialCounts, warn_unless_official
from lightning_reid.records import ImageRecord, ReIDDataset

_MOST = 0.9
"""Share of a folder's images that must bear names of Market-1501 for it to be taken for a part in that naming."""
MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
# person, camera, then as far as the set has them: sequence, frame (Duke writes f before it), box
MARKET_NAMING = Naming(
    re.compile(r"(?P<pid>-1|[0-9]+)_c(?P<camid>[0-9]+)(?:s[0-9]+)?(?:_f?(?P<frame>[0-9]+))?(?=[_.])"), "0002_c1s1_000451_03.jpg"
)

_REMEDY = "was the archive extracted to its end? Folders of other names become a table by lightning-reid convert"

MARKET1501 = OfficialCounts(
    train_images=12_936, train_pids=751, query_images=3_368, query_pids=750, gallery_images=19_732, gallery_pids=750, cameras=6
)
DUKE = OfficialCounts(
    train_images=16_522, train_pids=702, query_images=2_228, query_pids=702, gallery_images=17_661, gallery_pids=1_110, cameras=8
)
CUHK03_NP = {
    "detected": OfficialCounts(
        train_images=7_365, train_pids=767, query_images=1_400, query_pids=700, gallery_images=5_332, gallery_pids=700, cameras=2
    ),
    "labeled": OfficialCounts(
        train_images=7_368, train_pids=767, query_images=1_400, query_pids=700, gallery_images=5_328, gallery_pids=700, cameras=2
    ),
}
VERI776 = OfficialCounts(
    train_images=(37_778, 37_746), train_pids=576, query_images=1_678, query_pids=200, gallery_images=11_579, gallery_pids=200, cameras=20
)


def read_market1501(root: StrPath) -> ReIDDataset:
    """Read Market-1501 (Zheng et al. 2015): ``bounding_box_train``, ``query``, ``bounding_box_test``.

    Names ``0002_c1s1_000451_03.jpg`` = person, camera, sequence, frame, box. The gallery keeps its ``0000`` distractors (pid 0) and ``-1``
    junk (pid -1). Official: 12,936 images of 751 people, 3,368 queries of 750, 19,732 gallery files
    (13,115 + 2,798 distractors + 3,819 junk), 6 cameras.

    Args:
        root: The data set's folder, or the parent of ``Market-1501-v15.09.15``.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing or empty.
        ValueError: A file name does not parse, or ``root`` is ambiguous.

    Warns:
        DatasetCountWarning: The figures differ from the official ones.
    """
    layout = Layout("market1501", MARKET_FOLDERS, ("market-1501-v15.09.15", "market-1501", "market1501"))
    return warn_unless_official(_read_three_folders(find_root(root, layout), "market1501", MARKET_FOLDERS), MARKET1501)


def read_duke(root: StrPath) -> ReIDDataset:
    """Read DukeMTMC-reID (Zheng et al. 2017), which its authors have withdrawn: only for those who hold a copy lawfully.

    Market folders, names ``0001_c2_f0046182.jpg`` = person, camera, frame. Official: 16,522 images of 702 people, 2,228 queries of 702,
    17,661 gallery images of 1,110 (408 of them never queried), 8 cameras. Arguments and errors as ``read_market1501``.
    """
    layout = Layout("dukemtmc-reid", MARKET_FOLDERS, ("dukemtmc-reid", "dukemtmcreid", "duke"))
    return warn_unless_official(_read_three_folders(find_root(root, layout), "dukemtmc-reid", MARKET_FOLDERS), DUKE)


def read_cuhk03_np(root: StrPath, boxes: Literal["detected", "labeled"] = "detected") -> ReIDDataset:
    """Read CUHK03 under its new protocol (Zhong et al. 2017): Market folders within ``detected`` or ``labeled``.

    Official: 7,365 (labeled 7,368) images of 767 people, 1,400 queries of 700, 5,332 (5,328) gallery images, 2 cameras. Errors as
    ``read_market1501``.

    Args:
        root: The folder that holds ``detected`` and ``labeled``, or its parent, ``cuhk03-np``.
        boxes: Crops of a detector, or hand-drawn.
    """
    if boxes not in CUHK03_NP:
        raise ValueError(f"boxes must be 'detected' or 'labeled', got {boxes!r}")
    name = f"cuhk03-np-{boxes}"
    folders = tuple(f"{boxes}/{folder}" for folder in MARKET_FOLDERS)
    top = find_root(root, Layout(name, folders, ("cuhk03-np", "cuhk03_np", "cuhk03")))
    return warn_unless_official(_read_three_folders(top, name, folders), CUHK03_NP[boxes])


def read_veri776(root: StrPath) -> ReIDDataset:
    """Read VeRi-776, vehicles (Liu et al. 2016): ``image_train``, ``image_query``, ``image_test``.

    Names ``0001_c001_00016450_0.jpg`` = vehicle, camera, frame. Official: 37,778 (some publications: 37,746) images of 576 vehicles, 1,678
    queries of 200, 11,579 gallery images, 20 cameras. Arguments and errors as ``read_market1501``.
    """
    folders = ("image_train", "image_query", "image_test")
    top = find_root(root, Layout("veri776", folders, ("veri", "veri776", "veri-776", "veri_776")))
    return warn_unless_official(_read_three_folders(top, "veri776", folders), VERI776)


def read_market_folder(root: StrPath, name: str | None = None, *, needs_train: bool = True, needs_test: bool = True) -> ReIDDataset:
    """Read the user's own folder in the Market naming; also crops of any tracker that are named so.

    Names ``<person>_c<camera>[s<sequence>][_[f]<frame>][_<anything>].<suffix>``: ``7_c2_120.png`` will do. Number people from 1: 0 is a
    distractor, -1 junk. A training image named 0 or -1 is read, as unlabeled, and counted in the notes.

    Args:
        root: Folder with ``bounding_box_train``, ``query`` and ``bounding_box_test``.
        name: Domain of the records; the folder's own name when ``None``.
        needs_train: Whether ``bounding_box_train`` must hold images; otherwise it may be missing or empty.
        needs_test: The same of ``query`` and ``bounding_box_test``.

    Raises:
        FileNotFoundError: The folder, or a needed part of it, is missing or empty.
        ValueError: A file name does not parse, or a query shows nobody (pid 0 or -1).

    Example:
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> dataset = read_market_folder(market, name="shop")  # market: a folder in the Market naming
        >>> dataset.train[0].pid, dataset.train[0].camid, dataset.train[0].domain
        (1, 1, 'shop')
        >>> {part: len({record.pid for record in records if record.pid > 0}) for part, records in dataset.splits()}
        {'train': 10, 'query': 6, 'gallery': 6}
    """
    needed = {"bounding_box_train": needs_train, "query": needs_test, "bounding_box_test": needs_test}
    there = tuple(folder for folder in MARKET_FOLDERS if (Path(root).expanduser() / folder).is_dir())
    entries = tuple(folder for folder, need in needed.items() if need) or there[:1] or MARKET_FOLDERS[:1]
    top = find_root(root, Layout(name or "market folder", entries, remedy=_REMEDY))
    domain = name or top.resolve().name
    return _read_three_folders(top, domain, MARKET_FOLDERS, optional=frozenset(folder for folder, need in needed.items() if not need))


def is_market_part(folder: StrPath) -> bool:
    """Whether a folder is ``bounding_box_train``, ``query`` or ``bounding_box_test`` by its name and by those of nearly all its images."""
    path = Path(folder)
    if path.resolve().name not in MARKET_FOLDERS:
        return False
    names = [name.rpartition("/")[2] for name in image_files(path)]
    return bool(names) and sum(MARKET_NAMING.pattern.match(name) is not None for name in names) >= _MOST * len(names)


def read_market_part(folder: StrPath) -> ReIDDataset:
    """Read one of the three folders of the Market naming alone, as ``is_market_part`` finds it.

    Raises:
        FileNotFoundError: The folder holds no image.
        ValueError: A file name does not parse, or a query shows nobody (pid 0 or -1).
    """
    path = Path(folder).resolve()
    there = _read_split(Path(folder), path.parent.name, may_lack=False)
    train, query, gallery = (there if path.name == name else () for name in MARKET_FOLDERS)
    require_identified(query)
    return ReIDDataset(path.parent.name, train, query, gallery, unlabeled_notes(train))


def _read_three_folders(top: Path, name: str, folders: tuple[str, ...], optional: frozenset[str] = frozenset()) -> ReIDDataset:
    train, query, gallery = (_read_split(top / folder, name, may_lack=folder in optional) for folder in folders)
    require_identified(query)
    return ReIDDataset(name, train, query, gallery, unlabeled_notes(train))


def _read_split(folder: Path, name: str, *, may_lack: bool) -> tuple[ImageRecord, ...]:
    if may_lack and not folder.exists():
        return ()
    return read_folder(folder, MARKET_NAMING, name, allow_empty=may_lack)
