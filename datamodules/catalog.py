"""From what a user calls a data set to its records: a name, a generated preset, a folder or a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from lightning_reid.datamodules.blocks.data import PackedData
from lightning_reid.datamodules.generated import GeneratedPedestrians, GeneratedTracklets
from lightning_reid.datamodules.generated.people_data import NAME, PeopleData, PeopleTracklets
from lightning_reid.datamodules.readers import (
    read_dataset,
    read_market_folder,
    read_mars_folder,
    read_table,
    read_tracklet_table,
    read_video_dataset,
)
from lightning_reid.datamodules.readers.by_name import FOLDERS, VIDEO_FOLDERS, DatasetName, VideoDatasetName
from lightning_reid.datamodules.readers.market_naming import MARKET_FOLDERS
from lightning_reid.datamodules.readers.mars import FOLDERS as FOLDERS_OF_MARS
from lightning_reid.datamodules.readers.table import IMAGES_TABLE
from lightning_reid.datamodules.readers.unlabeled import read_unlabeled_folder
from lightning_reid.records import ReIDDataset, Splits, TrackletDataset

GENERATED = {
    "duke-like": GeneratedPedestrians("duke-like"),
    "market-like": GeneratedPedestrians("market-like", num_train_pids=300, num_test_pids=120, images_per_camera=8, num_distractors=150),
    "duke-like-small": GeneratedPedestrians("duke-like", seed=1, num_train_pids=40, num_test_pids=40, num_distractors=30),
    "market-like-small": GeneratedPedestrians("market-like", seed=1, num_train_pids=40, num_test_pids=40, num_distractors=30),
}
"""Generated data sets, made on first use.

The first is small, as labeled data are; the second has Market-1501's 17 images an identity, which neighbor lists of 20 images and
mining 10 images of other cameras take for granted. The small ones show other people at other places, for federations: their clients
share one machine.
"""

GENERATED_VIDEO = ("mars-like", "dukev-like")
"""Generated sets of tracklets, made on first use with the preset's default sizes."""

SETS_WITH_SPLITS = ("ilids-vid", "prid2011-video")
"""Video sets whose score is the mean over ten splits."""

IMAGE_SETS_WITH_SPLITS = ("cuhk01", "viper", "prid2011", "grid", "ilids", "3dpes")
"""Image sets of which that is usual too."""


def data_folder(
    dataset: str, root: str | None, folders: Mapping[str, str] = FOLDERS, generated: Collection[str] = tuple(GENERATED)
) -> Path:
    """Where a data set lies: ``root`` (default ``data``) plus the official folder name, or the path the user gave.

    Args:
        dataset: Name, preset or path.
        root: Data root of named sets.
        folders: Folders of the official sets, by name.
        generated: Names of the presets.

    Raises:
        ValueError: ``dataset`` is neither a known name nor an existing path, or a preset with options.
    """
    base = Path(root or "data")
    if dataset in folders:
        return base / folders[dataset]
    if dataset in generated:
        return base / "generated" / dataset
    if Path(dataset).exists():
        return Path(dataset)
    preset, comma, _ = dataset.partition(",")
    if preset == NAME:
        raise ValueError(f"{dataset} lies in no folder: its people are drawn when they are asked for")
    if comma and preset in generated:
        raise ValueError(f"{dataset!r}: {preset} is frozen, comparisons rest on it; what can be chosen is {NAME},people=500 and the like")
    known = ", ".join((*folders, *generated, NAME))
    raise ValueError(f"{dataset!r} is neither an existing folder or table nor a known data set ({known})")


def prepare_dataset(dataset: str, root: str | None) -> None:
    """Generate a preset that is not there yet; anything else must be there already. Call it in one process."""
    if PeopleData.named(dataset) is not None or PackedData.is_named(dataset):  # drawn when they are asked for, or packed
        return
    folder = data_folder(dataset, root)
    if dataset in GENERATED:
        GENERATED[dataset].write(folder)


