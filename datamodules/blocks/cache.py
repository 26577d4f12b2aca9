"""Whole blocks on the local disk: each is fetched once, and shared by all processes of the machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

from lightning_reid.blocks.index import BlockFile
from lightning_reid.drafts import draft_beside, drafts_below, is_left_behind

logger = logging.getLogger(__name__)

_LOCK = "lock"


class BlockCache:
    """A folder that holds at most so many bytes of blocks, drafts included; those that were used longest ago go first.

    A block appears whole or not at all, under its MD5: blocks of any sets may share the folder, and a set that was packed anew meets no
    old one. What a killed process left half written goes.

    Args:
        folder: On a local disk.
        limit: In bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._told_full = False

    def holds(self, total: int) -> bool:
        """Whether so many bytes fit at all; a smaller cache would be filled and emptied within each epoch."""
        return total <= self.limit

    def path(self, block: BlockFile) -> Path:
        """Where a block is, or would be."""
        return self.folder / f"{block.md5}.zip"

    def found(self, block: BlockFile) -> Path | None:
        """A block that is there; it is then the one that was used last."""
        path = self.path(block)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def fetched(self, block: BlockFile, fetch: Callable[[], bytes]) -> Path | None:
        """A block that is there, or is fetched now; ``None`` where the disk has no room for it, which is said once.

        Two processes that want one block fetch it once: the second waits.

        Args:
            block: Of the index.
            fetch: Gives its bytes, which have its MD5.
        """
        path = self.path(block)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / f"{block.md5}.{_LOCK}"):
                found = self.found(block)
                if found is not None:
                    return found
                self._write(path, fetch())
        except OSError as error:
            if error.errno is None or isinstance(error, FileNotFoundError):
                raise
            if not self._told_full:
                logger.warning("no room for blocks in %s (%s): they are read in ranges from the store", self.folder, error.strerror)
                self._told_full = True
            return None
        return path

    def forget(self, block: BlockFile) -> None:
        """Remove a block whose bytes turned out to be damaged."""
        self.path(block).unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        draft = draft_beside(path)
        try:
            with _locked(self.folder / _LOCK):
                self._make_room(len(content))
                with draft.open("wb") as file:
                    file.truncate(len(content))  # counted by others from now on
            draft.write_bytes(content)
            os.replace(draft, path)  # noqa: PTH105  (no fsync: what a power cut takes is fetched again, its MD5 is checked)
        finally:
            draft.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        for draft in list(drafts_below(self.folder, deeper=False)):
            if is_left_behind(draft):
                draft.unlink(missing_ok=True)
        present = []
        for file in self.folder.iterdir():
            if file.suffix == ".zip":
                try:
                    told = file.stat()
                except FileNotFoundError:
                    continue
                present.append((told.st_mtime_ns, told.st_size, file))
        total = sum(one for _, one, _ in present)
        for _, one, file in sorted(present):
            if total + size <= self.limit:
                break
            if not file.name.startswith("."):
                file.unlink(missing_ok=True)
                total -= one


def digest_of(content: bytes) -> str:
    """MD5 of a block, as hexadecimal digits: what an object store tells of it."""
    return md5(content, usedforsecurity=False).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # of POSIX alone, as blocks are: whoever has none reads other data all the same

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
