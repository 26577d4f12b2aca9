"""Packed tracklets: all frames of a tracklet in one file from which single frames are read."""

from lightning_reid.packed_tracklets.format import write_packed_tracklet
from lightning_reid.packed_tracklets.reading import PackedTracklet

__all__ = [
    "PackedTracklet",
    "write_packed_tracklet",
]
