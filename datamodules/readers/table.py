"""The user's own data as a table: CSV, or Parquet with the ``parquet`` extra."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_reid.datamodules.readers.folders import StrPath, require_files, require_identified
from lightning_reid.records import ImageRecord, ReIDDataset

REQUIRED_COLUMNS = ("path", "pid", "camid", "split")
OPTIONAL_COLUMNS = ("frame", "domain")
SPLITS = ("train", "query", "gallery")

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, for error messages, and its cells by column."""


def read_table(path: StrPath, name: str | None = None, *, needs_train: bool = True, needs_test: bool = True) -> ReIDDataset:
    """Read a table with one row an image; the order of the rows is kept.

    Columns: ``path`` (relative ones start at the table's folder), ``pid`` (from 1; 0 distractor, -1 junk), ``camid``, ``split`` (``train``,
    ``query`` or ``gallery``), optionally ``frame`` and ``domain``; others are left alone.

    Args:
        path: A ``.csv`` file, comma-separated, UTF-8, with a heading; or ``.parquet``, ``.pq``.
        name: Name of the data set, and domain of rows that tell none; the file's name without suffix when ``None``.
        needs_train: Whether there must be training rows.
        needs_test: Whether there must be query and gallery rows.

    Raises:
        FileNotFoundError: The table or a listed image is missing.
        ImportError: Parquet is asked for without pyarrow.
        ValueError: A column is missing, a cell is not what it should be (the line is named), an image is listed twice in one split, a
            needed split is empty, or a query shows nobody.

    Example:
        >>> from PIL import Image
        >>> from lightning_reid.datamodules.readers import read_table
        >>> Image.new("RGB", (32, 64)).save(folder / "a.png")
        >>> with (folder / "crops.csv").open("w") as file:
        ...     print("path,pid,camid,split", file=file)
        ...     print("a.png,7,2,train", file=file)
        >>> (record,) = read_table(folder / "crops.csv", needs_test=False).train
        >>> record.pid, record.camid, record.domain
        (7, 2, 'crops')
    """
    table = Path(path).expanduser()
    if not table.is_file():
        raise FileNotFoundError(f"there is no table {table}; expected a CSV or Parquet file with the columns {', '.join(REQUIRED_COLUMNS)}")
    domain = name or table.stem
    rows = table_rows(table)
    splits: dict[str, dict[str, ImageRecord]] = {split: {} for split in SPLITS}
    for where, row in rows:
        split, record = image_record(where, row, table.parent, domain)
        if record.path in splits[split]:
            raise ValueError(f"{where}: {record.path} is listed a second time for split {split!r}")
        splits[split][record.path] = record
    for split, needed in (("train", needs_train), ("query", needs_test), ("gallery", needs_test)):
        if needed and not splits[split]:
            raise ValueError(f"{table} has no row of split {split!r}")
    require_files((path for records in splits.values() for path in records), str(table))
    train, query, gallery = (tuple(splits[split].values()) for split in SPLITS)
    require_identified(query)
    return ReIDDataset(domain, train, query, gallery)


def image_record(where: str, row: Mapping[str, Any], folder: Path, domain: str) -> tuple[str, ImageRecord]:
    """Split and record of a row; relative paths start at ``folder``, a row without domain has ``domain``.

    Raises:
        ValueError: A cell is not what it should be; the message begins with ``where``.
    """
    image, split = row["path"], row["split"]
    if not image:
        raise ValueError(f"{where}: the column 'path' is empty")
    if split not in SPLITS:
        raise ValueError(f"{where}: the column 'split' must be one of {', '.join(SPLITS)}, got {split!r}")
    pid, camid = (_integer(where, row, column) for column in ("pid", "camid"))
    frame = -1 if row.get("frame") in (None, "") else _integer(where, row, "frame")
    return split, ImageRecord(os.path.join(folder, image), pid, camid, row.get("domain") or domain, frame)  # noqa: PTH118


def _integer(where: str, row: Mapping[str, Any], column: str) -> int:
    try:
        number = float(row[column])
        if number == int(number):  # Parquet keeps integers with gaps as floats
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass  # the same message as for a fraction
    raise ValueError(f"{where}: the column {column!r} must be a whole number, got {row[column]!r}")


def table_rows(table: Path, *more_columns: str) -> Iterator[Row]:
    """The rows of a CSV or Parquet file, each with where it stands, for error messages.

    Args:
        table: A ``.parquet`` or ``.pq`` file, or CSV.
        more_columns: Columns to read of Parquet besides those of ``read_table``.

    Raises:
        ImportError: Parquet without pyarrow.
        ValueError: A required column is missing.
    """
    return _parquet_rows(table, more_columns) if table.suffix.lower() in (".parquet", ".pq") else _csv_rows(table)


def _csv_rows(table: Path) -> Iterator[Row]:
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, skipinitialspace=True)
        _require_columns(table, reader.fieldnames or ())
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            if None in row or None in (row[column] for column in REQUIRED_COLUMNS):
                raise ValueError(
                    f"{where}: expected {len(reader.fieldnames or ())} cells as in the heading; is a comma missing or unquoted?"
                )
            yield where, row


def _parquet_rows(table: Path, more_columns: tuple[str, ...]) -> Iterator[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"{table} needs pyarrow: pip install 'lightning-reid[parquet]', or write the table as CSV") from error
    file = parquet.ParquetFile(table)
    names = file.schema_arrow.names
    _require_columns(table, names)
    columns = [name for name in names if name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *more_columns)]
    number = 0
    for batch in file.iter_batches(columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield f"{table}, row {number}", row


def _require_columns(table: Path, found: Any) -> None:
    missing = [column for column in REQUIRED_COLUMNS if column not in found]
    if missing:
        raise ValueError(
            f"{table} lacks the columns {', '.join(missing)}; its first line holds {', '.join(map(repr, found)) or 'nothing'}. Expected "
            f"a comma-separated heading with {', '.join(REQUIRED_COLUMNS)} and optionally {', '.join(OPTIONAL_COLUMNS)}"
        )
