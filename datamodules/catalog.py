"""From what a user calls a data set to its records: a name, a generated preset, a folder or a table."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from lightning_reid.datamodules.generated import GeneratedPedestrians
from lightning_reid.datamodules.readers import DatasetName, read_dataset, read_market_folder, read_table
from lightning_reid.records import ReIDDataset

GENERATED = {
    "duke-like": GeneratedPedestrians("duke-like"),
    "market-like": GeneratedPedestrians("market-like", num_train_pids=300, num_test_pids=120, images_per_camera=8, num_distractors=150),
}
"""Generated data sets, made on first use.

The first is small, as labelled data are; the second has Market-1501's 17 images an identity, which neighbour lists of 20 images and
mining 10 images of other cameras take for granted.
"""

FOLDERS = {
    "market1501": "Market-1501",
    "dukemtmc-reid": "DukeMTMC-reID",
    "msmt17-v1": "MSMT17_V1",
    "msmt17-v2": "MSMT17_V2",
    "cuhk03-np-detected": "cuhk03-np",
    "cuhk03-np-labeled": "cuhk03-np",
    "cuhk01": "CUHK01",
    "viper": "VIPeR",
    "prid2011": "prid_2011",
    "grid": "underground_reid",
    "ilids": "QMUL-iLIDS",
    "3dpes": "3DPeS",
    "veri776": "VeRi",
    "cub200": "CUB_200_2011",
}
"""Name of an official data set to its folder under the data root."""


def data_folder(dataset: str, root: str | None) -> Path:
    """Where a data set lies: ``root`` (default ``data``) plus the official folder name, or the path the user gave.

    Raises:
        ValueError: ``dataset`` is neither a known name nor an existing path.
    """
    base = Path(root or "data")
    if dataset in FOLDERS:
        return base / FOLDERS[dataset]
    if dataset in GENERATED:
        return base / "generated" / dataset
    if Path(dataset).exists():
        return Path(dataset)
    known = ", ".join((*FOLDERS, *GENERATED))
    raise ValueError(f"{dataset!r} is neither an existing folder or table nor a known data set ({known})")


def prepare_dataset(dataset: str, root: str | None) -> None:
    """Generate a preset that is not there yet; anything else must be there already. Call it in one process."""
    folder = data_folder(dataset, root)
    if dataset in GENERATED:
        GENERATED[dataset].write(folder)


def read_prepared(dataset: str, root: str | None, *, needs_test: bool = True) -> ReIDDataset:
    """Read a data set's records.

    Args:
        dataset: Name, preset, folder in the Market naming, or CSV/Parquet table.
        root: Data root of named sets.
        needs_test: Whether a user's own folder must have queries and a gallery.

    Raises:
        FileNotFoundError: The folder, or a part of it, is missing; the message names it.
        ValueError: A file name does not parse, or the layout is another.
    """
    folder = data_folder(dataset, root)
    if dataset in FOLDERS and dataset in get_args(DatasetName):
        return read_dataset(cast(DatasetName, dataset), folder)
    if dataset in GENERATED:
        return read_market_folder(folder, dataset)
    if folder.is_file():
        return read_table(folder, needs_test=needs_test)
    return read_market_folder(folder, needs_test=needs_test)
