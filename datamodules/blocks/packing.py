"""Packing a data set into blocks: the same set gives the same bytes, on any machine."""

from __future__ import annotations

import io
import logging
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any
from zlib import crc32

import numpy as np

from lightning_reid.blocks.index import BLOCKS, FRAMES, INDEX, SPLITS, BlockFile, BlockIndex, Kind, member_name
from lightning_reid.blocks.index_file import SUFFIX, parse_index, serialized
from lightning_reid.datamodules.blocks.cache import digest_of
from lightning_reid.datamodules.blocks.store import BlockStore, StoreError
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.records import DRAWN, PACKED, ImageRecord, Splits, TrackletRecord
from lightning_reid.regular_files import read_regular

logger = logging.getLogger(__name__)

BLOCK_BYTES = 32 * 2**20
MOST_BLOCK_BYTES = 2**31
"""Above it a tracklet has no place: ZIP files and offsets of four bytes end at twice as much, with room for names."""
MOST_BLOCKS = 2**16
_OVERHEAD = 200
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass
class PackedReport:
    """What packing a data set did.

    Attributes:
        index: Of all blocks.
        written: Blocks that were written now.
        kept: Blocks that were there, as they should be.
        left_out: Tracklets that were packed before.
        frames: That were packed or are kept.
    """

    index: BlockIndex
    written: int = 0
    kept: int = 0
    left_out: int = 0


@dataclass
class _Tracklet:
    """Frames that stay together."""

    pid: int
    camid: int
    paths: list[str]
    frames: list[int]
    second_pid: int = -1
    start: int = -1
    number: int = 0
    size: int = field(default=0)

    @property
    def names(self) -> list[str]:
        return [member_name(self.pid, self.camid, self.number, place, _suffix(path)) for place, path in enumerate(self.paths)]


def _suffix(path: str) -> str:
    """Of the name within the block; a picture is told by its bytes, whatever its file was called."""
    found = PurePath(path).suffix.lower()
    return found if SUFFIX.fullmatch(found) else ".jpg"


def pack(
    dataset: Splits[Any], store: BlockStore, *, append: bool = False, block_bytes: int = BLOCK_BYTES, progress: bool = True
) -> PackedReport:
    """Write a data set as blocks, the index last; where it was cut off, it goes on.

    Tracklets stand in the order of person, camera, and as the reader has them; none is torn. A block that is there with the right bytes
    is kept. What is written is read back and compared.

    Args:
        dataset: Of images or of tracklets, of files.
        store: Where it goes.
        append: Add what the store's set has not yet, as new blocks.
        block_bytes: About the size of a block; a larger tracklet has one to itself.
        progress: Show a bar on standard error.

    Raises:
        ValueError: The set is empty, or drawn when it is asked for; a tracklet is too large; or the store holds another set.
        OSError: A file cannot be read, or the store does not take or keep what is written.

    Example:
        >>> from lightning_reid.datamodules.blocks import BlockStore, pack
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> store = BlockStore(str(folder / "blocks"))
        >>> pack(read_market_folder(market), store, progress=False).written  # market: a folder in the Market naming
        1
        >>> pack(read_market_folder(market), store, progress=False).kept
        1
    """
    kind, tracklets, splits = _grouped(dataset)
    before = _before(dataset, store, kind, append)
    numbers: Counter[tuple[int, int]] = Counter()
    left_out = 0
    if append and before is not None:
        numbers.update(dict(_numbers(before)))
        known = _known(before)
        fresh = [one for one in tracklets if _signature(one) not in known]
        left_out = len(tracklets) - len(fresh)
        splits = _splits_of_fresh(kind, tracklets, fresh, splits)
        tracklets = fresh
    for one in tracklets:
        numbers[one.pid, one.camid] += 1
        one.number = numbers[one.pid, one.camid]
    suffixes = list(before.suffixes) if append and before is not None else []
    first_block = len(before.blocks) if append and before is not None else 0
    columns: dict[str, list[Any]] = {name: [] for name in FRAMES}
    blocks: list[BlockFile] = []
    present = store.sizes()
    report = PackedReport(index=None, left_out=left_out)  # type: ignore[arg-type]
    groups = list(_blocks(tracklets, block_bytes))
    if first_block + len(groups) > MOST_BLOCKS:
        raise ValueError(f"{first_block + len(groups):,} blocks are more than the {MOST_BLOCKS:,} of a set: give larger ones (--block_mb)")
    bar = late_progress(groups, f"packing {len(tracklets)} tracklets", total=len(groups), disable=not progress)
    for place, group in enumerate(bar):
        content, entries = _zipped(group)
        block = BlockFile(f"{first_block + place:05d}.zip", len(content), digest_of(content))
        _check_same(before, append, first_block + place, block, store)
        if present.get(block.name) == block.size and digest_of(store.read(block.name)) == block.md5:
            report.kept += 1
        else:
            _write(store, block, content)
            report.written += 1
        blocks.append(block)
        _add_rows(columns, suffixes, first_block + place, entries)
        columns["frame"] += [frame for one in group for frame in one.frames]
    report.index = _index(dataset, kind, blocks, suffixes, columns, tracklets, splits, before if append else None)
    content = serialized(report.index)
    store.write(INDEX, content)
    parse_index(store.index(), f"{store.url}/{INDEX}")
    return report