def read_prepared(
    dataset: str,
    root: str | None,
    *,
    split: int = 0,
    needs_train: bool = True,
    needs_test: bool = True,
    allow_paths_outside: bool = False,
    unlabeled: bool = False,
    storage: Mapping[str, Any] | None = None,
) -> ReIDDataset:
    """Read a data set's records.

    Args:
        dataset: Name, preset, ``"generated-people"`` with options (see ``PeopleData``), folder in the Market naming, CSV/Parquet table, or
            folder of which its ``images.csv`` is the table, as ``lightning-reid crops`` leaves one.
        root: Data root of named sets.
        split: 0 to 9 for the sets that have several; must be 0 for the others.
        needs_train: Whether a user's own folder or table must have training images.
        needs_test: Whether a user's own folder must have queries and a gallery.
        allow_paths_outside: Whether a table may list files that do not lie below its folder.
        unlabeled: Whether nobody need be known: tables as ``read_table`` has it, and folders of images alone.
        storage: Further arguments of ``PackedData``, for sets of blocks.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing; the message names it.
        ValueError: A file name does not parse, the layout is another, or ``split`` is given for a set of one split.
    """
    people = PeopleData.named(dataset)
    if people is not None:
        _require_no_split(dataset, split)
        return people.read()
    if PackedData.is_named(dataset):
        _require_no_split(dataset, split)
        images = PackedData(dataset, **(storage or {})).images()
        _require_parts(dataset, images, needs_train=needs_train, needs_test=needs_test)
        return images
    folder = data_folder(dataset, root)
    if dataset in FOLDERS and dataset in get_args(DatasetName):
        return read_dataset(cast(DatasetName, dataset), folder, split=split)
    _require_no_split(dataset, split)
    if dataset in GENERATED:
        return read_market_folder(folder, dataset)
    table = folder if folder.is_file() else folder / IMAGES_TABLE
    known = any((folder / part).is_dir() for part in MARKET_FOLDERS)  # which may have a list of its images beside them
    if table.is_file() and not known:
        name = None if table == folder else folder.resolve().name
        needs = {"needs_train": needs_train, "needs_test": needs_test}
        return read_table(table, name, **needs, allow_paths_outside=allow_paths_outside, unlabeled=unlabeled)
    if unlabeled and not known and not any((folder / part).is_dir() for part in FOLDERS_OF_MARS):
        return read_unlabeled_folder(folder)
    return read_market_folder(folder, needs_train=needs_train, needs_test=needs_test)


def video_folder(dataset: str, root: str | None) -> Path:
    """Where a video data set lies; arguments, result and errors as ``data_folder``."""
    return data_folder(dataset, root, VIDEO_FOLDERS, GENERATED_VIDEO)


def prepare_video_dataset(dataset: str, root: str | None) -> None:
    """Generate a preset that is not there yet; anything else must be there already. Call it in one process."""
    if PeopleTracklets.named(dataset) is not None or PackedData.is_named(dataset):  # drawn when they are asked for, or packed
        return
    folder = video_folder(dataset, root)
    if dataset in GENERATED_VIDEO:
        GeneratedTracklets(dataset).write(folder)


def read_prepared_video(
    dataset: str,
    root: str | None,
    *,
    split: int = 0,
    needs_train: bool = True,
    needs_test: bool = True,
    allow_paths_outside: bool = False,
    storage: Mapping[str, Any] | None = None,
) -> TrackletDataset:
    """Read a video data set's records.

    Args:
        dataset: Name, preset, ``"generated-people"`` with options (see ``PeopleTracklets``), folder in the layout of MARS, or CSV/Parquet
            table of tracklets.
        root: Data root of named sets.
        split: 0 to 9 for the sets that have several; must be 0 for the others.
        needs_train: Whether a user's own table must have training tracklets.
        needs_test: Whether a user's own folder or table must have queries and a gallery.
        allow_paths_outside: Whether a table may list files that do not lie below its folder.
        storage: Further arguments of ``PackedData``, for sets of blocks.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing; the message names it.
        ValueError: ``split`` is given for a set of one split, or the reader meets what it cannot read.
    """
    people = PeopleTracklets.named(dataset)
    if people is not None:
        _require_no_split(dataset, split)
        return people.read()
    if PackedData.is_named(dataset):
        _require_no_split(dataset, split)
        tracklets = PackedData(dataset, **(storage or {})).tracklets()
        _require_parts(dataset, tracklets, needs_train=needs_train, needs_test=needs_test)
        return tracklets
    folder = video_folder(dataset, root)
    if dataset in VIDEO_FOLDERS:
        return read_video_dataset(cast(VideoDatasetName, dataset), folder, split=split)
    _require_no_split(dataset, split)
    if folder.is_file():
        return read_tracklet_table(folder, needs_train=needs_train, needs_test=needs_test, allow_paths_outside=allow_paths_outside)
    return read_mars_folder(folder, dataset if dataset in GENERATED_VIDEO else None, needs_test=needs_test)


def _require_parts(dataset: str, read: Splits[Any], *, needs_train: bool, needs_test: bool) -> None:
    if needs_train and not read.train:
        raise ValueError(f"{dataset} was packed without a training part")
    if needs_test and not read.has_test:
        raise ValueError(
            f"{dataset} was packed with {len(read.query)} queries and {len(read.gallery)} in its gallery: nothing to be tested on"
        )


def _require_no_split(dataset: str, split: int) -> None:
    if split != 0:
        raise ValueError(f"{dataset} has one split only, got split={split}; leave it at 0")
