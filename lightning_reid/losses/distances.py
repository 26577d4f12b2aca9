"""Distances between the embeddings of one batch, exact enough to be differentiated."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_choice

DistanceName = Literal["euclidean", "cosine"]
DISTANCES = get_args(DistanceName)  # here, as torch 2.6 does not compile the call


def pairwise_distances(rows: Tensor, columns: Tensor, distance: DistanceName = "euclidean") -> Tensor:
    """Distances ``[A, B]`` between ``rows [A, D]`` and ``columns [B, D]``, differentiable, small is near.

    ``"euclidean"`` is ``|x - y|`` (not squared), from the differences themselves: the usual ``|x|^2 + |y|^2 - 2xy`` cancels for
    near duplicates, just where the square root is steepest. Its gradient at distance 0 is 0. ``"cosine"`` is ``1 - cos(x, y)`` in
    [0, 2].

    Half-precision input is computed and returned in float32, also under autocast; float32 and float64 keep their dtype.

    Raises:
        ValueError: The shapes do not fit, or the distance is unknown.
    """
    if rows.ndim != 2 or columns.ndim != 2 or rows.shape[1] != columns.shape[1]:
        raise ValueError(f"embeddings must be [N, D] of one D, got {tuple(rows.shape)} and {tuple(columns.shape)}")
    require_choice("distance", distance, DISTANCES)
    dtype = torch.promote_types(rows.dtype, torch.float32)
    rows, columns = rows.to(dtype), columns.to(dtype)
    with torch.autocast(rows.device.type, enabled=False):
        if distance == "cosine":
            return 1 - F.normalize(rows, dim=1) @ F.normalize(columns, dim=1).T
        return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")
