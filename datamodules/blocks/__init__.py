"""Data sets packed into blocks: written, read from a folder or a store, cached."""

from lightning_reid.datamodules.blocks.data import PackedData
from lightning_reid.datamodules.blocks.packing import pack
from lightning_reid.datamodules.blocks.store import BlockStore, StoreError

__all__ = ["BlockStore", "PackedData", "StoreError", "pack"]
