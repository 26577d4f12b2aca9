"""Losses of person re-identification as pure functions: tensors in, a scalar out."""

from lightning_reid.losses.classification import label_smoothed_cross_entropy
from lightning_reid.losses.distances import DistanceName, pairwise_distances
from lightning_reid.losses.triplet import batch_hard_triplet_loss, masked_weighted_triplet_loss, weighted_triplet_loss

__all__ = [
    "DistanceName",
    "batch_hard_triplet_loss",
    "label_smoothed_cross_entropy",
    "masked_weighted_triplet_loss",
    "pairwise_distances",
    "weighted_triplet_loss",
]
