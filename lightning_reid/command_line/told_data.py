"""Data that a run's folder says it was scored on: the folder may be a stranger's, and what it names is not asked or quoted on its word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning_reid.datamodules.readers.corrections import read_corrections
from lightning_reid.datamodules.readers.table import IMAGES_TABLE, table_rows
from lightning_reid.recipes.workshop.tested_part import TestedPart
from lightning_reid.regular_files import require_regular

MOST_TABLE_BYTES = 2**30
"""Of a table that a run names."""


def require_readable_as_told(tested: TestedPart, file: Path, *, named: str | None) -> None:
    """Check what a run says that it was scored on, before it is read.

    An address is taken only where the user has named it. A file is taken only where it is a table, and its content stands in no message:
    it could be any file of the machine.

    Args:
        tested: What is told.
        file: That tells it.
        named: What the user has named by ``--data``.

    Raises:
        ValueError: An address is told that was not named, or a file that is none of the kind; the message names it.
    """
    corrections = None if tested.clips is None else tested.clips["corrections"]
    for told in (tested.dataset, tested.root, corrections):
        if isinstance(told, str) and "://" in told and told != named:
            raise ValueError(
                f"{file} tells the address {told}. An address that a run tells is asked only where you name it: where you trust it, give"
                f" --data {told}"
            )
    for table in (Path(tested.dataset), Path(tested.dataset) / IMAGES_TABLE):
        if "://" not in tested.dataset and table.exists() and not table.is_dir():
            _require_read(table, lambda table: next(table_rows(table), None), f"no table of images, as {file} says it is")
    if corrections is not None:
        _require_read(Path(str(corrections)), read_corrections, f"no file of corrections, as {file} says it is")


def _require_read(table: Path, read: Callable[[Path], object], told: str) -> None:
    try:
        held = table.stat()
        require_regular(table, held.st_mode)
        if held.st_size > MOST_TABLE_BYTES:
            raise ValueError(f"{held.st_size:,} bytes")
        read(table)
    except (OSError, ValueError):  # whose messages quote lines of the file
        raise ValueError(f"{table} is {told}, or cannot be read: give --data") from None
