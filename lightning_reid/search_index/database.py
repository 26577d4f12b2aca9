"""The part of an index that knows whose picture lies where: a file of SQLite, whose transactions are the index's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lightning_reid.search_index.damage import SearchIndexError, damaged, require_no_foreign_journal, require_plain
from lightning_reid.search_index.meta import require_consistent, require_times

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
        writes: Whether it will be changed; then every page and every time is checked.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: The disk fails or is full, or another process holds the index for a minute.
        SearchIndexError: It is no index, one of another version, or damaged.
    """
    file = folder / DATABASE
    if not folder.exists():
        raise FileNotFoundError(f"there is no index {folder}: make one by lightning-reid index add")
    try:
        require_plain(file)
    except FileNotFoundError as error:
        told = f"{folder} is no index: it has no {DATABASE}; give the folder that lightning-reid index add made"
        raise SearchIndexError(told) from error
    require_no_foreign_journal(file)
    with told_asdamaged(file), closing(_connect(file)) as connection:
        _require_ours(connection, file)
        if writes:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise damaged(file, said)
        else:
            connection.execute("PRAGMA query_only = ON")
        with transaction(connection):
            require_consistent(connection, file)
            if writes:
                require_times(connection, file)
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
def told_asdamaged(file: Path) -> Iterator[None]:
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
            raise damaged(file, str(error)) from error
        raise


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=_SECONDS_TO_WAIT, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # names of files need be no text
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # a file beside the index would keep names that are forgotten
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
        raise damaged(file, "its tables are not those of an index")
