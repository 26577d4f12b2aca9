"""The triplet loss that learns from unlabeled images before they have any pseudo-labels (SGC-DPL, section 3.3.1)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count
from lightning_reid.losses.distances import DistanceName, pairwise_distances
from lightning_reid.losses.triplet import masked_weighted_triplet_loss

NegativeChoice = Literal["random", "hardest"]
NEGATIVE_CHOICES = get_args(NegativeChoice)  # here, as torch 2.6 does not compile the call


def augmented_triplet_loss(
    embeddings: Tensor,
    rows: Tensor,
    *,
    negatives: NegativeChoice = "random",
    margin: float | None = None,
    distance: DistanceName = "euclidean",
    group_size: int | None = None,
) -> Tensor:
    """``mean_a F(max_p d(a, p) - d(a, n))`` over the unlabeled views a of the batch.

    Source: SGC-DPL, section 3.3.1. The positives p of a view are the other augmented views of the same image. Its negative n is one of
    the labeled images: labeled and unlabeled identities are disjoint, so each of them shows somebody else, whereas two unlabeled
    images may show one person and are never compared. Labeled images are no anchors, as no augmented pair is theirs; the batch-hard
    loss over their labels comes beside this one.

    Args:
        embeddings: ``[B, D]`` float, labeled images and unlabeled views in any order.
        rows: ``[B]`` int64; which unlabeled image a view shows, -1 for a labeled image.
        negatives: ``"random"`` as in the text: the a-th view of a group is set against its a-th labeled image, in turn, which is a random
            one as the batch was drawn at random. ``"hardest"`` takes the nearest one, as the batch-hard loss does; it can drive labeled
            and unlabeled images apart as a whole where the labeled identities are few.
        margin: F is the softplus for ``None`` (soft margin), else the hinge ``max(0, margin + x)``.
        distance: ``"euclidean"`` or ``"cosine"``, see ``pairwise_distances``.
        group_size: Mine within consecutive groups of so many rows; ``None`` is one group.

    Returns:
        Scalar, float32 for half-precision embeddings, else of their dtype. 0, with a gradient graph, without any triplet.

    Raises:
        ValueError: Shapes, ``negatives``, ``margin``, ``distance`` or ``group_size`` do not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import augmented_triplet_loss
        >>> embeddings = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 2.0]])
        >>> rows = torch.tensor([-1, 0, 0])  # a labeled image, and two views of unlabeled image 0
        >>> augmented_triplet_loss(embeddings, rows, margin=0.5)  # 0.5 + 2 - 1, of either view
        tensor(1.5000)
    """
    require_choice("negatives", negatives, NEGATIVE_CHOICES)
    require_count("group_size", group_size, optional=True)
    if rows.shape != embeddings.shape[:1]:
        raise ValueError(f"expected one row number per embedding, got rows {tuple(rows.shape)} for embeddings {tuple(embeddings.shape)}")
    same_image, labeled = _augmented_pairs(rows, group_size)
    if len(rows):
        distances = pairwise_distances(embeddings.detach(), embeddings.detach(), distance)
        same_image = _only(distances.masked_fill(~same_image, -torch.inf).argmax(1), same_image)
        nearest = distances.masked_fill(~labeled, torch.inf).argmin(1)
        labeled = _only(nearest, labeled) if negatives == "hardest" else _in_turn(labeled)
    # with a single pair of each kind all weights are 1: the weighted loss is the hardest-pair loss
    return masked_weighted_triplet_loss(embeddings, same_image, labeled, margin=margin, distance=distance, group_size=group_size)


def _augmented_pairs(rows: Tensor, group_size: int | None) -> tuple[Tensor, Tensor]:
    """Other views of the same image, and labeled images, of every unlabeled view: two ``[B, B]`` bool masks."""
    views = rows >= 0
    places = torch.arange(len(rows), device=rows.device)
    groups = places // max(1, group_size or len(rows))
    mineable = views[:, None] & (groups[:, None] == groups[None, :])
    positives = mineable & (rows[:, None] == rows[None, :]) & (places[:, None] != places[None, :])
    return positives, mineable & ~views[None, :]


def _only(chosen: Tensor, mask: Tensor) -> Tensor:
    """``mask [A, B]`` without all but the chosen column of each row."""
    return mask & F.one_hot(chosen, mask.shape[1]).bool()


def _in_turn(mask: Tensor) -> Tensor:
    """``mask [A, B]`` without all but one column of each row: of rows with the same mask the first keeps the first column, and so on."""
    in_one_group = mask.float() @ mask.float().T > 0  # masks are those of groups: any two are equal or have nothing in common
    turn = in_one_group.tril(-1).sum(1)
    return mask & (mask.cumsum(1) - 1 == (turn % mask.sum(1).clamp(min=1))[:, None])
