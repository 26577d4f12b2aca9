"""What was asked of a store of blocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Self


@dataclass
class AccessCounts:
    """Counts of one process, or of several in sum.

    Attributes:
        frames: That were given.
        requests: Ranges and whole blocks that a store was asked for.
        bytes_read: Of its answers.
        cache_hits: Frames from a block that lay in the cache.
        retries: Questions that were repeated since no answer came.
        whole_reads: Blocks that were read whole.
        wrong_reads: Answers whose bytes were not those that were packed.
    """

    frames: int = 0
    requests: int = 0
    bytes_read: int = 0
    cache_hits: int = 0
    retries: int = 0
    whole_reads: int = 0
    wrong_reads: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __sub__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(self)))

    def as_plain(self) -> dict[str, int]:
        """By name, for a log."""
        return asdict(self)


NAMES = tuple(one.name for one in fields(AccessCounts))
