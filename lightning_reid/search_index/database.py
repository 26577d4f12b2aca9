"""The part of an index that knows whose picture lies where: a file of SQLite, whose transactions are the index's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DATABASE = "index.sqlite"
FORMAT = 1
_APPLICATION = 0x52654944
_SCHEMA = (
    "CREATE TABLE meta (model TEXT NOT NULL, dimension INTEGER NOT NULL, places INTEGER NOT NULL, rows INTEGER NOT NULL,"
    " generation INTEGER NOT NULL, fast_number INTEGER NOT NULL, fast_places INTEGER NOT NULL, fast_bytes INTEGER NOT NULL)",
    "CREATE TABLE rows (place INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, person TEXT, camera TEXT, time REAL)",
    "CREATE TABLE holes (place INTEGER PRIMARY KEY, zeroed INTEGER NOT NULL)",
    "CREATE INDEX rows_person ON rows (person)",
    "CREATE INDEX rows_camera ON rows (camera)",
)
_SECONDS_TO_WAIT = 60.0
"""For another process that commits, or that searches while this one does."""


class SearchIndexError(ValueError):
    """A folder is no index, a damaged one, or one of another version or model.

    Example:
        >>> from lightning_reid.search_index import SearchIndexError, open_index
        >>> try:
        ...     with open_index(folder):  # an empty folder
        ...         pass
        ... except SearchIndexError as error:
        ...     "is no index: it has no index.sqlite" in str(error)
        True
    """


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


def create_database(file: Path, model: str, dimension: int) -> None:
    """Write the database of an index without rows."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection, transaction(connection, writes=True):
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (?, ?, 0, 0, 0, 0, 0, 0)", (model, dimension))


@contextmanager
def connected(folder: Path, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
    """The database of an index, of this version and whole.

    Args:
        folder: Of the index.
        writes: Whether it will be changed; then every page is checked.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: The disk fails or is full, or another process holds the index for a minute.
        SearchIndexError: It is no index, one of another version, or damaged.
    """
    file = folder / DATABASE
    if not folder.exists():
        raise FileNotFoundError(f"there is no index {folder}: make one by lightning-reid index add")
    if not file.is_file():
        raise SearchIndexError(f"{folder} is no index: it has no {DATABASE}; give the folder that lightning-reid index add made")
    with told_as_damaged(file), closing(_connect(file)) as connection:
        _require_ours(connection, file)
        if writes:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise _damaged(file, said)
        else:
            connection.execute("PRAGMA query_only = ON")
        _require_consistent(connection, file, counted=writes)
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection, *, writes: bool = False) -> Iterator[None]:
    """What is read in the block is of one moment, and what is written takes effect whole, at its end, or not at all."""
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def told_as_damaged(file: Path) -> Iterator[None]:
    """Have what SQLite says of a file name the file, and the way on.

    Raises:
        OSError: The disk fails or is full, the file is not for this user, or another process holds it.
        SearchIndexError: It is damaged.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise TimeoutError(f"another process has held {file} for {_SECONDS_TO_WAIT:.0f} seconds: try again later") from error
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise OSError(f"cannot use {file}: {error}. Free the disk, or ask for the right to write there") from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise _damaged(file, str(error)) from error
        raise


def read_meta(connection: sqlite3.Connection) -> Meta:
    """What the index is at this moment."""
    return Meta(*connection.execute("SELECT * FROM meta").fetchone())


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


def row_at(connection: sqlite3.Connection, place: int, folder: Path) -> IndexRow:
    """What lies at a place that has a row.

    Raises:
        SearchIndexError: It has none.
    """
    found = connection.execute("SELECT path, person, camera, time FROM rows WHERE place = ?", (place,)).fetchone()
    if found is None:
        raise _damaged(folder / DATABASE, f"it has no row for the embedding number {place:,}")
    return IndexRow(*found)


def rows_below(connection: sqlite3.Connection, place: str) -> list[str]:
    """The paths that are ``place``, or begin with it as a folder, in order."""
    told = _bytes(place), _bytes(f"{place.rstrip(os.sep)}{os.sep}"), _bytes(f"{place.rstrip(os.sep)}{chr(ord(os.sep) + 1)}")
    below = "path = CAST(? AS TEXT) OR (path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT))"
    return [path for (path,) in connection.execute(f"SELECT path FROM rows WHERE {below} ORDER BY path", told)]


def values_of(connection: sqlite3.Connection, column: str) -> list[str]:
    """All that a column has, ``person`` or ``camera``, in alphabetical order."""
    return [value for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM rows WHERE {column} NOTNULL ORDER BY {column}")]


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=_SECONDS_TO_WAIT, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # names of files need be no text
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _require_ours(connection: sqlite3.Connection, file: Path) -> None:
    (application,), (version,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    if application != _APPLICATION:
        raise SearchIndexError(f"{file} is a database of something else: give the folder that lightning-reid index add made")
    if version != FORMAT:
        told = f"{file.parent} is an index of format {version}, this version of lightning-reid reads format {FORMAT}"
        raise SearchIndexError(f"{told}: make it anew by lightning-reid index add, or take the version that made it")
    written = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOTNULL")}
    if written != set(_SCHEMA):  # a trigger, say, would run with the next row that is written
        raise _damaged(file, "its tables are not those of an index")


def _require_consistent(connection: sqlite3.Connection, file: Path, *, counted: bool) -> None:
    """Check that rows and holes are at the places that there are, and if ``counted``, which takes longer, that they are as many."""
    with transaction(connection):
        (described,) = connection.execute("SELECT count(*) FROM meta").fetchone()
        if described != 1:
            raise _damaged(file, f"it has {described} descriptions of itself")
        meta = read_meta(connection)
        for table, told in (("rows", meta.rows), ("holes", meta.places - meta.rows)):
            (last,) = connection.execute(f"SELECT coalesce(max(place), -1) FROM {table}").fetchone()
            if last >= meta.places:
                raise _damaged(file, f"it has {meta.places:,} places, and number {last:,} among its {table}")
            if counted and (count := connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) != told:
                raise _damaged(file, f"it tells of {told:,} {table}, and has {count:,}")


def _damaged(file: Path, told: str) -> SearchIndexError:
    return SearchIndexError(f"{file} is damaged ({told}): restore the folder from a copy, or make the index anew")


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
