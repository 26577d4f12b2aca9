"""The user's own data as a table: CSV, or Parquet with the ``parquet`` extra."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_reid.datamodules.readers.folders import StrPath, path_below, require_files, require_identified, unlabeled_notes
from lightning_reid.datamodules.readers.ids import id_text, number_ids, whole_number
from lightning_reid.datamodules.readers.text import heading_of, read_cells
from lightning_reid.datamodules.readers.unlabeled import NO_CAMERA, WAY_ON, with_labels_unknown
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, IdNames, ImageRecord, Record, ReIDDataset
from lightning_reid.regular_files import require_regular

logger = logging.getLogger(__name__)

REQUIRED_COLUMNS = ("path", "pid", "camid", "split")
OPTIONAL_COLUMNS = ("frame", "domain")
_IF_MEANT = "; if they are meant to lie elsewhere, say allow_paths_outside=True"
SPLITS = ("train", "query", "gallery", "val")
IMAGES_TABLE = "images.csv"
"""A table that stands for the folder it lies in."""

MOST_CELLS = 20_000_000
"""Of a Parquet table, in the columns that are read: MARS has 6 million; equal cells take no room in the file, and as objects gigabytes."""
MOST_BYTES = 2**30
"""That those columns unfold to."""

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, for error messages, and its cells by column."""


