"""The addresses that stand where others have files: a frame of a packed data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from typing_extensions import override

from lightning_reid.blocks.index import BlockIndex, of_tracklet
from lightning_reid.records import PACKED


def addresses(index: BlockIndex, rows: Sequence[int]) -> list[str]:
    """``blocks://<set>/<row>/<name within its block>`` of each frame.

    Raises:
        IndexError: There is no such frame.
    """
    return [f"{PACKED}{index.name}/{row}/{member}" for row, member in zip(rows, index.members(rows), strict=True)]


def row_of(path: str) -> int:
    """The row of a frame that an address tells.

    Raises:
        ValueError: It is none.
    """
    parts = path.rsplit("/", 2)
    if not path.startswith(PACKED) or len(parts) != 3 or not parts[1].isdecimal():
        raise ValueError(f"{path!r} is no address of a packed frame: {PACKED}<set>/<row>/<name>")
    return int(parts[1])


def set_of(path: str) -> str:
    """The name of the set that an address tells."""
    return path.removeprefix(PACKED).rsplit("/", 2)[0]


def rows_of(index: BlockIndex, paths: list[str]) -> list[int]:
    """The rows of frames, each of which bears in this index the name that its address tells.

    Raises:
        ValueError: One is no address, or of another set than this, or of this before it was packed anew.
    """
    rows = [row_of(path) for path in paths]
    there = addresses(index, rows) if max(rows, default=0) < index.num_frames else []
    if there != paths:
        wrong = next((path for path, told in zip(paths, there, strict=False) if path != told), paths[0])
        raise ValueError(f"{wrong} is no frame of {index.name} as it is packed now: read the records from there again")
    return rows


class FrameAddresses(Sequence[str]):
    """The addresses of a tracklet's frames, made when they are asked for: a million of them are a hundred megabytes.

    Args:
        index: Of the set.
        tracklet: Its row.
    """

    __slots__ = ("_count", "_first", "_index", "_tracklet")

    def __init__(self, index: BlockIndex, tracklet: int) -> None:
        self._index, self._tracklet = index, tracklet
        self._first, self._count = int(index.tracklets["first"][tracklet]), int(index.tracklets["count"][tracklet])

    @override
    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    @override
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return self._of(range(self._count)[place])
        return self._of((range(self._count)[place],))[0]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self[:])

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrameAddresses):
            return NotImplemented
        return (self._index.name, self._first, self._count) == (other._index.name, other._first, other._count)

    @override
    def __hash__(self) -> int:
        return hash((self._index.name, self._first, self._count))

    def _of(self, places: Iterable[int]) -> list[str]:
        index, first = self._index, self._first
        begins, name = f"{PACKED}{index.name}/", index.tracklet_name(self._tracklet)
        return [f"{begins}{first + place}/{of_tracklet(name, place, index.suffix(first + place))}" for place in places]
