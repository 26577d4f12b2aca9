"""The index of a packed data set: where each frame lies, what its bytes must be, whom its tracklet shows, and which split it is of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lightning_reid.blocks.damage import ForeignIndexError

INDEX = "index.safetensors"
BLOCKS = "blocks"
FORMAT, VERSION = "lightning-reid blocks", 1
SPLITS = ("train", "query", "gallery", "val")
Kind = Literal["images", "tracklets"]

_FRAMES = {"block": np.uint16, "suffix": np.uint8, "offset": np.uint32, "length": np.uint32, "crc32": np.uint32, "frame": np.int64}
_TRACKLETS = {"first": np.int64, "count": np.int64, "pid": np.int64, "camid": np.int64, "number": np.int64}
_TRACKLETS |= {"second_pid": np.int64, "start": np.int64}
_BLOCK_NAME = re.compile(r"[0-9]{5,}\.zip")
_MD5 = re.compile(r"[0-9a-f]{32}")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


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

    def tracklet_of(self, row: int) -> int:
        """The tracklet that a frame is of."""
        return int(np.searchsorted(self.tracklets["first"], row, side="right")) - 1

    def member(self, row: int) -> str:
        """The name of a frame within its block.

        Raises:
            IndexError: There is no such frame.
        """
        if not 0 <= row < self.num_frames:
            raise IndexError(f"{self.name} has frames 0 to {self.num_frames - 1}, got {row}")
        tracklet = self.tracklet_of(row)
        told = {name: int(self.tracklets[name][tracklet]) for name in ("pid", "camid", "number", "first")}
        return member_name(told["pid"], told["camid"], told["number"], row - told["first"], self.suffixes[self.frames["suffix"][row]])


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
    return f"{pid:04d}_c{camid}_t{tracklet:04d}_{place:06d}{suffix}"


def serialized(index: BlockIndex) -> bytes:
    """The bytes of an index file; the same for the same index.

    Example:
        >>> from lightning_reid.blocks import parse_index, serialized
        >>> from lightning_reid.datamodules.blocks import BlockStore, pack
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> index = pack(read_market_folder(market), BlockStore(str(folder / "blocks")), progress=False).index  # market: in its naming
        >>> serialized(parse_index(serialized(index), "here")) == serialized(index)
        True
    """
    tensors = {f"frames/{name}": np.ascontiguousarray(array, dtype=_FRAMES[name]) for name, array in index.frames.items()}
    tensors |= {f"tracklets/{name}": np.ascontiguousarray(array, dtype=_TRACKLETS[name]) for name, array in index.tracklets.items()}
    tensors |= {f"splits/{name}": np.ascontiguousarray(array, dtype=np.int64) for name, array in index.splits.items()}
    told = {
        "format": FORMAT,
        "version": VERSION,
        "name": index.name,
        "kind": index.kind,
        "notes": list(index.notes),
        "suffixes": list(index.suffixes),
        "blocks": [[block.name, block.size, block.md5] for block in index.blocks],
    }
    return save(tensors, {"index": json.dumps(told, sort_keys=True)})


def parse_index(content: bytes, where: str) -> BlockIndex:
    """Read an index, and believe nothing that cannot be of one.

    Args:
        content: Of the file.
        where: Its place, for messages.

    Raises:
        ForeignIndexError: It is damaged, of another version, or no index; the message says which.

    Example:
        >>> from lightning_reid.blocks import parse_index
        >>> from lightning_reid.datamodules.blocks import BlockStore, pack
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> store = BlockStore(str(folder / "blocks"))
        >>> report = pack(read_market_folder(market), store, progress=False)  # market: a folder in the Market naming
        >>> index = parse_index(store.index(), "here")
        >>> index.kind, index.num_frames == report.index.num_frames
        ('images', True)
    """
    try:
        tensors = load(content)
        told = json.loads(_metadata(content)["index"])
        if told["format"] != FORMAT or told["version"] != VERSION:
            there = f"{told['format']!r}, version {told['version']!r}"
            raise ForeignIndexError(f"{where} is an index of {there}, and this is for {FORMAT!r}, version {VERSION}")
        found = BlockIndex(
            told["name"],
            told["kind"],
            tuple(BlockFile(*one) for one in told["blocks"]),
            tuple(told["suffixes"]),
            tuple(told["notes"]),
            {name: tensors.pop(f"frames/{name}") for name in _FRAMES},
            {name: tensors.pop(f"tracklets/{name}") for name in _TRACKLETS},
            {name: tensors.pop(f"splits/{name}") for name in SPLITS},
        )
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ForeignIndexError(f"{where} is no index of blocks, or a damaged one: {error}. Pack the set again, or restore it") from error
    wrong = _wrong(found) or (f"unknown arrays {sorted(tensors)}" if tensors else None)
    if wrong:
        raise ForeignIndexError(f"{where} is a damaged index of blocks: {wrong}. Pack the set again, or restore it")
    return found


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    told: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return told


def _wrong(index: BlockIndex) -> str | None:
    """What cannot be of an index, in words."""
    texts = (index.name, *index.notes)
    if index.kind not in get_args(Kind) or not all(isinstance(text, str) for text in texts):
        return "its name, kind or notes"
    if not all(isinstance(one, str) and _SUFFIX.fullmatch(one) for one in index.suffixes):
        return f"suffixes {index.suffixes}"
    for block in index.blocks:
        named = isinstance(block.name, str) and _BLOCK_NAME.fullmatch(block.name)
        if not (named and type(block.size) is int and block.size > 0 and isinstance(block.md5, str) and _MD5.fullmatch(block.md5)):
            return f"block {block.name!r}"
    if len({block.name for block in index.blocks}) < len(index.blocks):
        return "two blocks of one name"
    for arrays, kinds in ((index.frames, _FRAMES), (index.tracklets, _TRACKLETS)):
        lengths = {len(arrays[name]) for name in kinds if arrays[name].ndim == 1 and arrays[name].dtype == kinds[name]}
        if len(lengths) != 1 or any(arrays[name].ndim != 1 or arrays[name].dtype != kinds[name] for name in kinds):
            return "arrays of other kinds or lengths"
    return _wrong_frames(index) or _wrong_tracklets(index)


def _wrong_frames(index: BlockIndex) -> str | None:
    frames = index.frames
    if index.num_frames and int(frames["block"].max()) >= len(index.blocks):
        return f"frames of block {int(frames['block'].max())} of {len(index.blocks)}"
    if index.num_frames and int(frames["suffix"].max()) >= len(index.suffixes):
        return "frames of an unknown suffix"
    sizes = np.array([block.size for block in index.blocks], dtype=np.uint64)
    beyond = frames["offset"].astype(np.uint64) + frames["length"] > sizes[frames["block"]]
    return f"frame {int(beyond.argmax())} ends behind its block" if beyond.any() else None


def _wrong_tracklets(index: BlockIndex) -> str | None:
    first, count = index.tracklets["first"], index.tracklets["count"]
    if (count < 1).any() or not np.array_equal(first, np.concatenate([[0], np.cumsum(count)[:-1]]) if len(count) else first):
        return "tracklets that do not follow one another"
    if int(count.sum()) != index.num_frames:
        return f"tracklets of {int(count.sum())} frames, and {index.num_frames} frames"
    rows = index.num_frames if index.kind == "images" else index.num_tracklets
    for name, split in index.splits.items():
        if split.dtype != np.int64 or split.ndim != 1 or (len(split) and not 0 <= int(split.min()) <= int(split.max()) < rows):
            return f"split {name}"
    return None
