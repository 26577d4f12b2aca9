"""How central a point is among all: the coefficient that makes preferences of affinity propagation adaptive."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.clustering.affinity_propagation import largest_similarity
from lightning_reid.clustering.distances import in_full_precision, squared_norms


@torch.no_grad()
def similarity_ranking(similarity: Tensor) -> Tensor:
    """``SR(i) = N * sum_{j != i} s(i, j) / sum_i sum_{j != i} s(i, j)``: below 1 for points in the middle, above for those at the rim.

    Its mean is 1. Points that are all equal are ranked alike, 1.

    Args:
        similarity: ``[N, N]`` float, not positive off the diagonal (minus squared distances); the diagonal is not used.

    Returns:
        ``[N]``, dtype and device of ``similarity``.

    Raises:
        ValueError: The similarity is not square, floating and finite, or positive somewhere: the quotient would rank nothing.

    Source: SGC-DPL, eq. 3.2.
    """
    largest_similarity(similarity)
    own = similarity.diagonal()
    positive = ((similarity > 0).sum(1) - (own > 0).long()).nonzero().flatten()
    if len(positive):
        raise ValueError(f"similarity must not be positive off the diagonal, as in row {int(positive[0])}: use minus the distances")
    sums = similarity.sum(1, dtype=torch.float64) - own
    total = sums.sum()
    ranking = len(sums) * sums / total if float(total) < 0 else torch.ones_like(sums)
    return ranking.to(similarity.dtype)


@torch.no_grad()
def embedding_ranking(embeddings: Tensor) -> Tensor:
    """``similarity_ranking`` of minus the squared distances of all points, in O(N D): no pair of points is looked at.

    ``sum_j |x_i - x_j|^2 = N |x_i - m|^2 + sum_j |x_j - m|^2`` with the mean m of all points.

    Args:
        embeddings: ``[N, D]`` float; 16-bit floats become float32.

    Returns:
        ``[N]``, dtype and device of the embeddings.

    Raises:
        ValueError: The embeddings are no ``[N, D]`` floats, or not finite.

    Source: SGC-DPL, eq. 3.2.
    """
    points = in_full_precision(embeddings)
    squared_norms(points)
    spread = (points.double() - points.double().mean(0)).square().sum(1)
    sums = len(points) * spread + spread.sum()
    total = sums.sum()
    return (len(points) * sums / total if float(total) > 0 else torch.ones_like(sums)).to(points.dtype)
