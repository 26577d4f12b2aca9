"""A packed data set as its records, and as whoever loads their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_reid.arguments import require_number
from lightning_reid.blocks.index import INDEX
from lightning_reid.datamodules.blocks.addresses import FrameAddresses, addresses
from lightning_reid.datamodules.blocks.cache import BlockCache
from lightning_reid.datamodules.blocks.kept_index import opened_index
from lightning_reid.datamodules.blocks.pictures import BlockPictures
from lightning_reid.datamodules.blocks.reader import BlockReader
from lightning_reid.datamodules.blocks.store import BlockStore, is_url
from lightning_reid.records import ImageRecord, ReIDDataset, TrackletDataset, TrackletRecord

CACHE_GB = 20.0


class PackedData:
    """A data set in blocks.

    Args:
        url: Folder or address.
        storage_options: See ``BlockStore``.
        cache: Folder for whole blocks of an address, and its index; ``None`` for ``~/.cache/lightning-reid/blocks``.
        cache_gb: Gigabytes (10^9 bytes) of blocks that it may hold; 0 for no cache, the index then is held in memory.

    Raises:
        StoreError: The store does not answer, or there is no index.
        ForeignIndexError: The index is damaged or of another version.
    """

    def __init__(
        self, url: str, storage_options: Mapping[str, Any] | None = None, cache: str | None = None, cache_gb: float = CACHE_GB
    ) -> None:
        require_number("cache_gb", cache_gb, low=0)
        self.store = BlockStore(url, storage_options)
        folder = Path(cache) if cache is not None else Path.home() / ".cache" / "lightning-reid" / "blocks"
        blocks = BlockCache(folder, int(cache_gb * 10**9)) if cache_gb and self.store.root is None else None
        self.index = opened_index(self.store, None if blocks is None else blocks.folder)
        self.pictures = BlockPictures(BlockReader(self.index, self.store, blocks))

    @staticmethod
    def is_named(dataset: str) -> bool:
        """Whether a data set's name is an address, or a folder of blocks."""
        return is_url(dataset) or Path(dataset, INDEX).is_file()

    def images(self) -> ReIDDataset:
        """Records of a set of images.

        Raises:
            ValueError: It is of tracklets.
        """
        self._require("images")
        index = self.index
        camids, pids, frames = index.tracklets["camid"], index.tracklets["pid"], index.frames["frame"]

        def records(split: str) -> tuple[ImageRecord, ...]:
            rows = index.splits[split].tolist()
            tracklets = index.tracklets_of(rows)
            told = (pids[tracklets].tolist(), camids[tracklets].tolist(), frames[rows].tolist())
            return tuple(
                ImageRecord(path, pid, camid, index.name, frame)
                for path, pid, camid, frame in zip(addresses(index, rows), *told, strict=True)
            )

        return ReIDDataset(index.name, records("train"), records("query"), records("gallery"), index.notes, records("val"), self.pictures)

    def tracklets(self) -> TrackletDataset:
        """Records of a set of tracklets.

        Raises:
            ValueError: It is of images.
        """
        self._require("tracklets")
        index = self.index
        made = [
            TrackletRecord(FrameAddresses(index, row), pid, camid, index.name, start, second)
            for row, (pid, camid, start, second) in enumerate(
                zip(*(index.tracklets[name].tolist() for name in ("pid", "camid", "start", "second_pid")), strict=True)
            )
        ]
        parts = {split: tuple(made[row] for row in rows.tolist()) for split, rows in index.splits.items()}
        return TrackletDataset(index.name, parts["train"], parts["query"], parts["gallery"], index.notes, parts["val"], self.pictures)

    def _require(self, kind: str) -> None:
        if self.index.kind != kind:
            take = "VideoReIDDataModule" if self.index.kind == "tracklets" else "ImageReIDDataModule"
            raise ValueError(f"{self.store.url} holds {self.index.kind}, expected {kind}: read it with {take}")
