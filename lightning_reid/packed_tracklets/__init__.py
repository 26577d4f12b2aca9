"""Packed tracklets: all frames of a tracklet in one file from which single frames are read."""

from lightning_reid.packed_tracklets.format import Encoding, PackedTracklet, encoded_jpeg, picture_masks, write_packed_tracklet
from lightning_reid.packed_tracklets.store import TrackletStore, content_digest

__all__ = [
    "Encoding",
    "PackedTracklet",
    "TrackletStore",
    "content_digest",
    "encoded_jpeg",
    "picture_masks",
    "write_packed_tracklet",
]
