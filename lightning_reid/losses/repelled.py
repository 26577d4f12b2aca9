"""Classification against a table of cluster embeddings that no gradient moves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_number


def repelled_loss(embeddings: Tensor, labels: Tensor, table: Tensor, temperature: float = 0.1) -> Tensor:
    """``-mean_i log softmax(V v_i / tau)_{y_i}``, in nats: images near their cluster's row, clusters away from each other.

    Source: Lin et al. 2019 (bottom-up clustering), eq. 1 and 2. Rows that are still zero count in the denominator, as in the public code.

    Args:
        embeddings: v ``[B, D]`` float of length 1, with gradient; half precision is computed in float32.
        labels: ``[B]`` int64 in ``0..K-1``.
        table: V ``[K, D]`` float, see ``updated_table``; no gradient flows into it.
        temperature: tau, above 0.

    Returns:
        Scalar; 0 for a batch of 0 images.

    Raises:
        ValueError: The shapes do not fit, or the temperature is not positive.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import repelled_loss
        >>> embeddings, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
        >>> repelled_loss(embeddings, labels, table=torch.eye(2), temperature=1.0)  # cosines 1 and 0: log(1 + exp(-1))
        tensor(0.3133)
    """
    _check(embeddings, labels, table)
    require_number("temperature", temperature, above=0)
    with torch.autocast(embeddings.device.type, enabled=False):
        mine = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        logits = mine @ table.detach().to(mine.dtype).T / temperature
        return F.cross_entropy(logits, labels, reduction="sum") / max(1, len(mine))


@torch.no_grad()
def updated_table(table: Tensor, embeddings: Tensor, labels: Tensor, momentum: float = 0.5) -> Tensor:
    """A new table: ``V_y = normalize(momentum V_y + (1 - momentum) v)``, image by image in the order of the batch.

    Source: Lin et al. 2019, section 3.2; the public code's average of row and image is momentum 0.5.

    Args:
        table: V ``[K, D]`` float; zeros for clusters of which no image was seen.
        embeddings: v ``[B, D]`` float of length 1.
        labels: ``[B]`` int64 in ``0..K-1``.
        momentum: In [0, 1).

    Raises:
        ValueError: The shapes do not fit, or the momentum is out of range.
    """
    _check(embeddings, labels, table)
    require_number("momentum", momentum, low=0, below=1)
    updated = table.clone()
    turns = _turns(labels)
    for turn in range(int(turns.max()) + 1 if len(turns) else 0):  # images of different clusters do not meet
        rows = (turns == turn).nonzero().flatten()
        mixed = momentum * updated[labels[rows]] + (1 - momentum) * embeddings[rows].to(updated.dtype)
        updated[labels[rows]] = F.normalize(mixed, dim=1)
    return updated


def _turns(labels: Tensor) -> Tensor:
    """``[B]`` int64: how many earlier rows have the same label."""
    order = labels.argsort(stable=True)
    in_order = labels[order]
    first = torch.searchsorted(in_order, in_order)
    turns = torch.empty_like(labels)
    turns[order] = torch.arange(len(labels), device=labels.device) - first
    return turns


def _check(embeddings: Tensor, labels: Tensor, table: Tensor) -> None:
    if embeddings.ndim != 2 or table.ndim != 2 or embeddings.shape[1] != table.shape[1] or labels.shape != embeddings.shape[:1]:
        shapes = (tuple(embeddings.shape), tuple(labels.shape), tuple(table.shape))
        raise ValueError(f"need embeddings [B, D], labels [B] and a table [K, D], got {shapes[0]}, {shapes[1]} and {shapes[2]}")
