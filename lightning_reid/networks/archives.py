"""Files of ``torch.save`` with a checksum: written so that a full disk is an ``OSError``, and looked at for damage.

``torch.load`` looks at no checksum: it takes a weight with a flipped bit as it finds it. A file of ``torch.save`` is a ZIP archive without
a comment. Here it gets one, the CRC-32 of everything before it, and remains a file that ``torch.load`` reads.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch
from torch.serialization import MAP_LOCATION

from lightning_reid.networks.archive_kinds import foreign_kind, oversized_call, pickle_protocol, read_through_pickles, told_stranger
from lightning_reid.regular_files import require_regular

_COMMENT = b"lightning-reid crc32 "
_COMMENT_SIZE = len(_COMMENT) + 8
_NO_COMMENT = b"\0\0"  # the last two bytes of an archive: the size of the comment
_CHUNK = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError, MemoryError)
"""What ``zipfile`` and ``pickletools`` raise of damaged files."""
_SENSELESS = (
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
"""What ``torch.load`` and ``pickletools`` raise, besides their own errors, of pickles that make no sense."""
_LATER_PROTOCOLS = 4
_WORDS_OF_DAMAGE = ("PytorchStreamReader", "unexpected EOF", "corrupt", "wrong byte size", "Invalid protocol version", "Unknown saved id")


class DamagedArchiveError(ValueError):
    """The file is not as it was written."""


class ForeignArchiveError(ValueError):
    """The file is whole, as far as can be told, and something else than ``torch.save`` wrote it."""


def save_archive(content: Any, file: IO[bytes]) -> None:
    """Write what ``torch.save`` writes, with a checksum of it.

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
    """Write an archive of :func:`save_archive` into a file."""
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
        DamagedArchiveError: It is empty, cut short, overwritten, or begins as nothing that torch writes; the message says which.
        ForeignArchiveError: It is whole, but no file of ``torch.save``, or would have something made that is larger than itself; the
            message says what.
        pickle.UnpicklingError: It is whole, and holds more than tensors and plain values.
    """
    damage = damage_of(file)
    if damage is not None:
        raise DamagedArchiveError(damage)
    kind = foreign_kind(file)
    if kind is not None:
        raise ForeignArchiveError(f"{kind}, which torch.save did not write")
    protocol = pickle_protocol(file)
    of_old_torch = protocol is not None
    try:
        called = oversized_call(file) if weights_only else None
        if called is not None:
            raise ForeignArchiveError(f"it calls {called}, of which a few bytes may ask for any size")
        content = torch.load(file, map_location=map_location, weights_only=weights_only)
        if of_old_torch and file.read(1):
            raise DamagedArchiveError("bytes were written into it: it is longer than its weights")
        return content
    except (DamagedArchiveError, ForeignArchiveError):
        raise
    except EOFError as error:
        raise DamagedArchiveError("it is cut short") from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _WORDS_OF_DAMAGE):
            raise
        what = "it is cut short or overwritten" if of_old_torch else "its table of contents is overwritten"
        raise DamagedArchiveError(f"{what} ({str(error).split('.')[0]})") from error
    except pickle.UnpicklingError as error:
        # no checksum tells; of later protocols torch knows no more without running code
        if protocol is not None and protocol < _LATER_PROTOCOLS and weights_only and "GLOBAL" not in str(error):
            raise DamagedArchiveError("its pickles are overwritten") from error
        raise
    except _SENSELESS as error:
        if not weights_only:  # the code that the file brought along may raise anything
            raise
        told = f"its pickles make no sense ({type(error).__name__}: {error})"
        raise DamagedArchiveError(told) if of_old_torch else ForeignArchiveError(told) from error


def require_file(path: Path) -> None:
    """Check that a path is a file to read: opening a pipe waits for ever.

    Raises:
        FileNotFoundError: There is nothing.
        NoRegularFileError: There is something else.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: expected a file of weights")
    require_regular(path, path.stat().st_mode)


def require_whole(path: str | Path) -> None:
    """Check a file that something else will read, as ``load_from_checkpoint``.

    Raises:
        FileNotFoundError: There is no such file.
        NoRegularFileError: It is a folder or a pipe.
        DamagedArchiveError: It is not as it was written; the message names it.
        ForeignArchiveError: ``torch.save`` did not write it; the message names it.
    """
    require_file(Path(path))
    with Path(path).open("rb") as file:
        damage = damage_of(file)
        kind = foreign_kind(file) if damage is None else None
    if damage is not None:
        raise DamagedArchiveError(f"{path} is damaged, {damage}: make it again, or give another")
    if kind is not None:
        raise ForeignArchiveError(f"{path} is no checkpoint, {kind}: give another")


def damage_of(file: IO[bytes]) -> str | None:
    """What is wrong with a ZIP archive or pickle, ``None`` where nothing can be told. It stands at its beginning afterwards."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(4)
    try:
        if not size:
            return "it is empty"
        if pickle_protocol(file) is not None:
            read_through_pickles(file)
            return None
        if not head.startswith(b"PK"):
            return f"it begins with {head!r}, which torch.save does not write{told_stranger(file)}"
        file.seek(max(0, size - _COMMENT_SIZE))
        comment = file.read()
        file.seek(0)
        if comment.startswith(_COMMENT):
            return None if comment == _comment(_sum_of(file, size - _COMMENT_SIZE)) else "its checksum is wrong"
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        return None if broken is None else f"the checksum of its part {broken} is wrong"
    except (*_UNREADABLE, OSError) as error:
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
