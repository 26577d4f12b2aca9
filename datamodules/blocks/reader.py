"""Frames of packed blocks by their rows, each one checked, and what is done about those that are wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from typing_extensions import override

from lightning_reid.blocks.counting import SharedCounts
from lightning_reid.blocks.damage import CorruptBlockError
from lightning_reid.blocks.index import BlockIndex
from lightning_reid.blocks.ranges import merged_ranges
from lightning_reid.datamodules.blocks.cache import BlockCache, digest_of
from lightning_reid.datamodules.blocks.store import BlockStore

logger = logging.getLogger(__name__)

WHOLE_READS = 3
"""How often a block with wrong frames is read whole: a replicated store looks at its copies then, and sets the damaged one aside."""
_OPEN_FILES = 64


class BlockReader:
    """Gives the bytes of frames: those that were packed, or an error.

    Every frame has its CRC-32 in the index. One that is wrong is asked for once more; then its block is read whole, and compared with its
    MD5, up to three times: of a damaged copy in a replicated store, ranges are given without a look, and whole objects are not.

    Args:
        index: Of the set.
        store: Where its blocks are.
        cache: For whole blocks; ``None`` where they lie on this machine already. One that cannot hold the set is not used.
    """

    def __init__(self, index: BlockIndex, store: BlockStore, cache: BlockCache | None = None) -> None:
        self.index, self.store = index, store
        total = sum(block.size for block in index.blocks)
        self.cache = cache if cache is not None and cache.holds(total) else None
        if cache is not None and self.cache is None:
            logger.info("%s: blocks of %d bytes do not fit the cache of %d: they are read in ranges", store.url, total, cache.limit)
        self._files: dict[Path, int] = {}
        self._process = os.getpid()
        self._told: set[int] = set()

    @override
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    @property
    def counts(self) -> SharedCounts:
        """What was asked for, here and in the workers of loaders."""
        return self.store.counts

    def frames(self, rows: Sequence[int]) -> list[bytes]:
        """The bytes of frames, in the order of ``rows``.

        Raises:
            CorruptBlockError: Some cannot be had as they were packed.
            StoreError: The store does not answer.
        """
        distinct, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        arrays = {name: self.index.frames[name][distinct] for name in ("block", "offset", "length", "crc32")}
        found: list[bytes] = [b""] * len(distinct)
        for number in np.unique(arrays["block"]).tolist():
            members = np.flatnonzero(arrays["block"] == number)
            pieces = self._pieces(number, {name: array[members] for name, array in arrays.items()}, distinct[members])
            for member, piece in zip(members.tolist(), pieces, strict=True):
                found[member] = piece
        self.counts.add(frames=len(rows))
        return [found[place] for place in places.tolist()]

    def _pieces(self, number: int, arrays: dict[str, Any], rows: Any) -> list[bytes]:
        """Frames of one block."""
        offsets, lengths, sums = (arrays[name].tolist() for name in ("offset", "length", "crc32"))
        pieces = self._read(number, arrays)
        for again in (False, True):
            wrong = [place for place, piece in enumerate(pieces) if crc32(piece) != sums[place]]
            if not wrong:
                return pieces
            self._count_wrong(number, len(wrong))
            if not again:
                if self.cache is not None:
                    self.cache.forget(self.index.blocks[number])
                some = {name: array[wrong] for name, array in arrays.items()}
                for place, piece in zip(wrong, self._read(number, some), strict=True):
                    pieces[place] = piece
        block, got = self.index.blocks[number], ""
        for _ in range(WHOLE_READS):
            content = self.store.read(block.name)
            got = digest_of(content)
            if got == block.md5:
                return [content[start : start + length] for start, length in zip(offsets, lengths, strict=True)]
            self._count_wrong(number, 1)
            if all(crc32(content[offsets[place] : offsets[place] + lengths[place]]) == sums[place] for place in wrong):
                return [
                    content[start : start + length] if place in wrong else pieces[place]
                    for place, (start, length) in enumerate(zip(offsets, lengths, strict=True))
                ]
        names = [self.index.member(int(rows[place])) for place in wrong]
        way_on = f"{self.store.url} holds a damaged copy: lightning-reid health {self.store.url} tells of all; pack the set again"
        raise CorruptBlockError(block.name, names, f"md5 {block.md5}", f"md5 {got}", way_on)

    def _read(self, number: int, arrays: dict[str, Any]) -> list[bytes]:
        """Frames of one block as they are there, unchecked."""
        path = self._file(number, len(arrays["block"]))
        ranges = merged_ranges(arrays["block"], arrays["offset"], arrays["length"])
        if path is not None:
            handle = self._handle(path)
            answers = [os.pread(handle, one.stop - one.start, one.start) for one in ranges]
        else:
            name = self.index.blocks[number].name
            answers = self.store.read_ranges(name, [one.start for one in ranges], [one.stop for one in ranges])
        pieces = [b""] * len(arrays["block"])
        for one, answer in zip(ranges, answers, strict=True):
            for member in one.members:
                start = int(arrays["offset"][member]) - one.start
                pieces[member] = answer[start : start + int(arrays["length"][member])]
        return pieces

    def _file(self, number: int, frames: int) -> Path | None:
        """Where a block lies on this machine; ``None`` where it is asked for in ranges."""
        block = self.index.blocks[number]
        local = self.store.local(block.name)
        if local is not None or self.cache is None:
            return local
        found = self.cache.found(block)
        if found is not None:
            self.counts.add(cache_hits=frames)
            return found
        return self.cache.fetched(block, lambda: self._whole(number))

    def _whole(self, number: int) -> bytes:
        """A block with the right MD5, for the cache."""
        block, got = self.index.blocks[number], ""
        for _ in range(WHOLE_READS):
            content = self.store.read(block.name)
            got = digest_of(content)
            if got == block.md5:
                return content
            self._count_wrong(number, 1)
        way_on = f"{self.store.url} holds a damaged copy: lightning-reid health {self.store.url} tells of all; pack the set again"
        raise CorruptBlockError(block.name, (), f"md5 {block.md5}", f"md5 {got}", way_on)

    def _count_wrong(self, number: int, wrong: int) -> None:
        self.counts.add(wrong_reads=wrong)
        if number not in self._told:
            self._told.add(number)
            logger.warning("%s: %s came with wrong bytes, and is asked for again", self.store.url, self.index.blocks[number].name)

    def _handle(self, path: Path) -> int:
        if self._process != os.getpid():
            self._files, self._process = {}, os.getpid()
        handle = self._files.get(path)
        if handle is None:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            handle = self._files[path] = self.store.opened(path)
        return handle
