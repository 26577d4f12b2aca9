"""Blocks back to files, with the table that says what they are."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_reid.blocks.index import BlockIndex
from lightning_reid.datamodules.blocks.data import PackedData
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.datamodules.readers.table import IMAGES_TABLE
from lightning_reid.files import folder_written_whole

TRACKLETS_TABLE = "tracklets.csv"
_FILES_AT_A_TIME = 256


def unpack(url: str, folder: Path, storage_options: Mapping[str, Any] | None = None, *, progress: bool = True) -> tuple[BlockIndex, str]:
    """Write every frame as the file that was packed, below ``images``, and a table of all records in the order of their splits.

    Args:
        url: Folder or address of the blocks.
        folder: New; it is there whole or not at all.
        storage_options: See ``BlockStore``.
        progress: Show a bar on standard error.

    Returns:
        The index, and the name of the table: ``images.csv`` or ``tracklets.csv``.

    Raises:
        CorruptBlockError: A frame cannot be had as it was packed.
        OSError: The store does not answer, or the disk is full.
    """
    packed = PackedData(url, storage_options, cache_gb=0)
    index, reader = packed.index, packed.pictures.reader
    table = IMAGES_TABLE if index.kind == "images" else TRACKLETS_TABLE
    with folder_written_whole(folder) as draft:
        (draft / "images").mkdir()
        parts = range(0, index.num_frames, _FILES_AT_A_TIME)
        for first in late_progress(parts, f"unpacking {index.num_frames} frames", total=len(parts), disable=not progress):
            rows = range(first, min(first + _FILES_AT_A_TIME, index.num_frames))
            for member, content in zip(index.members(rows), reader.frames(rows), strict=True):
                (draft / "images" / member).write_bytes(content)
        with (draft / table).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ("path", "pid", "camid", "split", "frame") if index.kind == "images" else ("path", "pid", "camid", "split", "tracklet")
            )
            for split, rows_of_split in index.splits.items():
                for row in rows_of_split.tolist():
                    writer.writerows(_image(index, row, split) if index.kind == "images" else _tracklet(index, row, split))
    return index, table


def _image(index: BlockIndex, row: int, split: str) -> list[tuple[Any, ...]]:
    tracklet, member, frame = index.tracklets_of([row])[0], index.members([row])[0], int(index.frames["frame"][row])
    return [(f"images/{member}", *_who(index, tracklet), split, "" if frame == -1 else frame)]


def _tracklet(index: BlockIndex, row: int, split: str) -> list[tuple[Any, ...]]:
    first, count = int(index.tracklets["first"][row]), int(index.tracklets["count"][row])
    return [(f"images/{member}", *_who(index, row), split, row) for member in index.members(range(first, first + count))]


def _who(index: BlockIndex, tracklet: int) -> tuple[int, int]:
    return int(index.tracklets["pid"][tracklet]), int(index.tracklets["camid"][tracklet])
