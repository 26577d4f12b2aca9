"""Which images of a batch are positives and negatives of each other under inter-camera mining."""

from __future__ import annotations

from torch import Tensor

from lightning_reid.records import InterCameraPairs


def inter_camera_masks(indices: Tensor, labels: Tensor, pairs: InterCameraPairs) -> tuple[Tensor, Tensor]:
    """Masks of the inter-camera triplet loss for a batch.

    Positives of anchor i are its mutual neighbours; negatives are the images of another pseudo-label that are also not in
    ``Rank(i)``. Source: HSR, section 4.3.2.

    Args:
        indices: ``[B]`` int64 rows of the N images; a row may occur more than once.
        labels: ``[N]`` int64 pseudo-labels.
        pairs: Neighbour lists of the N images.

    Returns:
        ``positives`` and ``negatives``, ``[B, B]`` bool; row i belongs to the i-th image of the batch as anchor.
    """
    listed = pairs.ranked[indices].unsqueeze(2) == indices  # [B, K, B]
    positives = (listed & pairs.mutual[indices].unsqueeze(2)).any(1)
    negatives = (labels[indices].unsqueeze(1) != labels[indices]) & ~listed.any(1)
    return positives, negatives
