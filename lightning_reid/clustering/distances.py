"""Squared Euclidean distances of a few rows at a time, and the check that embeddings are fit to be measured."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_norms(embeddings: Tensor, name: str = "embeddings") -> Tensor:
    """Squared length of every row, after making sure that every row has one.

    Args:
        embeddings: ``[N, D]`` float32 or float64.
        name: What the error calls them, so that it says which step met the bad rows.

    Returns:
        ``[N]``, same dtype and device.

    Raises:
        ValueError: The embeddings are no ``[N, D]`` floats, or a row is not finite or too long to be squared.
    """
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ValueError(f"{name} must be [N, D] floats, got {embeddings.dtype} of shape {tuple(embeddings.shape)}")
    norms: Tensor = torch.linalg.vector_norm(embeddings, dim=1).square()
    # a distance reaches four times the larger norm: what would overflow there is refused here
    bad = (~torch.isfinite(4 * norms)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{name}: {len(bad)} of {len(embeddings)} rows hold NaN, infinity or numbers too large to be squared, the first is row"
            f" {int(bad[0])}; look for a diverged network or an overflow in 16-bit precision before clustering"
        )
    return norms


def in_full_precision(embeddings: Tensor) -> Tensor:
    """Without gradient; 16-bit floats become float32, because differences of near neighbours vanish in fewer bits."""
    embeddings = embeddings.detach()
    return embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings


def squared_distances(rows: Tensor, columns: Tensor, row_norms: Tensor, column_norms: Tensor) -> Tensor:
    """``|a|^2 + |b|^2 - 2 ab`` of ``[A, D]`` against ``[B, D]``, clipped at 0: ``[A, B]``."""
    return torch.addmm(column_norms, rows, columns.T, alpha=-2).add_(row_norms[:, None]).clamp_(min=0)
