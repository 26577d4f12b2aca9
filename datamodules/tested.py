"""The test part of any data set, of images or of tracklets, for whoever scores networks and trains nothing."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.datamodules.blocks.data import PackedData
from lightning_reid.datamodules.catalog import (
    GENERATED_VIDEO,
    prepare_dataset,
    prepare_video_dataset,
    read_prepared,
    read_prepared_video,
)
from lightning_reid.datamodules.readers.by_name import VIDEO_FOLDERS
from lightning_reid.datamodules.readers.market_naming import MARKET_FOLDERS
from lightning_reid.datamodules.readers.mars import FOLDERS as FOLDERS_OF_MARS
from lightning_reid.datamodules.readers.table import table_rows
from lightning_reid.records import ReIDDataset, TrackletDataset


def read_test_part(
    dataset: str, root: str | None = None, *, split: int = 0, tracklets: bool | None = None, allow_paths_outside: bool = False
) -> ReIDDataset | TrackletDataset:
    """Read a data set that is to be tested on; a generated one is made where it is not there yet.

    Args:
        dataset: As ``ImageReIDDataModule`` or ``VideoReIDDataModule`` takes it.
        root: Folder of the named data sets; ``None`` is ``./data``.
        split: Of the sets that have several; 0 for others.
        tracklets: Whether to read images or tracklets, for what holds both; ``None`` is tracklets where there are no images.
        allow_paths_outside: Whether a table may list files that do not lie below its folder.

    Raises:
        FileNotFoundError: It, or a part of it, is missing.
        ValueError: It is none, or has no queries and gallery; see the readers.
    """
    read: ReIDDataset | TrackletDataset
    if holds_only_tracklets(dataset) if tracklets is None else tracklets:
        prepare_video_dataset(dataset, root)
        read = read_prepared_video(dataset, root, split=split, needs_train=False, allow_paths_outside=allow_paths_outside)
    else:
        prepare_dataset(dataset, root)
        read = read_prepared(dataset, root, split=split, needs_train=False, allow_paths_outside=allow_paths_outside)
    if not read.query or not read.gallery:
        raise ValueError(f"{dataset} has {len(read.query)} queries and {len(read.gallery)} in its gallery: there is nothing to be scored")
    return read


def holds_only_tracklets(dataset: str) -> bool:
    """Whether a data set is of tracklets and not of images: by its name, its folders or the columns of its table."""
    if dataset in VIDEO_FOLDERS or dataset in GENERATED_VIDEO:
        return True
    if PackedData.is_named(dataset):
        return PackedData(dataset).index.kind == "tracklets"
    path = Path(dataset)
    if path.is_file():
        return "tracklet" in next((row for _, row in table_rows(path, "tracklet")), {})
    return all((path / name).is_dir() for name in FOLDERS_OF_MARS) and not (path / MARKET_FOLDERS[-1]).is_dir()
