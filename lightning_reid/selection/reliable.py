"""Which images are near enough to their exemplar."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision


def reliable_images(embeddings: Tensor, labels: Tensor, exemplars: Tensor, threshold: float, *, chunk_size: int = 4096) -> Tensor:
    """``|f(x) - f(exemplar of x)|^2 < threshold`` (SGC-DPL, eq. 3.4).

    An exemplar is at distance 0 of itself: every cluster keeps it as soon as the threshold is above 0. At 0 and below nothing is
    reliable; at infinity everything is, noise excepted.

    Args:
        embeddings: ``[N, D]`` float, those that were clustered.
        labels: ``[N]`` int64 clusters ``0..C-1``; -1 (noise) is never reliable.
        exemplars: ``[C]`` int64, row of the exemplar of each cluster.
        threshold: tau, a squared distance.
        chunk_size: Rows measured at a time, which bounds the memory beside the embeddings.

    Returns:
        ``[N]`` bool.

    Raises:
        ValueError: Shapes or ranges do not fit, or the threshold is NaN.

    Example:
        >>> import torch
        >>> from lightning_reid.selection import reliable_images
        >>> embeddings, labels = torch.tensor([[0.0], [1.0], [3.0], [9.0]]), torch.tensor([0, 0, 0, -1])
        >>> reliable_images(embeddings, labels, exemplars=torch.tensor([0]), threshold=4.0).tolist()  # squared distances 0, 1 and 9
        [True, True, False, False]
    """
    if math.isnan(threshold):
        raise ValueError("threshold must be a squared distance, got NaN")
    if labels.shape != embeddings.shape[:1] or exemplars.ndim != 1:
        raise ValueError(
            f"need one label per embedding and exemplars [C], got labels {tuple(labels.shape)} and exemplars {tuple(exemplars.shape)}"
            f" for embeddings {tuple(embeddings.shape)}"
        )
    if len(labels) and int(labels.max()) >= len(exemplars):
        raise ValueError(f"labels name cluster {int(labels.max())}, but there are {len(exemplars)} exemplars: give one for each cluster")
    if len(exemplars) and not 0 <= int(exemplars.min()) <= int(exemplars.max()) < len(embeddings):
        raise ValueError(f"exemplars must be rows 0..{len(embeddings) - 1} of the embeddings, got {exemplars.tolist()}")
    embeddings = in_full_precision(embeddings)
    reliable = torch.zeros_like(labels, dtype=torch.bool)
    for rows in (labels >= 0).nonzero().flatten().split(chunk_size):
        gaps = embeddings[rows] - embeddings[exemplars[labels[rows]]]
        reliable[rows] = gaps.square().sum(1) < threshold
    return reliable
