"""Exact nearest neighbors, a tile of the distance matrix at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision, squared_distances, squared_norms


@torch.no_grad()
def nearest_neighbors(embeddings: Tensor, k: int, *, groups: Tensor | None = None, tile: int = 2048) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest points of every point by squared Euclidean distance, exact, nearest first.

    Every point stands first in its own list, at distance 0, also when others have the very same embedding. Other ties
    are broken arbitrarily. Only tiles on and above the diagonal of the distance matrix are computed, each serves its rows and its
    columns: half the arithmetic of the plain search.

    The embeddings are not normalized here. "Exact" is what matrix products are: after ``torch.set_float32_matmul_precision("medium")`` or
    ``"high"`` a device may round their factors to fewer bits, and near ties may fall the other way.

    Args:
        embeddings: ``[N, D]`` float on any device; 16-bit floats are searched in float32.
        k: Length of the lists, at least 1; may exceed N.
        groups: ``[N]`` int64, points of the same group are left out of each other's lists, the point itself with them
            (camera ids: the inter-camera lists of HSR).
        tile: Edge of the tiles; the search needs memory for about three of them.

    Returns:
        ``indices [N, k]`` int64 and ``distances [N, k]``, squared; -1 and infinity where there are fewer than ``k`` points.

    Raises:
        ValueError: ``k`` or ``tile`` below 1, ``groups`` of another length, embeddings that are not finite.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import nearest_neighbors
        >>> indices, squared = nearest_neighbors(torch.tensor([[0.0], [1.0], [3.0]]), k=2)
        >>> indices.tolist(), squared.tolist()
        ([[0, 1], [1, 0], [2, 1]], [[0.0, 1.0], [0.0, 1.0], [0.0, 4.0]])
    """
    points = in_full_precision(embeddings)
    norms = squared_norms(points)
    total = len(points)
    if k < 1 or tile < 1:
        raise ValueError(f"k and tile must be at least 1, got {k} and {tile}")
    if groups is not None and groups.shape != (total,):
        raise ValueError(f"groups must hold one number for each of the {total} embeddings, got shape {tuple(groups.shape)}")
    distances = norms.new_full((total, k), torch.inf)
    indices = torch.full((total, k), -1, dtype=torch.int64, device=points.device)
    for start in range(0, total, tile):
        rows = slice(start, min(start + tile, total))
        for first in range(start, total, tile):
            columns = slice(first, min(first + tile, total))
            block = squared_distances(points[rows], points[columns], norms[rows], norms[columns])
            if groups is not None:
                block.masked_fill_(groups[rows, None] == groups[None, columns], torch.inf)
            elif first == start:
                block.fill_diagonal_(-1)  # below any distance: a duplicate cannot push the point out of its own first place
            _keep_nearest(distances[rows], indices[rows], block, first)
            if first > start:
                _keep_nearest(distances[columns], indices[columns], block.T.contiguous(), start)
    indices[distances.isinf()] = -1
    return indices, distances.clamp_(min=0)


def _keep_nearest(distances: Tensor, indices: Tensor, block: Tensor, first: int) -> None:
    """Merge a block ``[R, C]``, whose columns are the points from ``first`` on, into the lists ``[R, k]`` of its rows, in place."""
    k = distances.shape[1]
    near, places = block.topk(min(k, block.shape[1]), dim=1, largest=False)
    near, places = torch.cat([distances, near], dim=1), torch.cat([indices, places + first], dim=1)
    kept = near.topk(k, dim=1, largest=False)
    distances.copy_(kept.values)
    indices.copy_(places.gather(1, kept.indices))
