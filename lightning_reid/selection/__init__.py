"""Which pseudo-labels to believe, and how firmly: pure functions of progressive learning (SGC-DPL, sections 3.3.6 and 3.3.7)."""

from lightning_reid.selection.distance_threshold import DistanceThreshold, best_crossing, distance_threshold
from lightning_reid.selection.precision import precision_of_nearest, selection_precision
from lightning_reid.selection.reliable import reliable_images
from lightning_reid.selection.soft_labels import SoftLabelDistance, soft_pseudo_labels

__all__ = [
    "DistanceThreshold",
    "SoftLabelDistance",
    "best_crossing",
    "distance_threshold",
    "precision_of_nearest",
    "reliable_images",
    "selection_precision",
    "soft_pseudo_labels",
]
