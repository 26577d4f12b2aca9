"""A graph between the memories of several cameras: mutual nearest neighbors, and the triangles that edges form.

A memory is the feature of one tracklet, and two tracklets of one camera are two people (sparse space-time tracklets), which is a certainty
and not a belief.

Source: edge-device text, section 3.3; what it leaves empty (triangle relation, global label) is decided here and in ``camera_labels``.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from lightning_reid.arguments import require_count
from lightning_reid.clustering.distances import in_full_precision, squared_distances

ROWS_MEASURED_AT_A_TIME = 64
_COUNTED_AT_A_TIME = 4096


@torch.no_grad()
def mutual_top1(memories: Tensor, camids: Tensor, *, tile: int = 2048) -> Tensor:
    """Edges between memories of two cameras that are each other's nearest in the other's bank, by Euclidean distance.

    Of equally near memories the one in the lower row is the nearest, on both sides. Both sides of a pair are read off the same distances,
    so that rounding cannot make them disagree: of two cameras the edges are a matching, and a memory has at most M - 1 of them.

    Source: edge-device text, section 3.3, "mutual top1".

    Args:
        memories: ``[N, D]`` float, a row a tracklet.
        camids: ``[N]`` int64, the camera of each; rows of one camera need not stand together.
        tile: Edge of the tiles of a distance matrix that are held at a time.

    Returns:
        ``[E, 2]`` int64, rows u < v, in ascending order.

    Raises:
        ValueError: Lengths differ, cameras are not whole numbers, or a memory is not finite or too long for its distances; the message
            names its camera and row.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import mutual_top1
        >>> mutual_top1(torch.tensor([[0.0], [5.0], [0.1], [9.0]]), torch.tensor([1, 1, 2, 2])).tolist()
        [[0, 2], [1, 3]]
    """
    require_count("tile", tile)
    points, norms = _checked(memories, camids)
    cameras, of = camids.unique(return_inverse=True)
    banks = [(of == camera).nonzero().flatten() for camera in range(len(cameras))]
    rows = torch.arange(len(points), device=points.device)
    nearest = rows.repeat(len(banks), 1)  # [M, N]; what is kept of a pair has its place before: fragments between tiles would add up
    for a, b in combinations(range(len(banks)), 2):
        nearest[b, banks[a]], nearest[a, banks[b]] = _nearest(points, norms, banks[a], banks[b], tile)
    mutual = (nearest[of, nearest] == rows) & (rows < nearest)
    return ascending(torch.stack([rows.expand_as(nearest)[mutual], nearest[mutual]], dim=1))


def triangle_counts(edges: Tensor, num_memories: int) -> Tensor:
    """The number of triangles that each edge is part of: of memories that are joined to both of its ends.

    Args:
        edges: ``[E, 2]`` int64, each once.
        num_memories: N.

    Returns:
        ``[E]`` int64.

    Raises:
        ValueError: Edges are no pairs of different rows below ``num_memories``, or one is there twice.

    Source: edge-device text, sections 3.3 and 4.3 ("they form at least alpha triangles in the relationship graph").

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import triangle_counts
        >>> triangle_counts(torch.tensor([[0, 1], [0, 2], [1, 2], [2, 3]]), 4).tolist()
        [1, 1, 1, 0]
    """
    require_count("num_memories", num_memories, low=0)
    _check_edges(edges, num_memories)
    return torch.from_numpy(triangles(edges.cpu().numpy(), num_memories)).to(edges.device)


def adjacency(edges: NDArray[np.int64], number: int) -> csr_matrix:
    """The symmetric matrix ``[N, N]`` of a graph, 1 at its edges."""
    both = np.concatenate([edges, edges[:, ::-1]])
    return csr_matrix((np.ones(len(both), dtype=np.int64), (both[:, 0], both[:, 1])), shape=(number, number))


def triangles(edges: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Entries of the square of the adjacency at the edges alone: all of it would hold a number for each path of two edges."""
    matrix, counts = adjacency(edges, number), np.zeros(len(edges), dtype=np.int64)
    for start in range(0, len(edges), _COUNTED_AT_A_TIME):
        some = slice(start, start + _COUNTED_AT_A_TIME)
        counts[some] = matrix[edges[some, 0]].multiply(matrix[edges[some, 1]]).sum(axis=1).ravel()
    return counts


