"""The file of a journal's segment: records one after another, each with its length and checksum, so that a torn end can be told.

``b"LRJ1"``, then of each record its length and the CRC-32 of its payload, four bytes each, little-endian; the payload is a letter (``S``
a matcher's whole state, the first record of every file; ``M`` a message), eight bytes of a time, and the content. Nothing is executed.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

logger = logging.getLogger(__name__)

MAGIC = b"LRJ1"
STATE, MESSAGE = b"S", b"M"
LARGEST_RECORD = 2**31
"""In bytes."""
_HEAD = struct.Struct("<II")
_TIME = struct.Struct("<d")
_START = len(STATE) + _TIME.size


class Record(NamedTuple):
    """What a journal holds once.

    Attributes:
        kind: ``STATE`` or ``MESSAGE``.
        received: When the message came or the state was told, in seconds since 1970.
        content: Of ``matcher_state`` or ``write_message``.
    """

    kind: bytes
    received: float
    content: bytes


def record_bytes(record: Record) -> bytes:
    """The bytes of a record as they stand in a file."""
    payload = record.kind + _TIME.pack(record.received) + record.content
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def write_whole(descriptor: int, content: bytes, size: int) -> None:
    """Append to a file that is ``size`` bytes long, all or nothing.

    Raises:
        OSError: The disk does not take it: it is full, perhaps; what was written of it is cut off again.
    """
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, up to its end or to where it is torn, which is logged with what is lost.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no journal, its first record is not whole, or one is damaged although a whole one follows: that was no kill and no
            power cut, a disk or a person has changed it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is no journal, it does not begin with {MAGIC!r}: move it away")
        while (start := file.tell()) < size:
            record = _next_record(file, size)
            if record is None:
                if _whole_one_follows(file, start, size) or start == len(MAGIC):
                    raise ValueError(f"{path} is damaged at byte {start:,}: restore it from a copy, or move it away to begin without it")
                told = "%s is torn at byte %d, as a kill or a power cut leaves it: its last %d bytes are cut off"
                logger.warning(told, path, start, size - start)
                return
            yield record


def _next_record(file: BinaryIO, size: int) -> Record | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, crc = _HEAD.unpack(head)
    if not _START <= length <= min(LARGEST_RECORD, size - file.tell()):
        return None
    payload = file.read(length)
    if zlib.crc32(payload) != crc or payload[:1] not in (STATE, MESSAGE):
        return None
    return Record(payload[:1], _TIME.unpack(payload[1:_START])[0], payload[_START:])


def _whole_one_follows(file: BinaryIO, start: int, size: int) -> bool:
    """Whether behind a damaged record, as far as its length can be believed, there is a whole one."""
    file.seek(start)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or (after := file.tell() + _HEAD.unpack(head)[0]) >= size:
        return False
    file.seek(after)
    return _next_record(file, size) is not None
