"""A folder of blocks, on this machine or at any address that fsspec knows."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from lightning_reid.blocks.counting import SharedCounts
from lightning_reid.blocks.index import BLOCKS, INDEX
from lightning_reid.files import write_atomically

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
TRIES, FIRST_WAIT = 5, 0.5
"""How often a store is asked, and the seconds before it is asked again, which double each time."""
AT_START = 1
"""How often it is asked for its index: whoever waits there sits before the screen. File systems have tries of their own, too."""


class StoreError(OSError):
    """A store that does not answer, or refuses; the message names its address and what to look at.

    Example:
        >>> from lightning_reid.datamodules.blocks import PackedData, StoreError
        >>> try:
        ...     PackedData(str(folder))  # folder: an empty one
        ... except StoreError as error:
        ...     print("has no index.safetensors" in str(error))
        True
    """


def is_url(told: str | os.PathLike[str]) -> bool:
    """Whether a data set's name is an address of fsspec (``s3://bucket/market``), and not a path of this machine."""
    return "://" in os.fspath(told)


class BlockStore:
    """Reads and writes the objects of one set. The file system is opened when it is first needed, anew in each process.

    Args:
        url: Folder or address.
        storage_options: As the file system of fsspec takes them (``endpoint_url``, ``key``, ``secret``, ...); they are in no message.
        tries: How often an object is asked for before it is given up.

    Attributes:
        counts: What was asked for, here and in the workers of loaders.
        root: The folder, where it is one of this machine; ``None`` for another address.

    Example:
        >>> from lightning_reid.datamodules.blocks import BlockStore
        >>> BlockStore("s3://bucket/market", {"endpoint_url": "http://store:8080"}).url  # nothing is asked yet
        's3://bucket/market'
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None, *, tries: int = TRIES) -> None:
        self.url, self.storage_options, self.tries = url.rstrip("/"), dict(storage_options or {}), tries
        self.root = None if is_url(url) and not url.startswith("file://") else self.url.removeprefix("file://")
        self.counts = SharedCounts()
        self._opened: tuple[int, Any, str] | None = None

    @override
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    @contextmanager
    def told(self, name: str) -> Iterator[None]:
        """Have an ``OSError`` of the block tell of this store.

        Raises:
            StoreError: In its place.
        """
        try:
            yield
        except OSError as error:
            raise _told(error, self.url, name) from error

    def index(self) -> bytes:
        """The bytes of the index file.

        Raises:
            StoreError: It cannot be read.
        """
        found: bytes = self._asked(lambda system, root: system.cat_file(f"{root}/{INDEX}"), INDEX, AT_START)
        return found

    def has_index(self) -> bool:
        """Whether a set of blocks is here."""
        return bool(self._asked(lambda system, root: system.exists(f"{root}/{INDEX}"), INDEX, AT_START))

    def read(self, block: str) -> bytes:
        """The bytes of a whole block."""
        found: bytes = self._asked(lambda system, root: system.cat_file(f"{root}/{BLOCKS}/{block}"), block)
        self.counts.add(requests=1, bytes_read=len(found), whole_reads=1)
        return found

    def read_ranges(self, block: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """Ranges of a block, a request each."""

        def ask(system: Any, root: str) -> list[bytes]:
            path = f"{root}/{BLOCKS}/{block}"
            found: list[bytes] = system.cat_ranges([path] * len(starts), list(starts), list(stops), on_error="raise")
            return found

        found = self._asked(ask, block)
        self.counts.add(requests=len(starts), bytes_read=sum(map(len, found)))
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all; ``name`` is below the set's folder.

        Raises:
            OSError: The folder does not take it; ``StoreError`` where another address does not.
        """
        if self.root is not None:
            write_atomically(Path(self.root, name), lambda draft: draft.write_bytes(content))
            return

        def put(system: Any, root: str) -> None:
            path = f"{root}/{name}"
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.pipe_file(path, content)

        self._asked(put, name)

    def get(self, name: str) -> bytes:
        """The bytes of an object; ``name`` is below the set's folder."""
        found: bytes = self._asked(lambda system, root: system.cat_file(f"{root}/{name}"), name)
        return found

    def has(self, name: str) -> bool:
        """Whether there is such an object."""
        return bool(self._asked(lambda system, root: system.exists(f"{root}/{name}"), name, AT_START))

    def remove(self, name: str) -> None:
        """Remove an object of the set."""
        self._asked(lambda system, root: system.rm_file(f"{root}/{name}"), name)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an object of JSON."""
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object that an object holds.

        Raises:
            StoreError: It is none.
        """
        try:
            found = json.loads(self.get(name).decode())
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self.url} holds a {name} that is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise StoreError(f"{self.url} holds a {name} that is no JSON object")
        return found

    def make_bucket(self) -> None:
        """Make the bucket of an address that has one, where it is not there yet."""
        self._asked(lambda system, root: system.makedirs(root.split("/")[0] if is_url(self.url) else root, exist_ok=True), BLOCKS)

    def sizes(self) -> dict[str, int]:
        """Names of the objects below ``blocks``, with their bytes."""

        def ask(system: Any, root: str) -> dict[str, int]:
            folder = f"{root}/{BLOCKS}"
            if not system.exists(folder):
                return {}
            return {one["name"].rpartition("/")[2]: int(one["size"]) for one in system.ls(folder, detail=True, refresh=True)}

        return self._asked(ask, BLOCKS)

    def _system(self) -> tuple[Any, str]:
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec  # whose file systems hold connections and threads that do not survive a fork

            options = self.storage_options | {"skip_instance_cache": True, "use_listings_cache": False}
            try:
                system, root = fsspec.core.url_to_fs(self.url, **options)
            except (ImportError, ValueError) as error:
                raise StoreError(f"{self.url} cannot be opened: {error}. For s3:// install the extra s3") from error
            self._opened = (os.getpid(), system, root.rstrip("/"))
        return self._opened[1], self._opened[2]

    def _asked(self, ask: Callable[[Any, str], Answer], name: str, tries: int | None = None) -> Answer:
        """Ask until there is an answer, so many times at most, with longer waits each time."""
        wait, tries = FIRST_WAIT, tries or self.tries
        for attempt in range(1, tries + 1):
            try:
                return ask(*self._system())
            except (FileNotFoundError, PermissionError, StoreError) as error:
                raise _told(error, self.url, name) from error
            except Exception as error:
                if not (isinstance(error, OSError) or _may_pass(error) or _is_of_credentials(error)):
                    raise  # a fault of a program, and not of a store
                if attempt == tries or not _may_pass(error):
                    raise _told(error, self.url, name) from error
                logger.warning("%s: %s did not come (%s), asked again in %.1f s", self.url, name, type(error).__name__, wait)
            self.counts.add(retries=1)
            time.sleep(wait * (0.5 + random.random() / 2))  # so that not all workers come back at once
            wait *= 2
        raise AssertionError("the last attempt raises")


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return False  # what an object store says of bytes behind the end of an object
    return isinstance(error, (OSError, TimeoutError)) or "Connection" in type(error).__name__ or "Timeout" in type(error).__name__


def _is_of_credentials(error: Exception) -> bool:
    return "Credential" in type(error).__name__  # botocore's, which are no PermissionError


def _told(error: Exception, url: str, name: str) -> StoreError:
    if isinstance(error, StoreError):
        return error
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{url} has no {name}: is the address right, bucket and folder included, and was the set packed to its end?")
    if isinstance(error, PermissionError) or _is_of_credentials(error):
        return StoreError(f"{url} refuses {name}: look at the credentials, and at the clock of this machine ({type(error).__name__})")
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        way_on = f"lightning-reid health {url} tells of all; pack the set again"
        return StoreError(f"{url} has a {name} that is shorter than it was packed: {way_on}")
    return StoreError(f"{url} did not give {name}: {type(error).__name__}. Is the endpoint up, and reached from this machine?")
