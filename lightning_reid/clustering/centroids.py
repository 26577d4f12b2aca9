"""Cluster means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cluster_centroids(embeddings: Tensor, labels: Tensor) -> Tensor:
    """L2-normalised mean embedding of every cluster; noise (-1) is left out.

    Args:
        embeddings: ``[N, D]`` float.
        labels: ``[N]`` int64 in ``-1..C-1``, every cluster with at least one member.

    Returns:
        ``[C, D]``, dtype and device of ``embeddings``.
    """
    kept = labels >= 0
    num_clusters = int(labels.max()) + 1
    sums = torch.zeros(num_clusters, embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device)
    sums.index_add_(0, labels[kept], embeddings[kept])
    return F.normalize(sums, dim=1)
