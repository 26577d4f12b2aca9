"""A checkpoint at a URL: uploaded under a name of its own, read back, and only then pointed to."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import md5
from secrets import token_hex
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from lightning_reid.networks.archives import damage_of, save_archive

logger = logging.getLogger(__name__)

FORMAT = "lightning-reid checkpoint pointer 1"
_LONGEST_POINTER = 1 << 16
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Generation:
    """One upload of a checkpoint, and how to tell whether it is whole.

    Attributes:
        name: Of its file, beside the pointer; ``last.ckpt.<number>-<draw>.generation``.
        size: In bytes; 0 where nobody noted it.
        md5: Of its content.
    """

    name: str
    size: int = 0
    md5: str = ""

    @property
    def number(self) -> int:
        """Counts up from one save to the next."""
        return int(self.name.rsplit(".", 2)[1].partition("-")[0])


class RemoteCheckpoint:
    """A checkpoint in a store that cannot rename, or not in one step.

    At its URL lies a pointer, a small JSON file that names the latest upload and the one before it, which lie beside it. A plain checkpoint
    at the URL, uploaded by something else, is read as well.

    Args:
        filesystem: Of fsspec.
        path: Without the protocol.
        url: As the user gave it, for messages.
    """

    def __init__(self, filesystem: AbstractFileSystem, path: str, url: str) -> None:
        self.filesystem, self.path, self.url = filesystem, path, url
        self.folder, _, self.name = path.rpartition("/")

    def save(self, content: dict[str, Any]) -> None:
        """Upload, read back, point to it; at most the one before it stays beside it.

        Raises:
            OSError: The store does not take it, or gives back something else; the pointer still names the checkpoint of before.
        """
        buffer = io.BytesIO()
        save_archive(content, buffer)
        data = buffer.getvalue()
        try:
            self.filesystem.makedirs(self.folder, exist_ok=True)
            known = self._known()
            number = max((Generation(name).number for name in self._generations()), default=0) + 1
            new = Generation(self._generation_name(number), len(data), md5(data, usedforsecurity=False).hexdigest())
            kept = [new, *[one for one in known if self._is_whole(one)][:1]]
            try:
                self._upload(new, data)
                self._point_to(kept)
            except BaseException:
                if self._pointer() != kept:
                    self._remove(new.name)
                raise
        except OSError as error:
            told = f"cannot save the checkpoint {self.url}: {error.strerror or error}. Check the store's room and rights, or choose another"
            raise OSError(error.errno, told) from error
        for name in self._generations():
            if name not in [one.name for one in kept]:
                self._remove(name)

    def places(self) -> list[tuple[str, Callable[[], IO[bytes]]]]:
        """Name and way to open of the latest upload, then of the one before it.

        Raises:
            FileNotFoundError: There is neither a pointer nor a plain checkpoint.
        """
        self.filesystem.invalidate_cache()
        if not self.filesystem.isfile(self.path):
            raise FileNotFoundError(f"no checkpoint at {self.url}: name the .ckpt file, or start a new run")
        pointed = self._pointer()
        if pointed is None and self._starts_as_archive():
            return [(self.url, partial(self._open, self.name))]
        names = [one.name for one in pointed] if pointed is not None else self._generations()
        if pointed is None:
            logger.warning(
                "the pointer %s is damaged: the uploads beside it are looked at, %s", self.url, ", ".join(names) or "there are none"
            )
        return [(f"{self.url.rpartition('/')[0]}/{name}", partial(self._open, name)) for name in names]

    def remove(self) -> None:
        """Remove the pointer, then what it pointed to: a kill in between leaves nothing that does not load."""
        self._remove(self.name)
        for name in self._generations():
            self._remove(name)

    def _upload(self, new: Generation, data: bytes) -> None:
        self.filesystem.pipe_file(self._place(new.name), data)
        self.filesystem.invalidate_cache()
        there = self._read(new.name)
        if there != new:
            raise OSError(errno.EIO, f"{new.size} bytes with MD5 {new.md5} were sent, {there.size} with {there.md5} are there")

    def _read(self, name: str) -> Generation:
        """What is there under a name."""
        digest, size = md5(usedforsecurity=False), 0
        with self.filesystem.open(self._place(name), "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return Generation(name, size, digest.hexdigest())

    def _point_to(self, generations: list[Generation]) -> None:
        told = {"format": FORMAT, "generations": [asdict(one) for one in generations]}
        self.filesystem.pipe_file(self.path, json.dumps(told, indent=2).encode())
        self.filesystem.invalidate_cache()
        if self._pointer() != generations:
            raise OSError(errno.EIO, "the pointer is not there as it was sent")

    def _pointer(self) -> list[Generation] | None:
        """What it points to; ``None`` where there is no pointer, or something else in its place."""
        if not self.filesystem.isfile(self.path):
            return None
        with self.filesystem.open(self.path, "rb") as file:
            content = file.read(_LONGEST_POINTER)
        try:
            told = json.loads(content)
            return [Generation(**one) for one in told["generations"]] or None if told["format"] == FORMAT else None
        except (ValueError, TypeError, KeyError):
            return None

    def _known(self) -> list[Generation]:
        """The uploads of before, latest first; by their names alone where the pointer is damaged. A plain checkpoint becomes one."""
        self.filesystem.invalidate_cache()
        pointed = self._pointer()
        if pointed is not None:
            return pointed
        if self._starts_as_archive():
            name = self._generation_name(0)
            self.filesystem.cp_file(self.path, self._place(name))
            return [Generation(name)]
        return [Generation(name) for name in self._generations()]

    def _generations(self) -> list[str]:
        """Names of all uploads that are there, latest first."""
        self.filesystem.invalidate_cache()
        if not self.filesystem.isdir(self.folder):
            return []
        pattern = re.compile(re.escape(self.name) + r"\.(\d+)-[0-9a-f]{8}\.generation")
        names = [str(path).rpartition("/")[2] for path in self.filesystem.ls(self.folder, detail=False)]
        return sorted(filter(pattern.fullmatch, names), key=lambda name: Generation(name).number, reverse=True)

    def _generation_name(self, number: int) -> str:
        return f"{self.name}.{number}-{token_hex(4)}.generation"

    def _is_whole(self, generation: Generation) -> bool:
        place = self._place(generation.name)
        if not self.filesystem.isfile(place):
            return False
        if generation.size:
            return bool(self.filesystem.size(place) == generation.size) and self._read(generation.name) == generation
        return damage_of(self._open(generation.name)) is None

    def _starts_as_archive(self) -> bool:
        if not self.filesystem.isfile(self.path):
            return False
        with self.filesystem.open(self.path, "rb") as file:
            return bool(file.read(2).startswith((b"PK", b"\x80")))  # of today's torch, and of torch before 1.6

    def _open(self, name: str) -> IO[bytes]:
        place = self._place(name)
        return io.BytesIO(self.filesystem.cat_file(place) if self.filesystem.isfile(place) else b"")

    def _place(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _remove(self, name: str) -> None:
        if self.filesystem.isfile(self._place(name)):
            try:
                self.filesystem.rm_file(self._place(name))
            except OSError as error:
                logger.warning("%s of %s cannot be removed (%s): remove it by hand", name, self.url, error)


def latest_upload(url: str) -> str:
    """The URL of the file that a checkpoint's URL points to, for what knows no pointers, as ``load_from_checkpoint``.

    Raises:
        FileNotFoundError: There is no checkpoint.

    Example:
        >>> from lightning_reid.checkpoints import DurableCheckpointIO, latest_upload
        >>> url = "memory://example/last.ckpt"  # or s3://bucket/run/last.ckpt
        >>> DurableCheckpointIO().save_checkpoint({"epoch": 1}, url)
        >>> latest_upload(url)
        'memory://example/last.ckpt.1-....generation'
    """
    filesystem, path = url_to_fs(url)
    return RemoteCheckpoint(filesystem, path, url).places()[0][0]
