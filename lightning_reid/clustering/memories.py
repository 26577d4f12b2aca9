"""Memories of tracklets: one feature of all images of each."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count

MemoryKind = Literal["mean", "sum"]


def tracklet_memories(
    embeddings: Tensor, tracklets: Tensor, num_tracklets: int, *, kind: MemoryKind = "mean", centered: bool = False
) -> Tensor:
    """A row for each tracklet, of the embeddings of its images.

    Args:
        embeddings: ``[N, D]`` float, one an image, of any length.
        tracklets: ``[N]`` int64 in ``0..num_tracklets-1``, each at least once.
        num_tracklets: N_m.
        kind: ``"sum"`` of the embeddings is eq. 4 of the text, and follows the number of images in length; ``"mean"`` is the sum of
            embeddings of length 1, again of length 1.
        centered: Take the mean of all memories of the bank away and normalize again: what a camera's pictures have in common goes
            (after Song et al. 2025, arXiv:2502.10195).

    Returns:
        ``[num_tracklets, D]``, dtype of ``embeddings``.

    Raises:
        ValueError: Shapes do not fit, a tracklet has no image, or embeddings are not finite.

    Source: edge-device text, section 3.3, eq. 4.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering.memories import tracklet_memories
        >>> tracklet_memories(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 5.0]]), torch.tensor([0, 1, 1]), 2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    require_choice("kind", kind, get_args(MemoryKind))
    require_count("num_tracklets", num_tracklets, low=0)
    if embeddings.ndim != 2 or tracklets.shape != embeddings.shape[:1]:
        raise ValueError(f"need embeddings [N, D] and a tracklet for each, got {tuple(embeddings.shape)} and {tuple(tracklets.shape)}")
    if not bool(embeddings.isfinite().all()):
        row = int((~embeddings.isfinite().all(1)).nonzero()[0])
        raise ValueError(f"the embedding of image {row}, of tracklet {int(tracklets[row])}, holds NaN or infinity")
    counts = torch.bincount(tracklets, minlength=num_tracklets)
    if len(counts) != num_tracklets or bool((counts == 0).any()):
        raise ValueError(f"each of {num_tracklets} tracklets needs an image, got {counts.tolist()[:20]} of each")
    rows = embeddings if kind == "sum" else F.normalize(embeddings, dim=1)
    sums = torch.zeros(num_tracklets, embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device).index_add_(0, tracklets, rows)
    memories = sums if kind == "sum" else F.normalize(sums, dim=1)
    return F.normalize(memories - memories.mean(0), dim=1) if centered and num_tracklets > 1 else memories