def ascending(edges: Tensor) -> Tensor:
    """Edges, each from its lower row to its higher one, and in the order of both."""
    edges = edges.sort(dim=1).values
    return edges[np.lexsort(edges.cpu().numpy().T[::-1]).copy()]


def _nearest(points: Tensor, norms: Tensor, a: Tensor, b: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """The nearest row of bank ``b`` for each of bank ``a``, and the nearest of ``a`` for each of ``b``, from the same distances."""
    of_a, of_b = (torch.full((len(bank),), torch.inf, dtype=points.dtype, device=points.device) for bank in (a, b))
    to_b, to_a = torch.zeros_like(a), torch.zeros_like(b)
    for start in range(0, len(a), tile):
        for first in range(0, len(b), tile):
            rows, columns = a[start : start + tile], b[first : first + tile]
            block = squared_distances(_taken(points, rows), _taken(points, columns), norms[rows], norms[columns])
            _keep_lower(of_a[start : start + tile], to_b[start : start + tile], block, first)
            _keep_lower(of_b[first : first + tile], to_a[first : first + tile], block.T, start)
    return b[to_b], a[to_a]


def _taken(points: Tensor, rows: Tensor) -> Tensor:
    """``points[rows]`` of ascending rows, without a copy where they stand together."""
    first, last = int(rows[0]), int(rows[-1])
    return points[first : last + 1] if last + 1 - first == len(rows) else points[rows]


def _keep_lower(distances: Tensor, places: Tensor, block: Tensor, first: int) -> None:
    """Merge the nearest columns of a block ``[R, C]`` into those of its rows, in place; the first of equals stays."""
    nearest, column = block.min(dim=1)  # of equals the first, as torch promises
    closer = nearest < distances
    distances[closer] = nearest[closer]
    places[closer] = column[closer] + first


def _checked(memories: Tensor, camids: Tensor) -> tuple[Tensor, Tensor]:
    """Memories in full precision, and their squared lengths."""
    if memories.ndim != 2 or not memories.is_floating_point() or camids.shape != memories.shape[:1]:
        told = f"{memories.dtype} {tuple(memories.shape)} and {tuple(camids.shape)}"
        raise ValueError(f"need memories [N, D] of floats and a camera for each, got {told}")
    if camids.dtype != torch.int64:
        raise ValueError(f"camids must be [N] int64, got {camids.dtype}")
    points = in_full_precision(memories)
    # not the square of a rounded root, which would tear equal distances apart
    norms = torch.cat([rows.square().sum(1) for rows in points.split(ROWS_MEASURED_AT_A_TIME)])
    broken = (~(4 * norms).isfinite()).nonzero().flatten().tolist()  # a squared distance reaches four times the larger of its norms
    if broken:
        camera = int(camids[broken[0]])
        place = int((camids[: broken[0]] == camera).sum())
        raise ValueError(
            f"row {place} of the memories of camera {camera} holds NaN, infinity or numbers too large to be squared: look at that camera's"
            " network"
        )
    return points, norms


def _check_edges(edges: Tensor, number: int) -> None:
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype != torch.int64:
        raise ValueError(f"edges must be [E, 2] int64, got {edges.dtype} {tuple(edges.shape)}")
    wrong = ((edges < 0) | (edges >= number)).any(1) | (edges[:, 0] == edges[:, 1])
    if bool(wrong.any()):
        raise ValueError(f"an edge must join two different rows of {number} memories, got {edges[wrong][0].tolist()}")
    if len(edges.sort(dim=1).values.unique(dim=0)) < len(edges):
        raise ValueError("an edge is there twice: its triangles would be counted twice as well")
