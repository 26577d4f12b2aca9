"""An index on the disk: a folder with embeddings of images, and with who is seen in them where; making, opening and repairing it.

``index.sqlite`` says what lies at which place of ``embeddings.f16``. Rows are appended to that file and put onto the disk before a
transaction of the database counts them: what lies behind the counted ones is left of an append that broke off, and is cut before the next.
Rows that are removed are holes, overwritten with zeros at once (after a power cut, when the index is next written to); when they are more
than a quarter, the file is written anew without them. One process at a time writes; others can search meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from lightning_reid.files import folder_written_whole, remove_partial_files, write_atomically
from lightning_reid.folder_lock import FolderLock
from lightning_reid.search_index.damage import SearchIndexError
from lightning_reid.search_index.database import DATABASE, connected, create_database, transaction
from lightning_reid.search_index.embeddings_file import EmbeddingsFile
from lightning_reid.search_index.meta import Meta, read_meta
from lightning_reid.search_index.rows import Filters, close_holes, filtered_places, pending_holes

logger = logging.getLogger(__name__)

LOCK = "writer.lock"
MOST_HOLES = 0.25
"""Of the places; with more the file of embeddings is written anew."""
_NAMES_LEFT = 2
"""In the database, of a hole that is zeroed: what was known of it may still be in gaps of the database's pages."""


@dataclass(frozen=True)
class Index:
    """An index that is open.

    Attributes:
        folder: Where it lies.
        connection: To its database.
    """

    folder: Path
    connection: Connection

    def meta(self) -> Meta:
        """What it is at this moment."""
        return read_meta(self.connection)

    def embeddings(self) -> EmbeddingsFile:
        """The file of embeddings that counts at this moment."""
        meta = self.meta()
        name = f"embeddings-{meta.generation}.f16" if meta.generation else "embeddings.f16"
        return EmbeddingsFile(self.folder / name, meta.places, meta.dimension)

    def fast_file(self, meta: Meta) -> Path:
        """Path of the file for approximate search, which need not be there."""
        return self.folder / f"nearest-{meta.fast_number}.faiss"


def create_index(folder: str | Path, model: str, dimension: int) -> None:
    """Make an index without rows.

    Args:
        folder: Must not be there, or be empty.
        model: Name of the network that makes its embeddings, image size included: those of others are refused.
        dimension: Numbers of an embedding.

    Raises:
        OSError: The folder is not empty, or cannot be written.
        ValueError: ``dimension`` is below 1.

    Example:
        >>> from lightning_reid.search_index import create_index, open_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=192)
        >>> with open_index(folder / "index") as index:
        ...     index.meta().rows
        0
    """
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension}")
    with folder_written_whole(Path(folder)) as draft:
        create_database(draft / DATABASE, model, dimension)
        (draft / "embeddings.f16").touch()


@contextmanager
def open_index(folder: str | Path, model: str | None = None) -> Iterator[Index]:
    """An index to be read, as it is at one moment: who writes to it waits at the end of the work until the block ends.

    Args:
        folder: Of the index.
        model: Name of the network whose embeddings will be compared with it; ``None`` if none will.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: The disk fails, or another process holds the index for a minute.
        SearchIndexError: It is no index, of another version or model, damaged or cut short.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, create_index, open_index, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=2)
        >>> with write_index(folder / "index") as index:
        ...     added = add_rows(index, [IndexRow("a.jpg", person="anna"), IndexRow("b.jpg")], torch.eye(2))
        >>> with open_index(folder / "index", "some network at 256x128") as index:
        ...     index.meta().rows
        2
    """
    folder = Path(folder)
    with connected(folder) as connection, transaction(connection):
        index = Index(folder, connection)
        _require_model(index, model)
        index.embeddings().require_whole()
        yield index


@contextmanager
def write_index(folder: str | Path, model: str | None = None) -> Iterator[Index]:
    """An index to be changed, by this process alone; what a process that was killed left undone is done first.

    Args:
        folder: Of the index.
        model: Name of the network whose embeddings will be added; ``None`` if none will.

    Raises:
        FileExistsError: Another process writes to it.
        FileNotFoundError: There is no such folder.
        OSError: The disk fails.
        SearchIndexError: As ``open_index``.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, create_index, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=2)
        >>> with write_index(folder / "index") as index:
        ...     added = add_rows(index, [IndexRow("a.jpg", person="anna"), IndexRow("b.jpg")], torch.eye(2))
        >>> sorted(file.name for file in (folder / "index").iterdir())  # its lock is gone
        ['embeddings.f16', 'index.sqlite']
    """
    folder = Path(folder)
    with connected(folder, writes=True) as connection:
        index = Index(folder, connection)
        _require_model(index, model)
        lock = FolderLock(folder / LOCK, way_on="wait for it")
        lock.acquire()
        try:
            index.embeddings().require_whole()
            settle(index)
            yield index
            settle(index)
        finally:
            lock.release()


def _require_model(index: Index, model: str | None) -> None:
    made_by = index.meta().model
    if model not in (None, made_by):
        way_on = "give the --model and --image_size that it was made with, or make another index"
        raise SearchIndexError(f"the embeddings in {index.folder} are of {made_by}, and cannot be compared with those of {model}: {way_on}")


def settle(index: Index, *, names_too: bool = True) -> None:
    """Do to the files what the database says: this process's part, and what a killed one left undone.

    Args:
        index: Open to be changed.
        names_too: Also write the database anew if rows are gone, as SQLite leaves names in gaps of its pages when it balances them. That
            takes as long as all rows need, so that what is replaced leaves it to the end of the changes.
    """
    file = index.embeddings()
    file.cut()
    pending = pending_holes(index.connection)
    if len(pending):
        file.zero(pending)
        with transaction(index.connection, writes=True):
            index.connection.execute(f"UPDATE holes SET zeroed = {_NAMES_LEFT} WHERE NOT zeroed")
    meta = index.meta()
    sparse = meta.places - meta.rows > MOST_HOLES * meta.places
    if (names_too or sparse) and index.connection.execute("SELECT 1 FROM holes WHERE zeroed = ?", (_NAMES_LEFT,)).fetchone():
        index.connection.execute("VACUUM")
        with transaction(index.connection, writes=True):
            index.connection.execute("UPDATE holes SET zeroed = 1")
    if sparse:
        _compact(index)
    _remove_strangers(index)


def _compact(index: Index) -> None:
    old = index.embeddings()
    new = index.folder / f"embeddings-{index.meta().generation + 1}.f16"
    write_atomically(new, lambda draft: old.copy(draft, filtered_places(index.connection, Filters(), old.most_at_a_time)))
    with transaction(index.connection, writes=True):
        close_holes(index.connection)
        drop_fast(index, "places have changed as holes were closed")


def drop_fast(index: Index, why: str) -> None:
    """Within a transaction, have the file for approximate search be none of the index any more, aloud."""
    if index.meta().fast_places:
        index.connection.execute("UPDATE meta SET fast_places = 0, fast_bytes = 0")
        logger.warning("%s: the file for approximate search is removed, %s: lightning-reid index speed makes another", index.folder, why)


def _remove_strangers(index: Index) -> None:
    """Remove files of embeddings and of approximate search that the database does not name (any more)."""
    remove_partial_files(index.folder, alone=True)  # of a process that was killed: they may hold embeddings that are to be forgotten
    meta = index.meta()
    named = {index.embeddings().path, *([index.fast_file(meta)] if meta.fast_places else [])}
    for path in (*index.folder.glob("embeddings*.f16"), *index.folder.glob("nearest-*.faiss")):
        if path not in named:
            path.unlink()
