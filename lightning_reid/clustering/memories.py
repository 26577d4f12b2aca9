"""Memories of tracklets: one feature of all images of each."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_switch
from lightning_reid.clustering.distances import in_full_precision

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
        ValueError: Shapes do not fit, a tracklet has no image, or embeddings are not finite or too long to be squared.

    Source: edge-device text, section 3.3, eq. 4.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering.memories import tracklet_memories
        >>> tracklet_memories(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 5.0]]), torch.tensor([0, 1, 1]), 2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    require_choice("kind", kind, get_args(MemoryKind))
    require_count("num_tracklets", num_tracklets, low=0)
    require_switch("centered", centered)
    if embeddings.ndim != 2 or not embeddings.is_floating_point() or tracklets.shape != embeddings.shape[:1]:
        told = f"{embeddings.dtype} {tuple(embeddings.shape)} and {tuple(tracklets.shape)}"
        raise ValueError(f"need embeddings [N, D] of floats and a tracklet for each, got {told}")
    if tracklets.dtype != torch.int64 or bool((tracklets < 0).any()):
        raise ValueError(f"tracklets must be int64 and at least 0, got {tracklets.dtype} {tracklets.tolist()[:20]}")
    broken = (~(4 * in_full_precision(embeddings).square().sum(1)).isfinite()).nonzero().flatten().tolist()
    if broken:
        where = f"image {broken[0]}, of tracklet {int(tracklets[broken[0]])},"
        raise ValueError(f"the embedding of {where} holds NaN, infinity or numbers too large to be squared")
    counts = torch.bincount(tracklets, minlength=num_tracklets)
    if len(counts) != num_tracklets or bool((counts == 0).any()):
        raise ValueError(f"each of {num_tracklets} tracklets needs an image, got {counts.tolist()[:20]} of each")
    rows = embeddings if kind == "sum" else F.normalize(embeddings, dim=1)
    sums = torch.zeros(num_tracklets, embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device).index_add_(0, tracklets, rows)
    memories = sums if kind == "sum" else F.normalize(sums, dim=1)
    return F.normalize(memories - memories.mean(0), dim=1) if centered and num_tracklets > 1 else memories
