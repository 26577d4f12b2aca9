"""The file of an index: written, and read as arrays that lie in the file (mapped) or in memory."""

from __future__ import annotations

import json
import mmap
import re
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from typing_extensions import override

from lightning_reid.blocks.damage import ForeignIndexError
from lightning_reid.blocks.index import FRAMES, SPLITS, TRACKLETS, BlockFile, BlockIndex, Kind
from lightning_reid.regular_files import open_regular

FORMAT, VERSION = "lightning-reid blocks", 1

_DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "I64": np.int64}
_BLOCK_NAME = re.compile(r"[0-9]{5,}\.zip")
_MD5 = re.compile(r"[0-9a-f]{32}")
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_WAY_ON = "Pack the set again, or restore it"
_PART = 2**20
"""Bytes, or frames, that are looked at together, so that to open an index takes the same memory whatever its size."""
Content = bytes | mmap.mmap


@dataclass(frozen=True, eq=False)
class MappedIndex(BlockIndex):
    """An index whose arrays lie in a file; what is sent to another process is where, not what.

    Attributes:
        path: The file. It is replaced by others, and never written to in place.
        digest: MD5 that the file tells of its content.
        where: Its place, for messages.
    """

    path: Path
    digest: str
    where: str

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return _mapped_again, (self.path, self.digest, self.where)


def serialized(index: BlockIndex) -> bytes:
    """The bytes of an index file; the same for the same index. Its metadata hold the MD5 of all else in it.

    Example:
        >>> from lightning_reid.blocks import parse_index, serialized
        >>> from lightning_reid.datamodules.blocks import BlockStore, pack
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> index = pack(read_market_folder(market), BlockStore(str(folder / "blocks")), progress=False).index  # market: in its naming
        >>> serialized(parse_index(serialized(index), "here")) == serialized(index)
        True
    """
    tensors = {f"frames/{name}": np.ascontiguousarray(array, dtype=FRAMES[name]) for name, array in index.frames.items()}
    tensors |= {f"tracklets/{name}": np.ascontiguousarray(array, dtype=TRACKLETS[name]) for name, array in index.tracklets.items()}
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
    draft = save(tensors, {"index": json.dumps(told, sort_keys=True)})
    told["md5"] = _digest(draft, *_head(draft))
    return save(tensors, {"index": json.dumps(told, sort_keys=True)})  # one entry: safetensors writes several in any order


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
    return _checked(content, where)[0]


def map_index(path: Path, where: str) -> MappedIndex:
    """``parse_index`` of a file, whose arrays stay in it: a page comes to memory when it is looked at, and all processes share it.

    Raises:
        ForeignIndexError: As ``parse_index``.
        OSError: The file cannot be read.
    """
    content = _mapped(path, where)
    found, digest = _checked(content, where)
    _let_go(content)
    return MappedIndex(**vars(found), path=path, digest=digest, where=where)


def _mapped_again(path: Path, digest: str, where: str) -> MappedIndex:
    """What another process mapped and checked."""
    content = _mapped(path, where)
    head = _head_or_error(content, where)
    if head[1].get("md5") != digest or _digest(content, *head) != digest:
        raise ForeignIndexError(f"{path} is another index than the one that was opened: the set was packed anew. Begin again")
    _let_go(content)
    return MappedIndex(**vars(_arranged(content, *head)), path=path, digest=digest, where=where)


def _mapped(path: Path, where: str) -> mmap.mmap:
    with open_regular(path) as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise ForeignIndexError(f"{where} is no index of blocks, it is empty. {_WAY_ON}") from error


def _let_go(content: mmap.mmap) -> None:
    """Pages that the checks looked at, and readers will not."""
    if hasattr(content, "madvise"):
        content.madvise(mmap.MADV_DONTNEED)


def _checked(content: Content, where: str) -> tuple[BlockIndex, str]:
    """An index, and the MD5 that it tells."""
    head = _head_or_error(content, where)
    told = head[1]
    if (told["format"], told["version"]) != (FORMAT, VERSION):
        there = f"{told['format']!r}, version {told['version']!r}"
        raise ForeignIndexError(f"{where} is an index of {there}, and this is for {FORMAT!r}, version {VERSION}")
    try:
        found = _arranged(content, *head)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(where, str(error)) from error
    wrong = _wrong(found)
    if wrong is None and told.get("md5") != _digest(content, *head):
        wrong = "its MD5 is not the one that it tells"
    if wrong is not None:
        raise _damaged(where, wrong)
    return found, told["md5"]


def _damaged(where: str, wrong: str) -> ForeignIndexError:
    return ForeignIndexError(f"{where} is a damaged index of blocks: {wrong}. {_WAY_ON}")


