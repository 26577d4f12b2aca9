"""Squared Euclidean distances of a few rows at a time, and the check that embeddings are fit to be measured."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_A_TIME = 1024


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
    """The embeddings without gradient; 16-bit floats become float32, because differences of near neighbors vanish in fewer bits."""
    embeddings = embeddings.detach()
    return embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings


def squared_distances(rows: Tensor, columns: Tensor, row_norms: Tensor, column_norms: Tensor) -> Tensor:
    """``|a|^2 + |b|^2 - 2 ab`` of ``[A, D]`` against ``[B, D]``, clipped at 0: ``[A, B]``."""
    return torch.addmm(column_norms, rows, columns.T, alpha=-2).add_(row_norms[:, None]).clamp_(min=0)


def negative_squared_distances(points: Tensor) -> Tensor:
    """Minus the squared distances of ``[N, D]`` points: ``[N, N]``, symmetric to rounding, 0 on the diagonal.

    16-bit floats are compared in float32. Memory is that of the result, 4 N^2 bytes in float32.

    Raises:
        ValueError: The points are no ``[N, D]`` floats, or not finite.
    """
    points = in_full_precision(points)
    norms, similarity = squared_norms(points), points.new_empty(len(points), len(points))
    for start in range(0, len(points), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        similarity[rows] = squared_distances(points[rows], points, norms[rows], norms).neg_()
    similarity.diagonal().zero_()
    return similarity


def median_similarity(similarity: Tensor) -> float:
    """The lower median of the entries off the diagonal of ``[N, N]``, N at least 2: the usual preference of affinity propagation.

    Needs a copy of the similarity.

    Source: Frey and Dueck 2007, Science 315:972; scikit-learn's also counts the diagonal.
    """
    total = len(similarity)
    # a matrix without its diagonal, seen as rows of N + 1 entries of which the first is on it
    others = similarity.flatten()[1:].view(total - 1, total + 1)[:, :total]
    return others.reshape(-1).median().item()


def sampled_median_similarity(points: Tensor, *, num_rows: int = 1000) -> float:
    """``median_similarity`` of minus the squared distances of ``[N, D]`` points, N at least 2, estimated from some of its rows.

    The rows are evenly spaced; exact for N up to ``num_rows``.
    """
    points = in_full_precision(points)
    rows = torch.linspace(0, len(points) - 1, min(num_rows, len(points)), device=points.device).round().long()
    norms = squared_norms(points)
    similarity = squared_distances(points[rows], points, norms[rows], norms).neg_()
    others = torch.ones_like(similarity, dtype=torch.bool).scatter_(1, rows[:, None], False)
    return similarity[others].median().item()
