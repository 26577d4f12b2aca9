"""The silhouette: how much nearer a point is to its own cluster than to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision, squared_distances, squared_norms


@torch.no_grad()
def silhouette_samples(embeddings: Tensor, labels: Tensor, *, tile: int = 1 << 24) -> Tensor:
    """``(b - a) / max(a, b)``: a the mean Euclidean distance to the others of the own cluster, b to the nearest other cluster.

    Noise (-1) takes no part, neither as a point nor as a neighbor. A cluster of one point scores 0, and so does a point with a = b = 0.

    Args:
        embeddings: ``[N, D]`` float on any device; 16-bit floats are measured in float32.
        labels: ``[N]`` int64, -1 noise; cluster numbers need not be consecutive.
        tile: Distances in memory at a time; beside them the sums of as many points over all C clusters.

    Returns:
        ``[N]`` in [-1, 1], float64 for float64 embeddings and float32 for all others; NaN where the label is -1.

    Raises:
        ValueError: Fewer than two clusters, lengths that differ, or embeddings that are not finite.

    Source: Rousseeuw 1987; HSR, section 4.3.3.
    """
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"silhouette: {len(embeddings)} embeddings need as many labels, got shape {tuple(labels.shape)}")
    clustered = labels >= 0
    points = in_full_precision(embeddings)[clustered]
    norms = squared_norms(points, "silhouette: embeddings")
    _, cluster, sizes = labels[clustered].unique(return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise ValueError(
            f"silhouette: needs at least two clusters, got {len(sizes)} with {len(points)} of {len(labels)} points (the rest is noise)"
        )
    scores = norms.new_full((len(labels),), torch.nan)
    rows_at_a_time = max(1, tile // len(points))
    places = torch.arange(len(points), device=points.device)
    scores[clustered] = torch.cat([_scores_of(rows, points, norms, cluster, sizes) for rows in places.split(rows_at_a_time)])
    return scores


def _scores_of(rows: Tensor, points: Tensor, norms: Tensor, cluster: Tensor, sizes: Tensor) -> Tensor:
    """Silhouettes of the points ``rows [R]``: clusters ``cluster [N]`` in ``0..C-1``, of ``sizes [C]``."""
    distances = squared_distances(points[rows], points, norms[rows], norms).sqrt_()
    distances.scatter_(1, rows[:, None], 0)  # rounding must not give a point a distance to itself
    sums = distances.new_zeros(len(rows), len(sizes)).index_add_(1, cluster, distances)
    own = cluster[rows, None]
    inside = (sums.gather(1, own) / (sizes[own] - 1).clamp(min=1)).squeeze(1)
    outside = (sums / sizes).scatter_(1, own, torch.inf).amin(dim=1)
    scores = (outside - inside) / torch.maximum(inside, outside)
    return scores.masked_fill((sizes[own].squeeze(1) == 1) | (torch.maximum(inside, outside) == 0), 0)