def _write(store: BlockStore, block: BlockFile, content: bytes) -> None:
    """Write a block, and read it back."""
    store.write(f"{BLOCKS}/{block.name}", content)
    if digest_of(store.read(block.name)) != block.md5:
        raise StoreError(f"{store.url} does not give back {block.name} as it was written: look at its health, and pack again")


def _add_rows(columns: dict[str, list[Any]], suffixes: list[str], block: int, entries: Sequence[tuple[str, int, int, int]]) -> None:
    """Add where the frames of a block lie, and suffixes that were not known."""
    for name, offset, length, checksum in entries:
        suffix = PurePath(name).suffix
        if suffix not in suffixes:
            suffixes.append(suffix)
        values = (block, suffixes.index(suffix), offset, length, checksum)
        for column, value in zip(("block", "suffix", "offset", "length", "crc32"), values, strict=True):
            columns[column].append(value)


def _grouped(dataset: Splits[Any]) -> tuple[Kind, list[_Tracklet], dict[str, list[int]]]:
    """Tracklets in the order of blocks, and each split's rows."""
    records = [record for _, split in dataset.splits() for record in split]
    if not records:
        raise ValueError(f"{dataset.name} is empty: nothing to pack")
    drawn = [record for record in records if record.thumbnail.startswith((DRAWN, PACKED))]
    if drawn:
        raise ValueError(f"{dataset.name} lies in no files ({drawn[0].thumbnail}): write it to a folder first")
    if any(record.domain not in ("", dataset.name) for record in records):
        raise ValueError(f"{dataset.name} has records of several data sets: pack each by itself")
    if isinstance(records[0], TrackletRecord):
        return _grouped_tracklets(dataset)
    return _grouped_images(dataset)


def _grouped_images(dataset: Splits[ImageRecord]) -> tuple[Kind, list[_Tracklet], dict[str, list[int]]]:
    groups: dict[tuple[int, int], dict[tuple[str, int], None]] = {}
    for _, split in dataset.splits():
        for record in split:
            groups.setdefault((record.pid, record.camid), {})[record.path, record.frame] = None
    tracklets: list[_Tracklet] = []
    rows: dict[tuple[int, int, str, int], int] = {}
    for pid, camid in sorted(groups):
        members = list(groups[pid, camid])
        for path, frame in members:
            rows[pid, camid, path, frame] = len(rows)
        tracklets.append(_Tracklet(pid, camid, [path for path, _ in members], [frame for _, frame in members]))
    splits = {name: [rows[one.pid, one.camid, one.path, one.frame] for one in split] for name, split in dataset.splits()}
    return "images", tracklets, splits


def _grouped_tracklets(dataset: Splits[TrackletRecord]) -> tuple[Kind, list[_Tracklet], dict[str, list[int]]]:
    distinct = dict.fromkeys(record for _, split in dataset.splits() for record in split)
    ordered = sorted(distinct, key=lambda record: (record.pid, record.camid))  # stable: within a person and camera as the reader has it
    rows = {record: row for row, record in enumerate(ordered)}
    tracklets = [_Tracklet(one.pid, one.camid, list(one.paths), [-1] * len(one.paths), one.second_pid, one.frame) for one in ordered]
    return "tracklets", tracklets, {name: [rows[one] for one in split] for name, split in dataset.splits()}


def _blocks(tracklets: Iterable[_Tracklet], block_bytes: int) -> Iterator[list[_Tracklet]]:
    """Tracklets in groups of about ``block_bytes``."""
    group: list[_Tracklet] = []
    total = 0
    for one in tracklets:
        one.size = sum(Path(path).stat().st_size + _OVERHEAD for path in one.paths)
        if one.size > MOST_BLOCK_BYTES:
            told = f"a tracklet of {one.size:,} bytes, which begins with {one.paths[0]}"
            raise ValueError(f"{told}, fits no block of at most {MOST_BLOCK_BYTES:,}")
        if group and total + one.size > block_bytes:
            yield group
            group, total = [], 0
        group.append(one)
        total += one.size
    if group:
        yield group


