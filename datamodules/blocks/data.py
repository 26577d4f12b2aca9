"""A packed data set as its records, and as whoever loads their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_reid.arguments import require_number
from lightning_reid.blocks.index import INDEX, parse_index
from lightning_reid.datamodules.blocks.addresses import FrameAddresses, address
from lightning_reid.datamodules.blocks.cache import BlockCache
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
        cache: Folder for whole blocks of an address; ``None`` for ``~/.cache/lightning-reid/blocks``.
        cache_gb: Gigabytes (10^9 bytes) that it may hold; 0 for no cache.

    Raises:
        StoreError: The store does not answer, or there is no index.
        ForeignIndexError: The index is damaged or of another version.

    Example:
        >>> from lightning_reid.datamodules.blocks import BlockStore, PackedData, pack
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> report = pack(read_market_folder(market), BlockStore(str(folder / "blocks")), progress=False)  # market: in its naming
        >>> data = PackedData(str(folder / "blocks")).images()
        >>> data.pictures(data.train[0].path).shape[0]
        3
    """

    def __init__(
        self, url: str, storage_options: Mapping[str, Any] | None = None, cache: str | None = None, cache_gb: float = CACHE_GB
    ) -> None:
        require_number("cache_gb", cache_gb, low=0)
        self.store = BlockStore(url, storage_options)
        self.index = parse_index(self.store.index(), f"{self.store.url}/{INDEX}")
        folder = Path(cache) if cache is not None else Path.home() / ".cache" / "lightning-reid" / "blocks"
        remote = cache_gb and self.store.local("") is None
        self.pictures = BlockPictures(BlockReader(self.index, self.store, BlockCache(folder, int(cache_gb * 10**9)) if remote else None))

    @staticmethod
    def is_named(dataset: str) -> bool:
        """Whether a data set's name is an address, or a folder of blocks."""
        return is_url(dataset) or Path(dataset, INDEX).is_file()

    def images(self) -> ReIDDataset:
        """The records of a set of images.

        Raises:
            ValueError: It is of tracklets.
        """
        self._require("images")
        index = self.index
        camids, pids, frames = index.tracklets["camid"], index.tracklets["pid"], index.frames["frame"]

        def records(split: str) -> tuple[ImageRecord, ...]:
            rows = index.splits[split].tolist()
            tracklets = [index.tracklet_of(row) for row in rows]
            return tuple(
                ImageRecord(address(index, row), int(pids[one]), int(camids[one]), index.name, int(frames[row]))
                for row, one in zip(rows, tracklets, strict=True)
            )

        return ReIDDataset(index.name, records("train"), records("query"), records("gallery"), index.notes, records("val"), self.pictures)

    def tracklets(self) -> TrackletDataset:
        """The records of a set of tracklets.

        Raises:
            ValueError: It is of images.
        """
        self._require("tracklets")
        index = self.index
        made = [
            TrackletRecord(FrameAddresses(index, first, count), pid, camid, index.name, start, second)
            for first, count, pid, camid, start, second in zip(
                *(index.tracklets[name].tolist() for name in ("first", "count", "pid", "camid", "start", "second_pid")), strict=True
            )
        ]
        parts = {split: tuple(made[row] for row in rows.tolist()) for split, rows in index.splits.items()}
        return TrackletDataset(index.name, parts["train"], parts["query"], parts["gallery"], index.notes, parts["val"], self.pictures)

    def _require(self, kind: str) -> None:
        if self.index.kind != kind:
            take = "VideoReIDDataModule" if self.index.kind == "tracklets" else "ImageReIDDataModule"
            raise ValueError(f"{self.store.url} holds {self.index.kind}, expected {kind}: read it with {take}")