def read_table(
    path: StrPath,
    name: str | None = None,
    *,
    needs_train: bool = True,
    needs_test: bool = True,
    allow_paths_outside: bool = False,
    unlabeled: bool = False,
) -> ReIDDataset:
    """Read a table with one row an image; the order of the rows is kept.

    Columns: ``path`` (relative ones start at the table's folder), ``pid``, ``camid``, ``split`` (``train``, ``query``, ``gallery``, or
    ``val`` of people to validate on, who are in no other split), optionally ``frame`` and ``domain``; others are left alone. A column of
    ids of which every cell is a whole number is read as numbers (``pid`` from 1; 0 is a distractor, -1 junk; ``camid`` from 0); any other
    is text, ``person_1`` say, and numbered from 1 in alphabetical order, which a note of the data set tells.

    Args:
        path: A CSV file in UTF-8 with a heading, its cells between commas, semicolons or tabs; or ``.parquet``, ``.pq``.
        name: Name of the data set, and domain of rows that tell none; the file's name without suffix when ``None``.
        needs_train: Whether there must be training rows.
        needs_test: Whether there must be query and gallery rows.
        allow_paths_outside: Whether paths may lead out of the table's folder, absolute ones or by ``..``.
        unlabeled: Whether only ``path`` must be told: rows without split are to train on, without ``pid`` of somebody unknown (-1), and
            without ``camid`` all of one camera. Where no training row tells a person there need be no query and gallery rows either.

    Raises:
        FileNotFoundError: The table or a listed image is missing.
        ImportError: Parquet is asked for without pyarrow.
        ValueError: A column is missing, a cell is not what it should be (the line is named), an image leads out of the table's
            folder or is listed twice in one split, a needed split is empty, a query shows nobody, or Parquet holds more than
            ``MOST_CELLS`` or ``MOST_BYTES``.

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
    require_table(table)
    domain = name or table.stem
    splits: dict[str, dict[str, ImageRecord]] = {split: {} for split in SPLITS}
    rows = list(table_rows(table, required=REQUIRED_COLUMNS[:1] if unlabeled else REQUIRED_COLUMNS))
    no_camera = (NO_CAMERA,) if unlabeled and rows and "camid" not in rows[0][1] else ()
    images, notes, names = image_records(table, with_labels_unknown(rows) if unlabeled else rows, domain, outside=allow_paths_outside)
    for where, split, record in images:
        if record.path in splits[split]:
            raise ValueError(f"{where}: {record.path} is listed a second time for split {split!r}: take one of the rows out")
        splits[split][record.path] = record
    unknown = all(record.pid <= 0 for record in splits["train"].values())
    needs_test = needs_test and not (unlabeled and unknown)
    way_on = f". Its {len(splits['train'])} training rows have no labels: {WAY_ON}" if unknown and splits["train"] else ""
    require_splits(table, splits, needs_train=needs_train, needs_test=needs_test, way_on=way_on)
    require_files((path for records in splits.values() for path in records), str(table))
    train, query, gallery, val = (tuple(splits[split].values()) for split in SPLITS)
    require_identified(query)
    require_apart(table, val, train=train, query=query, gallery=gallery)
    return ReIDDataset(domain, train, query, gallery, (*notes, *no_camera, *unlabeled_notes(train)), val, names=names)


def require_splits(table: Path, splits: Mapping[str, Collection[Any]], *, needs_train: bool, needs_test: bool, way_on: str = "") -> None:
    """Check that a table has rows of the splits that are needed.

    Raises:
        ValueError: It has none of one; the message says how to tell it.
    """
    for split, needed in (("train", needs_train), ("query", needs_test), ("gallery", needs_test)):
        if needed and not splits[split]:
            there = ", ".join(one for one in SPLITS if splits[one]) or "none at all"
            raise ValueError(
                f"{table} has no row of split {split!r}, but of {there}: write {split!r} into the column 'split' of some rows{way_on}"
            )


def require_apart(table: Path, val: Sequence[Record], **others: Sequence[Record]) -> None:
    """Check that whoever is to be validated on is somebody, and in no other split.

    Args:
        table: For the message.
        val: Records to validate on.
        others: Splits by their names.

    Raises:
        ValueError: A record shows nobody, or somebody of another split; the message names a file of each.
    """
    nobody = next((record for record in val if record.pid <= 0), None)
    if nobody is not None:
        raise ValueError(f"{table}: {nobody.thumbnail} of split 'val' has pid {nobody.pid}, which is nobody: number people from 1")
    first = {record.pid: record.thumbnail for record in val}
    for split, records in others.items():
        both = next((record for record in records if record.pid in first), None)
        if both is not None:
            raise ValueError(
                f"{table}: one person is in split 'val' ({first[both.pid]}) and in split {split!r} ({both.thumbnail}): people to validate"
                " on are in no other split; take them out of one, or write query and gallery for images to test on"
            )


def require_table(table: Path, *more_columns: str) -> None:
    """Check that there is a file.

    Raises:
        FileNotFoundError: There is none; the message says what columns it should have.
        NoRegularFileError: It is a folder, pipe, socket or device.
    """
    if not table.exists():
        columns = ", ".join((*REQUIRED_COLUMNS, *more_columns))
        raise FileNotFoundError(f"there is no table {table}; expected a CSV or Parquet file with the columns {columns}")
    require_regular(table, table.stat().st_mode)


def image_records(
    table: Path, rows: Sequence[Row], domain: str, *, outside: bool = False
) -> tuple[list[tuple[str, str, ImageRecord]], tuple[str, ...], IdNames]:
    """Where each row stands, its split and its record; and how ids were numbered and what they are called, where they are no numbers.

    Args:
        table: Relative paths start at its folder.
        rows: Of the table.
        domain: Of rows that tell none.
        outside: Whether paths may lead out of that folder.

    Raises:
        ValueError: A cell is not what it should be; the message begins with where it stands.
    """
    pids = number_ids("pid", [(where, row["pid"]) for where, row in rows], reserved=(JUNK_PID, DISTRACTOR_PID))
    camids = number_ids("camid", [(where, row["camid"]) for where, row in rows])
    notes = tuple(note for note in (pids.note, camids.note) if note is not None)
    for note in notes:
        logger.warning("%s: %s", table, note)
    records = []
    for (where, row), pid, camid in zip(rows, pids.ids, camids.ids, strict=True):
        image, split = row["path"], row["split"]
        if not isinstance(image, str) or not image or "\0" in image:
            raise ValueError(f"{where}: the column 'path' must name a file, got {image!r}")
        if split not in SPLITS:
            raise ValueError(f"{where}: the column 'split' must be one of {', '.join(SPLITS)}, got {split!r}")
        frame = -1 if row.get("frame") in (None, "") else whole_number("frame", where, row["frame"])
        if frame < -1:
            raise ValueError(f"{where}: the column 'frame' must be at least 0, or -1 or empty where there is none, got {frame}")
        place = path_below(table.parent, image, where, outside=outside, remedy=_IF_MEANT)
        told = domain if row.get("domain") in (None, "") else id_text("domain", where, row["domain"])
        records.append((where, split, ImageRecord(place, pid, camid, told, frame)))
    return records, notes, IdNames(pids.names, camids.names)


def table_rows(table: Path, *more_columns: str, required: Sequence[str] = REQUIRED_COLUMNS) -> Iterator[Row]:
    """The rows of a CSV or Parquet file, each with where it stands, for error messages.

    Args:
        table: A ``.parquet`` or ``.pq`` file, or CSV.
        more_columns: Columns to read of Parquet besides those of ``read_table``.
        required: Columns that must be there.

    Raises:
        ImportError: Parquet without pyarrow.
        ValueError: A required column is missing.
    """
    return _parquet_rows(table, more_columns, required) if table.suffix.lower() in (".parquet", ".pq") else _csv_rows(table, required)


def _heading(table: Path, names: Sequence[str], required: Sequence[str], more_columns: Sequence[str] = ()) -> list[str]:
    optional = tuple(name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *more_columns) if name not in required)
    return heading_of(table, names, required, optional, {"pid": f"Without it {WAY_ON}"})


def _csv_rows(table: Path, required: Sequence[str]) -> Iterator[Row]:
    rows = read_cells(table, columns=required)
    names = _heading(table, next(rows, (0, []))[1], required)
    for line, cells in rows:
        where = f"{table}, line {line}"
        if len(cells) != len(names):
            raise ValueError(f"{where}: expected {len(names)} cells as in the heading, got {len(cells)}: is one missing or unquoted?")
        yield where, dict(zip(names, cells, strict=True))


def _parquet_rows(table: Path, more_columns: tuple[str, ...], required: Sequence[str]) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError as error:
        raise ImportError(f"{table} needs pyarrow: pip install 'lightning-reid[parquet]', or write the table as CSV") from error
    try:
        file = parquet.ParquetFile(table)
        names = file.schema_arrow.names
    except (ArrowException, OSError) as error:
        raise ValueError(f"{table} is damaged, or no Parquet file ({error}): write it again, or give CSV") from error
    _heading(table, names, required, more_columns)
    columns = [name for name in names if name.strip().lower() in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *more_columns)]
    _require_bounded(table, file.metadata, columns)
    for column in columns:
        kind = file.schema_arrow.field(column).type
        if types.is_temporal(kind.value_type if types.is_dictionary(kind) else kind):
            raise ValueError(f"{table}: the column {column!r} must hold text or whole numbers, got times ({kind}): store them as text")
    try:
        rows = [row for batch in file.iter_batches(columns=columns) for row in batch.to_pylist()]
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise ValueError(f"{table} is damaged, or no Parquet file ({error}): write it again, or give CSV") from error
    for number, row in enumerate(rows, start=1):
        yield f"{table}, row {number}", {name.strip().lower(): value for name, value in row.items()}


def _require_bounded(table: Path, told: Any, columns: Sequence[str]) -> None:
    """Check by the metadata of a Parquet file how much there is to read, before it is read."""
    cells = told.num_rows * len(columns)
    groups = [told.row_group(place) for place in range(told.num_row_groups)]
    parts = [group.column(place) for group in groups for place in range(group.num_columns)]
    size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
    if cells > MOST_CELLS or size > MOST_BYTES:
        raise ValueError(
            f"{table} has {cells:,} cells and {size:,} bytes in the columns {', '.join(columns)}, of which up to {MOST_CELLS:,} cells and"
            f" {MOST_BYTES:,} bytes are read: split it, or give CSV"
        )
