"""Checkpoints that survive a kill, a full disk and a power cut: on a disk, and at URLs."""

from lightning_reid.checkpoints.durable import DurableCheckpointIO
from lightning_reid.checkpoints.remote import latest_upload

__all__ = [
    "DurableCheckpointIO",
    "latest_upload",
]