def _zipped(group: Sequence[_Tracklet]) -> tuple[bytes, list[tuple[str, int, int, int]]]:
    """A ZIP file of stored members, and name, offset, length and CRC-32 of each."""
    buffer, entries = io.BytesIO(), []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for one in group:
            for name, path in zip(one.names, one.paths, strict=True):
                content = read_regular(path)
                told = zipfile.ZipInfo(name, _EPOCH)
                told.external_attr = 0o644 << 16
                told.create_system = 3
                archive.writestr(told, content)
                entries.append((name, told.header_offset + 30 + len(name.encode()), len(content), crc32(content)))
    return buffer.getvalue(), entries


def _before(dataset: Splits[Any], store: BlockStore, kind: Kind, append: bool) -> BlockIndex | None:
    """What the store holds already."""
    if not store.has_index():
        if append:
            raise ValueError(f"{store.url} holds no set to append to: leave --append out")
        return None
    before = parse_index(store.index(), f"{store.url}/{INDEX}")
    if (before.kind, before.name) != (kind, dataset.name) and not (append and before.kind == kind):
        raise ValueError(f"{store.url} holds {before.kind} of {before.name}, not {kind} of {dataset.name}: give another address")
    return before


def _check_same(before: BlockIndex | None, append: bool, number: int, block: BlockFile, store: BlockStore) -> None:
    if before is None or append:
        return
    if number >= len(before.blocks) or before.blocks[number] != block:
        raise ValueError(
            f"{store.url} holds {before.name} with other contents, from {block.name} on: give --append for what is new, or another address"
        )


def _numbers(index: BlockIndex) -> Iterator[tuple[tuple[int, int], int]]:
    pids, camids, numbers = (index.tracklets[name].tolist() for name in ("pid", "camid", "number"))
    highest: dict[tuple[int, int], int] = {}
    for pid, camid, number in zip(pids, camids, numbers, strict=True):
        highest[pid, camid] = max(number, highest.get((pid, camid), 0))
    yield from highest.items()


def _known(index: BlockIndex) -> set[tuple[Any, ...]]:
    found = set()
    for row in range(index.num_tracklets):
        first, count = int(index.tracklets["first"][row]), int(index.tracklets["count"][row])
        sums = tuple(index.frames["crc32"][first : first + count].tolist())
        found.add((int(index.tracklets["pid"][row]), int(index.tracklets["camid"][row]), sums))
    return found


def _signature(tracklet: _Tracklet) -> tuple[Any, ...]:
    return tracklet.pid, tracklet.camid, tuple(crc32(read_regular(path)) for path in tracklet.paths)


def _splits_of_fresh(
    kind: Kind, tracklets: Sequence[_Tracklet], fresh: Sequence[_Tracklet], splits: dict[str, list[int]]
) -> dict[str, list[int]]:
    """Rows of the splits among the fresh tracklets alone."""
    kept = {id(one) for one in fresh}
    rows: dict[int, int] = {}
    old = new = 0
    for one in tracklets:
        units = len(one.paths) if kind == "images" else 1
        for unit in range(units):
            if id(one) in kept:
                rows[old + unit] = new
                new += 1
        old += units
    return {name: [rows[row] for row in split if row in rows] for name, split in splits.items()}


def _index(
    dataset: Splits[Any],
    kind: Kind,
    blocks: Sequence[BlockFile],
    suffixes: Sequence[str],
    columns: dict[str, list[Any]],
    tracklets: Sequence[_Tracklet],
    splits: dict[str, list[int]],
    before: BlockIndex | None,
) -> BlockIndex:
    counts = [len(one.paths) for one in tracklets]
    told = {
        "first": np.concatenate([[0], np.cumsum(counts)[:-1]]) if counts else [],
        "count": counts,
        **{name: [getattr(one, name) for one in tracklets] for name in ("pid", "camid", "number", "second_pid", "start")},
    }
    made = BlockIndex(
        dataset.name,
        kind,
        tuple(blocks),
        tuple(suffixes),
        tuple(dataset.notes),
        {name: np.asarray(values, dtype=FRAMES[name]) for name, values in columns.items()},
        {name: np.asarray(values, dtype=np.int64) for name, values in told.items()},
        {name: np.asarray(splits.get(name, []), dtype=np.int64) for name in SPLITS},
    )
    return made if before is None else _joined(before, made)


def _joined(before: BlockIndex, more: BlockIndex) -> BlockIndex:
    tracklets = {name: np.concatenate([before.tracklets[name], more.tracklets[name]]) for name in before.tracklets}
    tracklets["first"][before.num_tracklets :] += before.num_frames
    shift = before.num_frames if before.kind == "images" else before.num_tracklets
    return replace(
        before,
        blocks=(*before.blocks, *more.blocks),
        suffixes=more.suffixes,
        notes=tuple(dict.fromkeys((*before.notes, *more.notes))),
        frames={name: np.concatenate([before.frames[name], more.frames[name]]) for name in before.frames},
        tracklets=tracklets,
        splits={name: np.concatenate([before.splits[name], more.splits[name] + shift]) for name in before.splits},
    )
