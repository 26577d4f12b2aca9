"""Learning identities: what supervised modules of images and of clips minimize."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lightning_reid.losses.classification import label_smoothed_cross_entropy
from lightning_reid.losses.triplet import batch_hard_triplet_loss


class IdentityLosses(NamedTuple):
    """Scalars; what is minimized is their sum.

    Attributes:
        ce: Cross-entropy, in nats.
        triplet: Batch-hard triplet loss.
    """

    ce: Tensor
    triplet: Tensor


def identity_losses(
    logits: Tensor,
    embeddings: Tensor,
    pids: Tensor,
    *,
    label_smoothing: float = 0.0,
    margin: float | None = None,
    group_size: int | None = None,
) -> IdentityLosses:
    """Cross-entropy after the BNNeck, batch-hard triplet loss before it.

    Source: Luo et al. 2019 (arXiv:1903.07071), and NVAN, section 2.2.1 (feature pooling layer).

    Args:
        logits: ``[B, C]`` float, of the embeddings after the BNNeck.
        embeddings: ``[B, D]`` float, before the BNNeck.
        pids: ``[B]`` int64 in ``0..C-1``.
        label_smoothing: Share of the target probability spread over all identities, in [0, 1).
        margin: Of the triplet loss; ``None`` is the soft margin.
        group_size: Triplets are mined in consecutive groups of so many rows; ``None`` for the whole batch.

    Raises:
        ValueError: As :func:`label_smoothed_cross_entropy` and :func:`batch_hard_triplet_loss` say.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import identity_losses
        >>> embeddings, pids = torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
        >>> losses = identity_losses(logits=torch.zeros(4, 2), embeddings=embeddings, pids=pids, margin=2.0)
        >>> losses.ce, losses.triplet  # log 2, and the mean of 0, 1, 1 and 0
        (tensor(0.6931), tensor(0.5000))
    """
    ce = label_smoothed_cross_entropy(logits, pids, label_smoothing)
    return IdentityLosses(ce, batch_hard_triplet_loss(embeddings, pids, margin=margin, group_size=group_size))
