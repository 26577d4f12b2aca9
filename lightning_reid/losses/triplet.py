"""Triplet losses: hardest pairs (Hermans et al.), softmax-weighted pairs (HSR, eq. 4.2), and those within given masks (ICM).

All of them share two rules. An anchor without a positive or without a negative is left out of the mean; a batch without any
anchor gives 0 *with* a gradient graph (all zeros), so that no process of a DDP job waits for a backward pass that never comes.
And ``group_size`` mines within consecutive groups of rows and averages the groups' losses, which makes one process with
``G * group_size`` samples equal to G processes with ``group_size`` each (DDP averages over ranks).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_number, require_switch
from lightning_reid.losses.distances import DistanceName, pairwise_distances

TripletForm = Literal["anchor", "triple"]
TRIPLET_FORMS = get_args(TripletForm)  # here, as torch 2.6 does not compile the call


def batch_hard_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float | None = None,
    distance: DistanceName = "euclidean",
    group_size: int | None = None,
) -> Tensor:
    """``mean_a F(max_p d(a, p) - min_n d(a, n))`` over the anchors of the batch that have both.

    Source: Hermans et al. 2017 (arXiv:1703.07737), eq. 5 (batch hard) and section 2.2 (soft margin).

    Args:
        embeddings: ``[B, D]`` float.
        labels: ``[B]`` int64; rows labeled -1 (noise) take no part, neither as anchors nor as negatives.
        margin: F is the softplus for ``None`` (soft margin), else the hinge ``max(0, margin + x)``.
        distance: ``"euclidean"`` or ``"cosine"``, see ``pairwise_distances``.
        group_size: Mine within consecutive groups of so many rows; ``None`` is one group.

    Returns:
        Scalar, float32 for half-precision embeddings, else of their dtype.

    Raises:
        ValueError: Shapes, ``margin``, ``distance`` or ``group_size`` do not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import batch_hard_triplet_loss
        >>> embeddings, labels = torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
        >>> batch_hard_triplet_loss(embeddings, labels, margin=2.0)  # the mean of 0, 2 + 1 - 2, 2 + 1 - 2 and 0
        tensor(0.5000)
    """
    positives, negatives = _label_masks(embeddings, labels)
    positives, negatives, groups = _within_groups(positives, negatives, None, group_size)
    distances = pairwise_distances(embeddings, embeddings, distance)
    if not len(distances):
        return distances.sum()  # there is no hardest pair of no pairs
    farthest = distances.masked_fill(~positives, -torch.inf).amax(1)
    nearest = distances.masked_fill(~negatives, torch.inf).amin(1)
    valid = positives.any(1) & negatives.any(1)
    # Without `where` an anchor left out would send inf - inf through the penalty, and NaN back through its gradient.
    losses = _penalty(torch.where(valid, farthest - nearest, 0), margin)
    return _mean_over_groups(losses, valid, groups)


def weighted_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    form: TripletForm = "anchor",
    detach_weights: bool = False,
    margin: float | None = None,
    distance: DistanceName = "euclidean",
    group_size: int | None = None,
) -> Tensor:
    """Weighted triplet loss of HSR, eq. 4.2, with positives and negatives by label.

    As ``masked_weighted_triplet_loss`` with ``positives[a, b]`` the other rows of a's label and ``negatives[a, b]`` the rows of
    other labels; rows labeled -1 (noise) take no part.

    Args:
        embeddings: ``[B, D]`` float.
        labels: ``[B]`` int64.
        form: See ``masked_weighted_triplet_loss``, as for all that follow.
        detach_weights: Stop the gradient in the weights.
        margin: ``None`` for the softplus, else a hinge.
        distance: ``"euclidean"`` or ``"cosine"``.
        group_size: Mine within consecutive groups of so many rows.

    Raises:
        ValueError: Shapes, ``form``, ``margin``, ``distance`` or ``group_size`` do not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import weighted_triplet_loss
        >>> embeddings, labels = torch.tensor([[0.0], [2.0], [1.0]]), torch.tensor([0, 0, 1])
        >>> weighted_triplet_loss(embeddings, labels, margin=0.5)  # 0.5 + 2 - 1 of either anchor; the third has no positive
        tensor(1.5000)
    """
    positives, negatives = _label_masks(embeddings, labels)
    return masked_weighted_triplet_loss(
        embeddings,
        positives,
        negatives,
        form=form,
        detach_weights=detach_weights,
        margin=margin,
        distance=distance,
        group_size=group_size,
    )


def masked_weighted_triplet_loss(
    embeddings: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    anchors: Tensor | None = None,
    form: TripletForm = "anchor",
    detach_weights: bool = False,
    margin: float | None = None,
    distance: DistanceName = "euclidean",
    group_size: int | None = None,
) -> Tensor:
    """Weighted triplet loss (HSR, eq. 4.2) over given positives and negatives, the L_ICM of HSR, section 4.3.2.

    The weights are ``w_p = softmax(d)`` over the anchor's positives (far ones count) and ``w_n = softmax(-d)`` over its negatives
    (near ones count). With ``form="anchor"``, the form of Ristani & Tomasi 2018 (arXiv:1803.10859, eq. 3-4) which the text cites::

        mean_a F(sum_p w_p d(a, p) - sum_n w_n d(a, n))

    With ``form="triple"``, as eq. 4.2 is printed::

        mean_a sum_p sum_n F(w_p d(a, p) - w_n d(a, n))

    where only the mean over anchors is ours. Its terms do not vanish for far negatives (w_n d is small there) and its gradient
    grows with the number of triples per anchor; lower the learning rate before comparing the two.

    Args:
        embeddings: ``[B, D]`` float.
        positives: ``[A, B]`` bool; row a marks the positives of anchor a. The anchor itself counts if it is marked.
        negatives: ``[A, B]`` bool, disjoint from ``positives``.
        anchors: ``[A]`` int64 rows of ``embeddings``; ``None`` takes every row as an anchor (A = B).
        form: One penalty per anchor, or one per triple.
        detach_weights: Treat the weights as constants; by default they are differentiated through, as in the original.
        margin: F is the softplus for ``None``, as in the text, else the hinge ``max(0, margin + x)``.
        distance: ``"euclidean"`` or ``"cosine"``, see ``pairwise_distances``.
        group_size: Mine within consecutive groups of so many rows of ``embeddings``; pairs across groups are ignored.

    Returns:
        Scalar, float32 for half-precision embeddings, else of their dtype.

    Raises:
        ValueError: Shapes, ``form``, ``margin``, ``distance`` or ``group_size`` do not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import masked_weighted_triplet_loss
        >>> embeddings = torch.tensor([[0.0], [2.0], [1.0]])
        >>> positives, negatives = torch.tensor([[False, True, False]]), torch.tensor([[False, False, True]])
        >>> masked_weighted_triplet_loss(embeddings, positives, negatives, anchors=torch.tensor([0]), margin=0.5)  # 0.5 + 2 - 1
        tensor(1.5000)
    """
    require_choice("form", form, TRIPLET_FORMS)
    require_switch("detach_weights", detach_weights)
    rows = embeddings if anchors is None else embeddings[anchors]
    _check_masks(positives, negatives, (len(rows), len(embeddings)))
    positives, negatives, groups = _within_groups(positives, negatives, anchors, group_size)
    distances = pairwise_distances(rows, embeddings, distance)
    valid = positives.any(1) & negatives.any(1)
    far = _weighted(distances, positives, 1, detach_weights)
    near = _weighted(distances, negatives, -1, detach_weights)
    if form == "anchor":
        losses = _penalty(far.sum(1) - near.sum(1), margin)
    else:
        triples = positives[:, :, None] & negatives[:, None, :]
        penalties = _penalty(far[:, :, None] - near[:, None, :], margin)
        losses = torch.where(triples, penalties, 0).sum((1, 2))
    return _mean_over_groups(losses, valid, groups)


def has_triplets(labels: Tensor) -> bool:
    """Whether any of ``labels [B]`` has a positive and a negative among the others; without, every loss here is 0.

    Waits for the device.
    """
    positives, negatives = _label_masks(labels[:, None], labels)
    return bool((positives.any(1) & negatives.any(1)).any())


def _weighted(distances: Tensor, mask: Tensor, sign: int, detach_weights: bool) -> Tensor:
    """``w * d`` with ``w = softmax(sign * d)`` over the marked entries of each row, 0 elsewhere; rows without any are 0."""
    # The most negative finite number, not -inf: a row without any mark would turn into NaN, and so would its gradient.
    scores = (sign * distances).masked_fill(~mask, torch.finfo(distances.dtype).min)
    weights = torch.where(mask, scores.softmax(1), 0)
    return (weights.detach() if detach_weights else weights) * torch.where(mask, distances, 0)


def _penalty(difference: Tensor, margin: float | None) -> Tensor:
    """F of eq. 4.2: ``log(1 + exp(x))``, or the hinge ``max(0, margin + x)``."""
    if margin is None:
        return F.softplus(difference)
    require_number("margin", margin, low=0)
    return (difference + margin).relu()


def _label_masks(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positives (same label, not the row itself) and negatives (other label), both ``[B, B]`` bool and blind to label -1."""
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"expected one label per embedding, got labels {tuple(labels.shape)} for embeddings {tuple(embeddings.shape)}")
    same = labels[:, None] == labels[None, :]
    known = (labels >= 0)[:, None] & (labels >= 0)[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & known & ~itself, ~same & known


def _check_masks(positives: Tensor, negatives: Tensor, shape: tuple[int, int]) -> None:
    for name, mask in (("positives", positives), ("negatives", negatives)):
        if mask.shape != shape or mask.dtype != torch.bool:
            raise ValueError(f"{name} must be bool {list(shape)} (anchors x embeddings), got {mask.dtype} {list(mask.shape)}")


def _within_groups(
    positives: Tensor, negatives: Tensor, anchors: Tensor | None, group_size: int | None
) -> tuple[Tensor, Tensor, tuple[Tensor, int] | None]:
    """Masks without the pairs across groups, and ``(group of each anchor, number of groups)``; ``None`` for one single group."""
    size = positives.shape[1]
    if group_size is None or group_size == size:
        return positives, negatives, None
    require_count("group_size", group_size)
    if size % group_size:
        raise ValueError(f"a batch of {size} cannot be cut into groups of {group_size}: make the batch size a multiple of group_size")
    columns = torch.arange(size, device=positives.device) // group_size
    rows = columns if anchors is None else columns[anchors]
    together = rows[:, None] == columns[None, :]
    return positives & together, negatives & together, (rows, size // group_size)


def _mean_over_groups(losses: Tensor, valid: Tensor, groups: tuple[Tensor, int] | None) -> Tensor:
    """Mean over the groups of the mean over each group's valid anchors; a group without any counts as 0, as an idle rank would."""
    losses, counts = torch.where(valid, losses, 0), valid.to(losses.dtype)
    if groups is None:
        return losses.sum() / counts.sum().clamp(min=1)
    rows, num_groups = groups
    empty = losses.new_zeros(num_groups)
    return (empty.index_add(0, rows, losses) / empty.index_add(0, rows, counts).clamp(min=1)).mean()
