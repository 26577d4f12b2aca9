"""Which ranges of a file to ask for, so that frames that lie near each other come in one request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MOST_GAP = 64 * 1024
"""Bytes between two frames that are read along, since another request to a store would cost more."""


class Span(NamedTuple):
    """Where a frame lies, and what its bytes must be.

    Attributes:
        block: Number of the block.
        start: First byte.
        stop: The byte after the last.
        row: Of the frame.
        crc32: Of its bytes.
    """

    block: int
    start: int
    stop: int
    row: int = 0
    crc32: int = 0


class ByteRange(NamedTuple):
    """Bytes to ask for, and whose they are.

    Attributes:
        block: Number of the block.
        start: First byte.
        stop: The byte after the last.
        spans: Of the frames in it, in the order of their bytes.
    """

    block: int
    start: int
    stop: int
    spans: list[Span]


def merged_ranges(spans: Iterable[Span], *, gap: int = MOST_GAP) -> list[ByteRange]:
    """Join the ranges of frames that lie in one block with at most ``gap`` bytes between them.

    Args:
        spans: Of the frames.
        gap: In bytes, at least 0.

    Returns:
        Ranges by block and first byte; every frame is in one.

    Example:
        >>> from lightning_reid.blocks import merged_ranges
        >>> from lightning_reid.blocks.ranges import Span
        >>> for one in merged_ranges([Span(0, 500, 509), Span(0, 0, 100), Span(1, 0, 7)], gap=400):
        ...     print(one.block, one.start, one.stop, len(one.spans))
        0 0 509 2
        1 0 7 1
    """
    found: list[ByteRange] = []
    members: list[Span] = []
    block, first, last = -1, 0, 0
    for span in sorted(spans):
        if span.block != block or span.start - last > gap:
            if members:
                found.append(ByteRange(block, first, last, members))
            block, first, last, members = span.block, span.start, span.stop, [span]
        else:
            last = max(last, span.stop)
            members.append(span)
    if members:
        found.append(ByteRange(block, first, last, members))
    return found
