"""The rows of an index in its database: who is seen where at which place of the file of embeddings."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_reid.search_index.damage import damaged
from lightning_reid.search_index.meta import require_value


class IndexRow(NamedTuple):
    """What is known of an embedded image.

    Attributes:
        path: Of its file: what tells rows apart.
        person: ``None`` of somebody who is not named.
        camera: ``None`` where it is not known.
        time: When it was taken, in seconds on a clock of the index's owner; ``None`` where it is not known.

    Example:
        >>> from lightning_reid.search_index import IndexRow
        >>> IndexRow("/crops/a.jpg", camera="door", time=12.5)
        IndexRow(path='/crops/a.jpg', person=None, camera='door', time=12.5)
    """

    path: str
    person: str | None = None
    camera: str | None = None
    time: float | None = None


class Filters(NamedTuple):
    """Which rows are searched at all.

    Attributes:
        cameras: Only those of these; without any, of all.
        persons: Only these, likewise.
        since: Seconds, on the clock of the rows: none before it, and none whose time is not known.
        until: Seconds, on the same clock: none after it, likewise.

    Example:
        >>> from lightning_reid.search_index import Filters
        >>> Filters(cameras=("door", "yard"), since=3600.0)  # of these two, from an hour on
        Filters(cameras=('door', 'yard'), persons=(), since=3600.0, until=None)
    """

    cameras: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None


def insert_rows(connection: sqlite3.Connection, rows: Sequence[IndexRow]) -> int:
    """Give rows the next places, and make holes of those that had their paths.

    Returns:
        How many had.
    """
    replaced = delete_rows(connection, "path", [row.path for row in rows])
    (first,) = connection.execute("SELECT places FROM meta").fetchone()
    statement = "INSERT INTO rows VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)"
    told = ((first + at, _bytes(row.path), _bytes(row.person), _bytes(row.camera), row.time) for at, row in enumerate(rows))
    connection.executemany(statement, told)
    connection.execute("UPDATE meta SET places = places + ?, rows = rows + ?", (len(rows), len(rows)))
    return replaced


def delete_rows(connection: sqlite3.Connection, column: str, values: Iterable[str]) -> int:
    """Make holes, still to be zeroed, of the rows with one of some values in a column, ``path`` or ``person``.

    Returns:
        How many there were.
    """
    deleted = 0
    for value in values:
        found = connection.execute(f"DELETE FROM rows WHERE {column} = CAST(? AS TEXT) RETURNING place", (_bytes(value),)).fetchall()
        connection.executemany("INSERT INTO holes VALUES (?, 0)", found)
        deleted += len(found)
    connection.execute("UPDATE meta SET rows = rows - ?", (deleted,))
    return deleted


def close_holes(connection: sqlite3.Connection) -> None:
    """Number the rows anew, in their order and without holes, for another file of embeddings."""
    numbered = "SELECT place AS old, row_number() OVER (ORDER BY place) - 1 AS new FROM rows"
    connection.execute(f"UPDATE rows SET place = -1 - numbered.new FROM ({numbered}) AS numbered WHERE place = numbered.old")
    connection.execute("UPDATE rows SET place = -1 - place")  # by way of negative numbers, which no other row has
    connection.execute("DELETE FROM holes")
    connection.execute("UPDATE meta SET places = rows, generation = generation + 1")


def pending_holes(connection: sqlite3.Connection) -> NDArray[np.int64]:
    """Places whose rows are gone and whose embeddings are not overwritten yet, in order."""
    return np.fromiter((place for (place,) in connection.execute("SELECT place FROM holes WHERE NOT zeroed ORDER BY place")), np.int64)


def holes(connection: sqlite3.Connection, first: int, end: int) -> NDArray[np.int64]:
    """Places in ``[first, end)`` without a row, in order."""
    found = connection.execute("SELECT place FROM holes WHERE place >= ? AND place < ? ORDER BY place", (first, end))
    return np.fromiter((place for (place,) in found), np.int64)


def filtered_places(
    connection: sqlite3.Connection, filters: Filters, at_a_time: int, *, first: int = 0, end: int = 2**62
) -> Iterator[NDArray[np.int64]]:
    """Places in ``[first, end)`` of the rows that pass, in order, as arrays of so many at a time."""
    where, values = _where(filters)
    statement = f"SELECT place FROM rows WHERE {where} AND place >= ? AND place < ? ORDER BY place"
    found = connection.execute(statement, (*values, first, end))
    while some := found.fetchmany(at_a_time):
        yield np.array(some, np.int64)[:, 0]


def count_filtered(connection: sqlite3.Connection, filters: Filters) -> int:
    """How many rows pass."""
    where, values = _where(filters)
    count: int = connection.execute(f"SELECT count(*) FROM rows WHERE {where}", values).fetchone()[0]
    return count


def row_at(connection: sqlite3.Connection, place: int, file: Path) -> IndexRow:
    """What lies at a place that has a row.

    Raises:
        SearchIndexError: It has none, or one of values that cannot be.
    """
    found = connection.execute("SELECT path, person, camera, time FROM rows WHERE place = ?", (place,)).fetchone()
    if found is None:
        raise damaged(file, f"it has no row for the embedding number {place:,}")
    row = IndexRow(*found)
    for column, value in row._asdict().items():
        require_value(file, column, value)
    return row


def rows_below(connection: sqlite3.Connection, place: str) -> list[str]:
    """The paths that are ``place``, or begin with it as a folder, in order."""
    told = _bytes(place), _bytes(f"{place.rstrip(os.sep)}{os.sep}"), _bytes(f"{place.rstrip(os.sep)}{chr(ord(os.sep) + 1)}")
    below = "path = CAST(? AS TEXT) OR (path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT))"
    return [path for (path,) in connection.execute(f"SELECT path FROM rows WHERE {below} ORDER BY path", told)]


def values_of(connection: sqlite3.Connection, column: str) -> list[str]:
    """All that a column has, ``person`` or ``camera``, in alphabetical order."""
    return [value for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM rows WHERE {column} NOTNULL ORDER BY {column}")]


def _where(filters: Filters) -> tuple[str, list[object]]:
    parts, values = ["1"], list[object]()
    for column, allowed in (("camera", filters.cameras), ("person", filters.persons)):
        if allowed:
            parts.append(f"{column} IN ({', '.join(['CAST(? AS TEXT)'] * len(allowed))})")
            values += map(_bytes, allowed)
    for comparison, limit in ((">=", filters.since), ("<=", filters.until)):
        if limit is not None:
            parts.append(f"time {comparison} ?")
            values.append(limit)
    return " AND ".join(parts), values


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
