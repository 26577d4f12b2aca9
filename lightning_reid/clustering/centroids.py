"""Cluster means, and the members nearest to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cluster_centroids(embeddings: Tensor, labels: Tensor, num_clusters: int | None = None) -> Tensor:
    """The mean embedding of every cluster, as ``cluster_means`` gives it, L2-normalized: ``[C, D]``."""
    return F.normalize(_cluster_sums(embeddings, labels, num_clusters)[0], dim=1)


def cluster_means(embeddings: Tensor, labels: Tensor, num_clusters: int | None = None) -> Tensor:
    """Mean embedding of every cluster; noise (-1) is left out.

    Args:
        embeddings: ``[N, D]`` float.
        labels: ``[N]`` int64 in ``-1..C-1``.
        num_clusters: C; ``None`` is the largest label and one.

    Returns:
        ``[C, D]``, dtype and device of ``embeddings``; zeros for a cluster without members.
    """
    sums, sizes = _cluster_sums(embeddings, labels, num_clusters)
    return sums / sizes.clamp(min=1).to(sums.dtype)[:, None]


def cluster_medoids(embeddings: Tensor, labels: Tensor) -> Tensor:
    """``[C]`` int64, the member of every cluster that is nearest to its mean: an exemplar for clusters that have none.

    Args:
        embeddings: ``[N, D]`` float.
        labels: ``[N]`` int64 in ``-1..C-1``, every cluster with at least one member; of members at equal distance the first is taken.
    """
    rows = (labels >= 0).nonzero().flatten()
    of = labels[rows]
    distances = (embeddings[rows] - cluster_means(embeddings, labels)[of]).square().sum(1)
    nearest = torch.full((int(labels.max()) + 1,), torch.inf, dtype=distances.dtype, device=distances.device)
    nearest.scatter_reduce_(0, of, distances, "amin")
    candidates = torch.where(distances == nearest[of], rows, len(labels))
    return torch.full_like(nearest, len(labels), dtype=torch.int64).scatter_reduce_(0, of, candidates, "amin")


def _cluster_sums(embeddings: Tensor, labels: Tensor, num_clusters: int | None) -> tuple[Tensor, Tensor]:
    kept = labels >= 0
    sizes = labels[kept].bincount(minlength=num_clusters or 0)
    sums = torch.zeros(len(sizes), embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device)
    return sums.index_add_(0, labels[kept], embeddings[kept]), sizes
