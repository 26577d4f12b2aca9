"""A run whose folder is kept in a store too, so that another machine goes on where this one is lost."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from hashlib import md5
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from lightning_reid.datamodules.blocks import BlockStore, StoreError
from lightning_reid.datamodules.blocks.cache import digest_of
from lightning_reid.drafts import draft_beside
from lightning_reid.files import read_json, write_atomically, write_json

logger = logging.getLogger(__name__)

POINTER, OBJECTS, LOCK_FILE = "pointer.json", "objects", "run.lock"
BROUGHT = ".brought.json"
"""Of the folder: what of it the store was last known to have."""
SECONDS_BETWEEN = 10.0
"""After which a folder that has changed is brought to the store."""
_TIMES_UNTIL_QUIET = 20


def local_output(output: str | Path) -> str:
    """Where a run with this ``--output`` works: the folder itself, or one of this machine for an address."""
    if "://" not in str(output):
        return str(output)
    name = md5(str(output).rstrip("/").encode(), usedforsecurity=False).hexdigest()[:16]
    return str(Path.home() / ".cache" / "lightning-reid" / "runs" / name)


class StoredRun:
    """Brings a run's folder to a store while it runs: ``with StoredRun(url, folder): ...``.

    A file's content is an object by its MD5; it is read back and compared before the pointer, which names all files, is written: whoever
    reads the pointer finds a folder as it was at one moment, whatever happens meanwhile.

    Args:
        url: Address as fsspec knows it; credentials are in the environment, or in fsspec's own configuration.
        folder: Where the run works.
        seconds: Between two looks at the folder.
    """

    def __init__(self, url: str, folder: Path, seconds: float = SECONDS_BETWEEN) -> None:
        self.store, self.folder, self.seconds = BlockStore(url), folder, seconds
        self._known: dict[str, tuple[tuple[int, int], str]] = {}
        self._stored: set[str] = set()
        self._pointed: dict[str, str] = {}
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="stored run", daemon=True)

    def is_there(self) -> bool:
        """Whether the store holds a run."""
        return self.store.has(POINTER)

    def resume(self) -> None:
        """Go on from the store's run, or from this machine's, where that is the store's and what could not be brought there since.

        Raises:
            StoreError: See ``pull``.
        """
        there, brought = self._pointer() if self.is_there() else {}, self.folder / BROUGHT
        mine = read_json(brought, {"files": dict}, way_on=f"remove {self.folder}")["files"] if brought.is_file() else {}
        if there == mine:
            self._stored, self._pointed = {*there.values()}, there
        else:
            self.pull()

    def pull(self) -> None:
        """Make the folder what the store holds; what was in it goes once all of it is here.

        Raises:
            StoreError: There is no run, an object is missing, or has other bytes than were written.
        """
        files, draft = self._pointer(), draft_beside(self.folder)
        try:
            self._fetch(files, draft)
            self._clear()
            self.folder.mkdir(parents=True, exist_ok=True)
            for one in draft.iterdir():
                one.rename(self.folder / one.name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._remember(files)
        self._stored, self._pointed = {*files.values()}, files

    def _fetch(self, files: dict[str, str], folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, digest in files.items():
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise StoreError(f"{self.store.url} names a file outside of its run, {name!r}: it is of no run of this library")
            content = self.store.get(f"{OBJECTS}/{digest}")
            if digest_of(content) != digest:
                raise StoreError(f"{self.store.url} gives {name} with other bytes than were written: look at the store's health")
            write_atomically(target, partial(_write, content))

    def _remember(self, files: dict[str, str]) -> None:
        write_json(self.folder / BROUGHT, {"files": files})

    def _clear(self) -> None:
        """Remove what is in the folder, but for the lock."""
        for one in self.folder.iterdir() if self.folder.is_dir() else ():
            if one.name.startswith(LOCK_FILE):
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()

    def push(self) -> bool:
        """Bring the folder as it is at one moment to the store; whether anything had changed.

        Raises:
            StoreError: The store does not take it, or does not give it back as it was written; or another run is kept there meanwhile.
        """
        files = self._snapshot()
        if files is None or {name: digest for name, (digest, _) in files.items()} == self._pointed:
            return False
        for name, (digest, content) in files.items():
            if digest in self._stored:
                continue
            told = content if content is not None else (self.folder / name).read_bytes()
            if digest_of(told) != digest:
                return False  # it changed since: the next look takes it
            self.store.write(f"{OBJECTS}/{digest}", told)
            if digest_of(self.store.get(f"{OBJECTS}/{digest}")) != digest:
                raise StoreError(f"{self.store.url} does not give back {name} as it was written: look at its health")
            self._stored.add(digest)
        now = {name: digest for name, (digest, _) in files.items()}
        if (self._pointer() if self.is_there() else {}) != self._pointed:
            raise StoreError(f"another run was kept in {self.store.url} meanwhile, and stays there: this one is whole in {self.folder}")
        self.store.write_json(POINTER, {"files": now})
        before, self._pointed = self._pointed, now
        self._remember(now)
        for gone in self._stored - {*self._pointed.values()} - {*before.values()}:
            self.store.remove(f"{OBJECTS}/{gone}")
            self._stored.discard(gone)
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Bring what is left to the store.

        Raises:
            StoreError: The store does not take it, now or earlier; the folder is still here.
        """
        self._stop.set()
        self._thread.join()
        try:
            self.push()
            at_the_end = self._snapshot() or {}
            if {name: digest for name, (digest, _) in at_the_end.items()} != self._pointed:
                raise StoreError(f"{self.folder} still changes, and is not as it is in {self.store.url}: look who writes there")
        except OSError:
            logger.exception("the run is whole in %s, and was not brought to %s", self.folder, self.store.url)
            if error is None:
                raise

    def _watch(self) -> None:
        while not self._stop.wait(self.seconds):
            try:
                self.push()
            except OSError as error:  # the run goes on: it is whole here, and the next look tries again
                logger.warning("not brought to the store yet: %s", error)

    def _snapshot(self) -> dict[str, tuple[str, bytes | None]] | None:
        """Every file's MD5, and content where it was read, of one moment; ``None`` where the folder does not come to rest."""
        for _ in range(_TIMES_UNTIL_QUIET):
            before = dict(self._signatures())
            found: dict[str, tuple[str, bytes | None]] = {}
            for name, signature in before.items():
                known = self._known.get(name)
                if known is not None and known[0] == signature:
                    found[name] = (known[1], None)
                    continue
                try:
                    content = (self.folder / name).read_bytes()
                except FileNotFoundError:
                    break
                found[name] = (digest_of(content), content)
            if dict(self._signatures()) == before and len(found) == len(before):
                self._known = {name: (before[name], digest) for name, (digest, _) in found.items()}
                return found
        return None

    def _signatures(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder)
            if any(part.startswith(".") or part.startswith(LOCK_FILE) for part in name.parts):
                continue  # drafts, and who runs here
            try:
                told = file.stat()
            except FileNotFoundError:
                continue
            if file.is_file():
                yield str(name), (told.st_mtime_ns, told.st_size)

    def _pointer(self) -> dict[str, str]:
        told: dict[str, Any] = self.store.read_json(POINTER)
        files = told.get("files")
        if not isinstance(files, dict) or not all(isinstance(one, str) for pair in files.items() for one in pair):
            raise StoreError(f"{self.store.url} holds a {POINTER} of something else: give another --output")
        return files


def _write(content: bytes, draft: Path) -> None:
    draft.write_bytes(content)
