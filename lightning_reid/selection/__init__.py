"""Which pseudo-labels to believe, and how firmly: pure functions of progressive learning (SGC-DPL, sections 3.3.6 and 3.3.7)."""

from lightning_reid.selection.distance_threshold import distance_threshold
from lightning_reid.selection.reliable import reliable_images
from lightning_reid.selection.soft_labels import soft_pseudo_labels

__all__ = [
    "distance_threshold",
    "reliable_images",
    "soft_pseudo_labels",
]
