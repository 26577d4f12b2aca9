"""The triplet loss that learns from unlabelled images before they have any pseudo-labels (SGC-DPL, section 3.3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.losses.distances import DistanceName, pairwise_distances
from lightning_reid.losses.triplet import masked_weighted_triplet_loss


def augmented_triplet_loss(
    embeddings: Tensor,
    rows: Tensor,
    *,
    margin: float | None = None,
    distance: DistanceName = "euclidean",
    group_size: int | None = None,
) -> Tensor:
    """``mean_a F(max_p d(a, p) - min_n d(a, n))`` over the unlabelled views a of the batch.

    Source: SGC-DPL, section 3.3.1. The positives p of a view are the other augmented views of the same image. Its negatives n are the
    labelled images: labelled and unlabelled identities are disjoint, so each of them shows somebody else, whereas two unlabelled
    images may show one person and are never compared. Labelled images are no anchors, as no augmented pair is theirs; the batch-hard
    loss over their labels comes beside this one. The text draws its negatives at random; the nearest one is taken here, as in the
    batch-hard loss which this one joins.

    Args:
        embeddings: ``[B, D]`` float, labelled images and unlabelled views in any order.
        rows: ``[B]`` int64; which unlabelled image a view shows, -1 for a labelled image.
        margin: F is the softplus for ``None`` (soft margin), else the hinge ``max(0, margin + x)``.
        distance: ``"euclidean"`` or ``"cosine"``, see ``pairwise_distances``.
        group_size: Mine within consecutive groups of so many rows; ``None`` is one group.

    Returns:
        Scalar, float32 for half-precision embeddings, else of their dtype. 0, with a gradient graph, without any triplet.

    Raises:
        ValueError: Shapes, ``margin``, ``distance`` or ``group_size`` do not fit.
    """
    if rows.shape != embeddings.shape[:1]:
        raise ValueError(f"expected one row number per embedding, got rows {tuple(rows.shape)} for embeddings {tuple(embeddings.shape)}")
    positives, negatives = _augmented_pairs(rows, group_size)
    if len(rows):
        distances = pairwise_distances(embeddings.detach(), embeddings.detach(), distance)
        positives = _only(distances.masked_fill(~positives, -torch.inf).argmax(1), positives)
        negatives = _only(distances.masked_fill(~negatives, torch.inf).argmin(1), negatives)
    # with a single pair of each kind all weights are 1: the weighted loss is the hardest-pair loss
    return masked_weighted_triplet_loss(embeddings, positives, negatives, margin=margin, distance=distance, group_size=group_size)


def _augmented_pairs(rows: Tensor, group_size: int | None) -> tuple[Tensor, Tensor]:
    """Other views of the same image, and labelled images, of every unlabelled view: two ``[B, B]`` bool masks."""
    views = rows >= 0
    places = torch.arange(len(rows), device=rows.device)
    groups = places // max(1, group_size or len(rows))
    mineable = views[:, None] & (groups[:, None] == groups[None, :])
    positives = mineable & (rows[:, None] == rows[None, :]) & (places[:, None] != places[None, :])
    return positives, mineable & ~views[None, :]


def _only(chosen: Tensor, mask: Tensor) -> Tensor:
    """``mask [A, B]`` without all but the chosen column of each row."""
    return mask & F.one_hot(chosen, mask.shape[1]).bool()
