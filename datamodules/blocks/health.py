"""Whether all blocks of a set are as they were packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_reid.blocks.index import INDEX
from lightning_reid.blocks.index_file import parse_index
from lightning_reid.datamodules.blocks.cache import digest_of
from lightning_reid.datamodules.blocks.reader import WHOLE_READS
from lightning_reid.datamodules.blocks.store import BlockStore, StoreError
from lightning_reid.datamodules.late_progress import late_progress


@dataclass
class Health:
    """What was found at an address of blocks.

    Attributes:
        url: Of the set.
        name: Of the data set.
        kind: Of its records.
        blocks: How many the index tells of.
        frames: How many frames.
        tracklets: How many tracklets.
        size: Of all blocks, in bytes.
        missing: Blocks that are not there.
        damaged: Blocks with other bytes than those that were packed, however often they are read.
        mended: Blocks that came wrong and then right: a replicated store has set a damaged copy aside.
        unreadable: Blocks that the store did not give, with its words.
        foreign: Objects beside the blocks of the index.
    """

    url: str
    name: str
    kind: str
    blocks: int
    frames: int
    tracklets: int
    size: int
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether every frame can be had."""
        return not (self.missing or self.damaged or self.unreadable)

    def as_plain(self) -> dict[str, Any]:
        """By name, for a program."""
        return asdict(self) | {"whole": self.is_whole}


def health(url: str, storage_options: Mapping[str, Any] | None = None, *, progress: bool = True) -> Health:
    """Read every block whole and compare its MD5; a replicated store looks at its copies when it is asked so.

    Args:
        url: Folder or address.
        storage_options: See ``BlockStore``.
        progress: Show a bar on standard error.

    Raises:
        StoreError: There is no index, or the store does not answer at all.
        ForeignIndexError: The index is damaged or of another version.
    """
    store = BlockStore(url, storage_options)
    index = parse_index(store.index(), f"{store.url}/{INDEX}")
    total = sum(block.size for block in index.blocks)
    found = Health(store.url, index.name, index.kind, len(index.blocks), index.num_frames, index.num_tracklets, total)
    present = store.sizes()
    found.foreign = sorted(present.keys() - {block.name for block in index.blocks})
    for block in late_progress(index.blocks, f"reading {len(index.blocks)} blocks", total=len(index.blocks), disable=not progress):
        if block.name not in present:
            found.missing.append(block.name)
            continue
        try:
            right = [digest_of(store.read(block.name)) == block.md5]
            while not right[-1] and len(right) < WHOLE_READS:
                right.append(digest_of(store.read(block.name)) == block.md5)
            if not right[-1]:
                found.damaged.append(block.name)
            elif len(right) > 1:
                found.mended.append(block.name)
        except StoreError as error:
            found.unreadable[block.name] = str(error)
    return found
