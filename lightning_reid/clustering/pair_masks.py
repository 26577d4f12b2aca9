"""Which images of a batch are positives and negatives of each other under inter-camera mining."""

from __future__ import annotations

from torch import Tensor

from lightning_reid.records import InterCameraPairs


def inter_camera_masks(indices: Tensor, labels: Tensor, pairs: InterCameraPairs) -> tuple[Tensor, Tensor]:
    """Masks of the inter-camera triplet loss for a batch.

    Positives of anchor i are its mutual neighbors; negatives are the images of another pseudo-label that are also not in
    ``Rank(i)``. Source: HSR, section 4.3.2. It does not say what noise is; here it shares a pseudo-label with nobody, noise included, as in
    ``pair_statistics``.

    Args:
        indices: ``[B]`` int64 rows of the N images; a row may occur more than once.
        labels: ``[N]`` int64 pseudo-labels, -1 noise.
        pairs: Neighbor lists of the N images.

    Returns:
        ``positives`` and ``negatives``, ``[B, B]`` bool; row i belongs to the i-th image of the batch as anchor.
    """
    listed = pairs.ranked[indices].unsqueeze(2) == indices  # [B, K, B]
    positives = (listed & pairs.mutual[indices].unsqueeze(2)).any(1)
    own = labels[indices]
    same = ((own.unsqueeze(1) == own) & (own >= 0)) | (indices.unsqueeze(1) == indices)
    negatives = ~same & ~listed.any(1)
    return positives, negatives
