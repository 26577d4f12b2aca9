"""Files of ``torch.save`` with a checksum: written so that a full disk is an ``OSError``, and looked at for damage.

``torch.load`` looks at no checksum: it takes a weight with a flipped bit as it finds it. A file of ``torch.save`` is a ZIP archive without
a comment. Here it gets one, the CRC-32 of everything before it, and remains a file that ``torch.load`` reads.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch
from torch.serialization import MAP_LOCATION

_PICKLE = b"\x80"  # what torch.save began with until torch 1.6
_COMMENT = b"lightning-reid crc32 "
_COMMENT_SIZE = len(_COMMENT) + 8
_NO_COMMENT = b"\0\0"  # the last two bytes of an archive: the size of the comment
_CHUNK = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)
"""What ``zipfile`` raises of damaged archives."""


class DamagedArchiveError(ValueError):
    """The file is not as it was written."""


def save_archive(content: Any, file: IO[bytes]) -> None:
    """``torch.save`` with a checksum.

    Args:
        content: As ``torch.save`` takes it.
        file: Open for writing and seeking, empty.

    Raises:
        OSError: The disk is full, or does not take it for another reason; torch makes a ``RuntimeError`` of its own of that.
    """
    summed = _Summed(file)
    try:
        torch.save(content, summed)  # type: ignore[arg-type]  # it needs no more of a file than to be written to
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    file.seek(-len(_NO_COMMENT), 2)
    file.write(_COMMENT_SIZE.to_bytes(2, "little") + _comment(summed.crc))


def write_archive(content: Any, path: Path) -> None:
    """:func:`save_archive` into a file."""
    with path.open("wb") as file:
        save_archive(content, file)


def load_archive(file: IO[bytes], *, map_location: MAP_LOCATION = "cpu", weights_only: bool = True) -> Any:
    """``torch.load`` of a file in which every byte is as it was written.

    The checksum of files without one of ours is that of each part of the archive, and their table of contents has none. Files of torch
    before 1.6 have none at all.

    Args:
        file: Open for reading and seeking, at any position.
        map_location: Where tensors go.
        weights_only: Read tensors and plain values alone, and run no code.

    Raises:
        DamagedArchiveError: It is empty, cut short, overwritten, or no file of ``torch.save``; the message says which.
        pickle.UnpicklingError: It is whole, and holds more than tensors and plain values.
    """
    damage = damage_of(file)
    if damage is not None:
        raise DamagedArchiveError(damage)
    try:
        return torch.load(file, map_location=map_location, weights_only=weights_only)
    except EOFError as error:  # of a file from before torch 1.6
        raise DamagedArchiveError("it is cut short") from error
    except RuntimeError as error:
        if "PytorchStreamReader" not in str(error):
            raise
        raise DamagedArchiveError(f"its table of contents is overwritten ({str(error).split('.')[0]})") from error


def require_whole(path: str | Path) -> None:
    """Check a file that something else will read, as ``load_from_checkpoint``.

    Raises:
        DamagedArchiveError: It is not as it was written; the message names it.
    """
    with Path(path).open("rb") as file:
        damage = damage_of(file)
    if damage is not None:
        raise DamagedArchiveError(f"{path} is damaged, {damage}: make it again, or give another")


def damage_of(file: IO[bytes]) -> str | None:
    """What is wrong with a file of ``torch.save``, ``None`` where nothing is. It stands at its beginning afterwards."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(4)
    try:
        if not size:
            return "it is empty"
        if head.startswith(_PICKLE):
            return None
        if not head.startswith(b"PK"):
            return f"it begins with {head!r}, which torch.save does not write"
        file.seek(max(0, size - _COMMENT_SIZE))
        comment = file.read()
        file.seek(0)
        if comment.startswith(_COMMENT):
            return None if comment == _comment(_sum_of(file, size - _COMMENT_SIZE)) else "its checksum is wrong"
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        return None if broken is None else f"the checksum of its part {broken} is wrong"
    except _UNREADABLE as error:
        return f"it is cut short or overwritten ({error})"
    finally:
        file.seek(0)


class _Summed:
    """Sums what goes into a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.crc = file, 0

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _comment(crc: int) -> bytes:
    return _COMMENT + f"{crc:08x}".encode()


def _sum_of(file: IO[bytes], size: int) -> int:
    """Of the archive as it was before its comment, which is ``size`` bytes long."""
    crc, left = 0, size - len(_NO_COMMENT)
    while left > 0:
        data = file.read(min(_CHUNK, left))
        if not data:
            raise EOFError
        crc, left = zlib.crc32(data, crc), left - len(data)
    return zlib.crc32(_NO_COMMENT, crc)
