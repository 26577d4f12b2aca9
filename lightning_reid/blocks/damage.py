"""What is raised where bytes are not those that were packed."""

from __future__ import annotations

from collections.abc import Sequence


class CorruptBlockError(RuntimeError):
    """Frames of a block are not what was packed, however often they were read.

    Args:
        block: Its name.
        frames: Names of the frames that are wrong.
        expected: CRC-32 of the first of them, or MD5 of the block.
        got: The same, of what was read.
        way_on: What the reader of the message can do.

    Example:
        >>> from lightning_reid.blocks import CorruptBlockError
        >>> str(CorruptBlockError("00003.zip", ["0002_c1_t0001_000000.jpg"], "crc32 1", "crc32 2", "Pack the set again"))
        '00003.zip: 0002_c1_t0001_000000.jpg should have crc32 1 and has crc32 2. Pack the set again'
    """

    def __init__(self, block: str, frames: Sequence[str], expected: str, got: str, way_on: str) -> None:
        self.block, self.frames, self.expected, self.got = block, tuple(frames), expected, got
        told = f"{frames[0]} and {len(frames) - 1} others" if len(frames) > 1 else "".join(frames)
        super().__init__(f"{block}: {told or 'the block'} should have {expected} and has {got}. {way_on}")


class ForeignIndexError(ValueError):
    """An index that is damaged, of another version, or none.

    Example:
        >>> from lightning_reid.blocks import ForeignIndexError, parse_index
        >>> try:
        ...     parse_index(b"something else", "market/index.safetensors")
        ... except ForeignIndexError as error:
        ...     print(str(error)[:58])
        market/index.safetensors is no index of blocks, or a damag
    """
