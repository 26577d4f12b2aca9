"""The index of a packed data set: where each frame lies, what its bytes must be, whom its tracklet shows, and which split it is of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

INDEX = "index.safetensors"
BLOCKS = "blocks"
SPLITS = ("train", "query", "gallery", "val")
Kind = Literal["images", "tracklets"]

FRAMES = {"block": np.uint16, "suffix": np.uint8, "offset": np.uint32, "length": np.uint32, "crc32": np.uint32, "frame": np.int64}
TRACKLETS = dict.fromkeys(("first", "count", "pid", "camid", "number", "second_pid", "start"), np.int64)
"""Kinds of the arrays, by their names."""


@dataclass(frozen=True)
class BlockFile:
    """A block as it was packed.

    Attributes:
        name: Within the folder ``blocks``.
        size: In bytes.
        md5: Of its bytes, as hexadecimal digits.
    """

    name: str
    size: int
    md5: str


@dataclass(frozen=True, eq=False)
class BlockIndex:
    """Arrays of F frames and T tracklets; frames of one tracklet stand together, in their order.

    Attributes:
        name: Of the data set.
        kind: What its records are: ``"images"``, whose tracklets are all images of a person in a camera, or ``"tracklets"``.
        blocks: In the order of their numbers.
        suffixes: Endings of file names, with the dot.
        notes: What a user should know of how the set was read when it was packed.
        frames: ``block`` uint16 (its number), ``suffix`` uint8, ``offset`` and ``length`` uint32 in bytes, ``crc32`` uint32, and
            ``frame`` int64 (as of ``ImageRecord``), each ``[F]``: 23 bytes a frame.
        tracklets: ``first`` frame and ``count``, ``pid``, ``camid``, ``number`` among those of the same person and camera, ``second_pid``
            and ``start`` (as ``second_pid`` and ``frame`` of ``TrackletRecord``), each ``[T]`` int64.
        splits: Split to the rows of its records, in their order: of frames where the set is of images, else of tracklets.
    """

    name: str
    kind: Kind
    blocks: tuple[BlockFile, ...]
    suffixes: tuple[str, ...]
    notes: tuple[str, ...]
    frames: Mapping[str, NDArray[Any]]
    tracklets: Mapping[str, NDArray[Any]]
    splits: Mapping[str, NDArray[np.int64]]

    @property
    def num_frames(self) -> int:
        """F, frames of all splits; one that is in several is there once."""
        return len(self.frames["block"])

    @property
    def num_tracklets(self) -> int:
        """T, tracklets of all splits."""
        return len(self.tracklets["first"])

    def tracklets_of(self, rows: Sequence[int]) -> list[int]:
        """The tracklet that each frame is of.

        Raises:
            IndexError: There is no such frame.
        """
        self.require_frames(min(rows, default=0), max(rows, default=-1))
        found: list[int] = (self.tracklets["first"].searchsorted(np.array(rows, dtype=np.int64), side="right") - 1).tolist()
        return found

    def members(self, rows: Sequence[int]) -> list[str]:
        """The names of frames within their blocks; errors as of ``tracklets_of``."""
        names: list[str] = []
        first, end, shared = 0, 0, ""
        for row in rows:  # neighbors mostly, so that their tracklet is looked for once
            if not first <= row < end:
                self.require_frames(row, row)
                tracklet = bisect_right(self.tracklets["first"], row) - 1
                first, shared = int(self.tracklets["first"][tracklet]), self.tracklet_name(tracklet)
                end = first + int(self.tracklets["count"][tracklet])
            names.append(of_tracklet(shared, row - first, self.suffix(row)))
        return names

    def require_frames(self, lowest: int, highest: int) -> None:
        """Check rows of frames; of an array, one below zero would be counted from its end.

        Raises:
            IndexError: There is no such frame.
        """
        if lowest < 0 or highest >= self.num_frames:
            raise IndexError(f"{self.name} has frames 0 to {self.num_frames - 1}, asked for {lowest} to {highest}")

    def tracklet_name(self, tracklet: int) -> str:
        """What the names of all its frames begin with."""
        told = self.tracklets
        return _tracklet_name(int(told["pid"][tracklet]), int(told["camid"][tracklet]), int(told["number"][tracklet]))

    def suffix(self, row: int) -> str:
        """What the name of a frame ends with."""
        return self.suffixes[0] if len(self.suffixes) == 1 else self.suffixes[self.frames["suffix"][row]]


def member_name(pid: int, camid: int, tracklet: int, place: int, suffix: str) -> str:
    """How a frame is called within its block: a folder that is unzipped can be read by these names.

    Args:
        pid: Of the person.
        camid: Of the camera.
        tracklet: Among those of the same person and camera, from 1.
        place: In the tracklet, from 0.
        suffix: Of the image file, with the dot.

    Example:
        >>> from lightning_reid.blocks.index import member_name
        >>> member_name(2, 1, 1, 45, ".jpg")
        '0002_c1_t0001_000045.jpg'
    """
    return of_tracklet(_tracklet_name(pid, camid, tracklet), place, suffix)


def _tracklet_name(pid: int, camid: int, tracklet: int) -> str:
    return f"{pid:04d}_c{camid}_t{tracklet:04d}"


def of_tracklet(name: str, place: int, suffix: str) -> str:
    """``member_name`` where the tracklet's is known, see ``BlockIndex.tracklet_name``."""
    return f"{name}_{place:06d}{suffix}"
