"""Which ranges of a file to ask for, so that frames that lie near each other come in one request."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_GAP = 64 * 1024
"""Bytes between two frames that are read along, since another request would cost more."""


class ByteRange(NamedTuple):
    """Bytes to ask for, and whose they are.

    Attributes:
        block: Number of the block.
        start: First byte.
        stop: The byte after the last.
        members: Places of the frames in what was asked for, in the order of their bytes.
    """

    block: int
    start: int
    stop: int
    members: tuple[int, ...]


def merged_ranges(
    blocks: NDArray[np.integer], offsets: NDArray[np.integer], lengths: NDArray[np.integer], *, gap: int = MOST_GAP
) -> list[ByteRange]:
    """Join the ranges of frames that lie in one block with at most ``gap`` bytes between them.

    Args:
        blocks: ``[N]`` block of each frame.
        offsets: ``[N]`` its first byte.
        lengths: ``[N]`` its bytes.
        gap: In bytes, at least 0.

    Returns:
        Ranges by block and first byte; every frame is a member of one.

    Example:
        >>> import numpy as np
        >>> from lightning_reid.blocks import merged_ranges
        >>> merged_ranges(np.array([0, 0, 1]), np.array([500, 0, 0]), np.array([9, 100, 7]), gap=400)
        [ByteRange(block=0, start=0, stop=509, members=(1, 0)), ByteRange(block=1, start=0, stop=7, members=(2,))]
    """
    order = np.lexsort((offsets, blocks)).tolist()
    found: list[ByteRange] = []
    for place in order:
        block, start = int(blocks[place]), int(offsets[place])
        stop = start + int(lengths[place])
        last = found[-1] if found else None
        if last is not None and last.block == block and start - last.stop <= gap:
            found[-1] = last._replace(stop=max(last.stop, stop), members=(*last.members, place))
        else:
            found.append(ByteRange(block, start, stop, (place,)))
    return found
