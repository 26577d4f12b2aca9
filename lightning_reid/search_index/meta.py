"""What an index says of itself in its database, and whether that can be: a stranger may have written it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from lightning_reid.search_index.damage import damaged

_LARGEST_TIME = 1e300
_ENDS = [("min", "path"), ("max", "path"), ("min", "person"), ("max", "person"), ("min", "camera"), ("max", "camera")]


class Meta(NamedTuple):
    """What an index is.

    Attributes:
        model: Name of the network that made the embeddings, its image size included.
        dimension: Numbers of an embedding.
        places: Rows of the file of embeddings, holes included.
        rows: That can be found.
        generation: Of the file of embeddings: compaction writes the next.
        fast_number: Of the file for approximate search.
        fast_places: The first so many places are in it; 0 where there is none.
        fast_bytes: Of that file.
    """

    model: str
    dimension: int
    places: int
    rows: int
    generation: int
    fast_number: int
    fast_places: int
    fast_bytes: int


def read_meta(connection: sqlite3.Connection) -> Meta:
    """What the index is at this moment."""
    return Meta(*connection.execute("SELECT * FROM meta").fetchone())


def require_consistent(connection: sqlite3.Connection, file: Path) -> None:
    """Check that an index describes itself by values that can be, and that rows and holes are as many as it says, at places it has.

    Names are looked at through their indexes: SQLite sorts by types, so that the first and the last tell those of all.

    Raises:
        SearchIndexError: The message names the file, and what is wrong.
    """
    (described,) = connection.execute("SELECT count(*) FROM meta").fetchone()
    if described != 1:
        raise damaged(file, f"it has {described} descriptions of itself")
    meta = read_meta(connection)
    for name, value in meta._asdict().items():
        if not (isinstance(value, str) if name == "model" else isinstance(value, int) and value >= (name == "dimension")):
            raise damaged(file, f"its {name} is {value!r}")
    if max(meta.rows, meta.fast_places) > meta.places:
        raise damaged(file, f"it has {meta.places:,} places for {meta.rows:,} rows, {meta.fast_places:,} of them for approximate search")
    for table, told in (("rows", meta.rows), ("holes", meta.places - meta.rows)):
        asked = ", ".join(f"(SELECT {what} FROM {table})" for what in ("count(*)", "min(place)", "max(place)"))  # each by an index
        count, first, last = connection.execute(f"SELECT {asked}").fetchone()
        if count and (first < 0 or last >= meta.places):
            raise damaged(file, f"it has {meta.places:,} places, and number {last if first >= 0 else first:,} among its {table}")
        if count != told:
            raise damaged(file, f"it tells of {told:,} {table}, and has {count:,}")
    ends = connection.execute(f"SELECT {', '.join(f'(SELECT {end}({column}) FROM rows)' for end, column in _ENDS)}").fetchone()
    for (_, column), value in zip(_ENDS, ends if meta.rows else (), strict=bool(meta.rows)):
        require_value(file, column, value)


def require_times(connection: sqlite3.Connection, file: Path) -> None:
    """Check that all times are finite numbers, for which all rows are read.

    Raises:
        SearchIndexError: One is not; the message names the file and the value.
    """
    for time in connection.execute("SELECT min(time), max(time) FROM rows").fetchone():
        require_value(file, "time", time)


def require_value(file: Path, column: str, value: object) -> None:
    """Check one value of a row: names are text, and a time is a finite number; both may be unknown, a path may not.

    Raises:
        SearchIndexError: It is another; the message names the file and the value.
    """
    if column == "time":
        sound = value is None or (isinstance(value, int | float) and abs(value) < _LARGEST_TIME)
    else:
        sound = isinstance(value, str) or (value is None and column != "path")
    if not sound:
        raise damaged(file, f"it has the {column} {value!r:.40}")
