"""Files of an index that are not as this library writes them: they may come from strangers, and opening one must do no harm."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.regular_files import NoRegularFileError, require_regular

_WAY_ON = "restore the folder from a copy, or make the index anew"
_BESIDE = ("-journal", "-wal", "-shm")
"""Files that SQLite reads beside a database of the name."""
_ENDS_A_NAME = bytes.fromhex("d9d505f920a163d7")
"""Of SQLite: behind the name of a journal of several databases, which it removes once it has rolled back."""


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


def damaged(file: Path, told: str) -> SearchIndexError:
    """The error of a file that is not as it was written, and what is to be done."""
    return SearchIndexError(f"{file} is damaged ({told}): {_WAY_ON}")


def require_plain(file: Path) -> int:
    """Check that a file is one, and no link to another, which would be read or overwritten in its place.

    Returns:
        Its bytes.

    Raises:
        FileNotFoundError: There is none.
        SearchIndexError: It is a link, a folder, a pipe or a device.
    """
    told = file.lstat()
    try:
        require_regular(file, told.st_mode)
    except NoRegularFileError as error:
        raise SearchIndexError(f"{error}. The index is damaged: {_WAY_ON}") from error
    return told.st_size


def require_no_foreign_journal(database: Path) -> None:
    """Check what SQLite would read beside a database: a journal that names another file would have that file removed.

    Raises:
        SearchIndexError: One is no file, or names another; no index has such a journal, as it is never committed with another database.
    """
    for ending in _BESIDE:
        file = database.with_name(database.name + ending)
        try:
            size = require_plain(file)
            with file.open("rb") as journal:
                journal.seek(max(size - len(_ENDS_A_NAME), 0))
                end = journal.read()
        except FileNotFoundError:  # another process has ended its transaction meanwhile
            continue
        if ending == "-journal" and end.endswith(_ENDS_A_NAME):
            raise damaged(file, "it names another file, which SQLite would remove")
