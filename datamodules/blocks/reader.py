"""Frames of packed blocks by their rows, each one checked, and what is done about those that are wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from zlib import crc32

import numpy as np

from lightning_reid.blocks.counting import SharedCounts
from lightning_reid.blocks.damage import CorruptBlockError
from lightning_reid.blocks.index import BLOCKS, BlockIndex
from lightning_reid.blocks.ranges import Span, merged_ranges
from lightning_reid.datamodules.blocks.cache import BlockCache, digest_of
from lightning_reid.datamodules.blocks.open_files import OpenFiles
from lightning_reid.datamodules.blocks.store import BlockStore

logger = logging.getLogger(__name__)

WHOLE_READS = 3
"""How often a block with wrong frames is read whole: a replicated store looks at its copies then, and sets the damaged one aside."""
_EVICTIONS = 3


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
        self._files = OpenFiles()
        self._told: set[int] = set()

    @property
    def counts(self) -> SharedCounts:
        """What was asked for, here and in the workers of loaders."""
        return self.store.counts

    def frames(self, rows: Sequence[int]) -> list[bytes]:
        """The bytes of frames, in the order of ``rows``.

        Raises:
            CorruptBlockError: Some cannot be had as they were packed.
            IndexError: There is no such frame.
            StoreError: The store does not answer.
        """
        found: dict[int, bytes] = {}
        for number, spans in self._spans(rows).items():
            found |= self._of_block(number, spans)
        self.counts.add(frames=len(rows))
        return [found[row] for row in rows]

    def _spans(self, rows: Sequence[int]) -> dict[int, list[Span]]:
        """Where frames lie, each once, by their blocks."""
        distinct = sorted(set(rows))
        self.index.require_frames(min(distinct, default=0), max(distinct, default=-1))
        places, by_block = np.array(distinct, dtype=np.int64), dict[int, list[Span]]()
        blocks, starts, lengths, sums = (self.index.frames[name].take(places).tolist() for name in ("block", "offset", "length", "crc32"))
        for block, start, length, row, checksum in zip(blocks, starts, lengths, distinct, sums, strict=True):
            by_block.setdefault(block, []).append(Span(block, start, start + length, row, checksum))
        return by_block

    def _of_block(self, number: int, spans: list[Span]) -> dict[int, bytes]:
        """Frames of one block by their rows, right ones."""
        found, wrong = self._read(number, spans), spans
        for again in (False, True):
            wrong = _wrong(wrong, found)
            if not wrong:
                return found
            self._count_wrong(number, len(wrong))
            if not again:
                self._forget(number)
                found |= self._read(number, wrong)
        content = self._whole(number, wrong)
        return found | {span.row: content[span.start : span.stop] for span in wrong}

    def _read(self, number: int, spans: list[Span]) -> dict[int, bytes]:
        """Frames of one block as they are there, unchecked."""
        handle = self._handle(number, len(spans))
        if handle is not None:  # another read costs less than joining ranges does
            return {span.row: os.pread(handle, span.stop - span.start, span.start) for span in spans}
        ranges = merged_ranges(spans)
        name = self.index.blocks[number].name
        answers = self.store.read_ranges(name, [one.start for one in ranges], [one.stop for one in ranges])
        return {
            span.row: answer[span.start - one.start : span.stop - one.start]
            for one, answer in zip(ranges, answers, strict=True)
            for span in one.spans
        }

    def _handle(self, number: int, frames: int) -> int | None:
        """Of a block on this machine, in the set's folder or in the cache; ``None`` where it is asked for in ranges."""
        block = self.index.blocks[number]
        if self.store.root is not None:
            found = self._files.found(number)
            if found is not None:
                return found
            with self.store.told(block.name):
                return self._files.opened(number, f"{self.store.root}/{BLOCKS}/{block.name}")
        for _ in range(_EVICTIONS if self.cache is not None else 0):
            assert self.cache is not None
            path = self.cache.found(block)
            if path is not None:
                self.counts.add(cache_hits=frames)
            else:
                self._files.close(number)
                path = self.cache.fetched(block, lambda: self._whole(number))
                if path is None:
                    return None
            try:
                return self._files.opened(number, path)
            except FileNotFoundError:
                logger.info("%s went out of the cache before it was opened: another process needed the room", block.name)
        return None

    def _forget(self, number: int) -> None:
        """Not to meet wrong bytes again that lie on this machine."""
        self._files.close(number)
        if self.cache is not None:
            self.cache.forget(self.index.blocks[number])

    def _whole(self, number: int, spans: Sequence[Span] = ()) -> bytes:
        """A block read whole until it has the right MD5, or at least the right frames where some are told; kept, where there is a cache."""
        block, got = self.index.blocks[number], ""
        for _ in range(WHOLE_READS):
            content = self.store.read(block.name)
            got = digest_of(content)
            wrong = _wrong(spans, {span.row: content[span.start : span.stop] for span in spans})
            if not wrong and (spans or got == block.md5):
                if spans and got == block.md5 and self.cache is not None:
                    self.cache.fetched(block, partial(bytes, content))
                return content
            self._count_wrong(number, 1)
        names = self.index.members([span.row for span in spans])
        way_on = f"{self.store.url} holds a damaged copy: lightning-reid health {self.store.url} tells of all; pack the set again"
        raise CorruptBlockError(block.name, names, f"md5 {block.md5}", f"md5 {got}", way_on)

    def _count_wrong(self, number: int, wrong: int) -> None:
        self.counts.add(wrong_reads=wrong)
        if number not in self._told:
            self._told.add(number)
            logger.warning("%s: %s came with wrong bytes, and is asked for again", self.store.url, self.index.blocks[number].name)


def _wrong(spans: Sequence[Span], found: dict[int, bytes]) -> list[Span]:
    return [span for span in spans if crc32(found[span.row]) != span.crc32]