def _head_or_error(content: Content, where: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    try:
        first, told, arrays = _head(content)
        _ = told["format"], told["version"], arrays.items()
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ForeignIndexError(f"{where} is no index of blocks, or a damaged one: {error}. {_WAY_ON}") from error
    return first, told, arrays


def _head(content: Content) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Where the arrays begin, what the metadata tell, and where each array is."""
    length = int.from_bytes(content[:8], "little")
    arrays = json.loads(content[8 : 8 + length])
    told = json.loads(arrays.pop("__metadata__")["index"])
    return 8 + length, told, arrays


def _digest(content: Content, first: int, told: dict[str, Any], arrays: dict[str, Any]) -> str:
    """MD5 of all that an index tells, but for this."""
    rest = {name: value for name, value in told.items() if name != "md5"}
    digest = md5(json.dumps([rest, arrays], sort_keys=True).encode(), usedforsecurity=False)
    for start in range(first, len(content), _PART):
        digest.update(memoryview(content)[start : start + _PART])
        if isinstance(content, mmap.mmap):
            _let_go(content)
    return digest.hexdigest()


def _arranged(content: Content, first: int, told: dict[str, Any], arrays: dict[str, Any]) -> BlockIndex:
    there = {name: _array(content, first, name, place) for name, place in arrays.items()}
    found = BlockIndex(
        told["name"],
        told["kind"],
        tuple(BlockFile(*one) for one in told["blocks"]),
        tuple(told["suffixes"]),
        tuple(told["notes"]),
        {name: there.pop(f"frames/{name}") for name in FRAMES},
        {name: there.pop(f"tracklets/{name}") for name in TRACKLETS},
        {name: there.pop(f"splits/{name}") for name in SPLITS},
    )
    if there:
        raise ValueError(f"unknown arrays {sorted(there)}")
    return found


def _array(content: Content, first: int, name: str, place: dict[str, Any]) -> NDArray[Any]:
    dtype, (length,), (start, stop) = np.dtype(_DTYPES[place["dtype"]]), place["shape"], place["data_offsets"]
    if not 0 <= start <= stop <= len(content) - first or length * dtype.itemsize != stop - start:
        raise ValueError(f"array {name} of {length} elements at {start} to {stop}")
    return np.frombuffer(content, dtype, length, first + start)


def _wrong(index: BlockIndex) -> str | None:
    """What cannot be of an index, in words."""
    texts = (index.name, *index.notes)
    if index.kind not in get_args(Kind) or not all(isinstance(text, str) for text in texts):
        return "its name, kind or notes"
    if not all(isinstance(one, str) and SUFFIX.fullmatch(one) for one in index.suffixes):
        return f"suffixes {index.suffixes}"
    for block in index.blocks:
        named = isinstance(block.name, str) and _BLOCK_NAME.fullmatch(block.name)
        if not (named and type(block.size) is int and block.size > 0 and isinstance(block.md5, str) and _MD5.fullmatch(block.md5)):
            return f"block {block.name!r}"
    if len({block.name for block in index.blocks}) < len(index.blocks):
        return "two blocks of one name"
    for arrays, kinds in ((index.frames, FRAMES), (index.tracklets, TRACKLETS)):
        if len({len(array) for array in arrays.values()}) != 1 or any(arrays[name].dtype != kinds[name] for name in kinds):
            return "arrays of other kinds or lengths"
    return _wrong_frames(index) or _wrong_tracklets(index)


def _wrong_frames(index: BlockIndex) -> str | None:
    frames = index.frames
    if index.num_frames and int(frames["block"].max()) >= len(index.blocks):
        return f"frames of block {int(frames['block'].max())} of {len(index.blocks)}"
    if index.num_frames and int(frames["suffix"].max()) >= len(index.suffixes):
        return "frames of an unknown suffix"
    sizes = np.array([block.size for block in index.blocks], dtype=np.uint64)
    for first in range(0, index.num_frames, _PART // 8):
        block, offset, length = (frames[name][first : first + _PART // 8] for name in ("block", "offset", "length"))
        beyond = offset.astype(np.uint64) + length > sizes[block]
        if beyond.any():
            return f"frame {first + int(beyond.argmax())} ends behind its block"
    return None


def _wrong_tracklets(index: BlockIndex) -> str | None:
    first, count = index.tracklets["first"], index.tracklets["count"]
    if (count < 1).any() or not np.array_equal(first, np.concatenate([[0], np.cumsum(count)[:-1]]) if len(count) else first):
        return "tracklets that do not follow one another"
    if int(count.sum()) != index.num_frames:
        return f"tracklets of {int(count.sum())} frames, and {index.num_frames} frames"
    rows = index.num_frames if index.kind == "images" else index.num_tracklets
    for name, split in index.splits.items():
        if split.dtype != np.int64 or (len(split) and not 0 <= int(split.min()) <= int(split.max()) < rows):
            return f"split {name}"
    return None
