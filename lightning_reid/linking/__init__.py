"""Re-detect and link: choosing the person in each frame of a noisy tracklet, and aligning the frames to that person."""

from lightning_reid.linking.alignment import AlignedTracklet, align_tracklet

__all__ = [
    "AlignedTracklet",
    "align_tracklet",
]
