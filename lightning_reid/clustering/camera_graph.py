"""A graph between the memories of several cameras: mutual nearest neighbors, triangles, and the labels that follow from them.

A memory is the feature of one tracklet, and two tracklets of one camera are two people (sparse space-time tracklets), which is a certainty
and not a belief.

Source: edge-device text, section 3.3; what it leaves empty (triangle relation, global label) is decided here.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_switch
from lightning_reid.clustering.distances import in_full_precision, squared_distances

LabelMethod = Literal["components", "one_per_camera"]
MOST_CONTRADICTIONS = 0.05
"""Share of the memories up to which ``alpha="auto"`` takes a graph to be clean."""
_COUNTED_AT_A_TIME, _MEASURED_AT_A_TIME = 4096, 64


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
    return _ascending(torch.stack([rows.expand_as(nearest)[mutual], nearest[mutual]], dim=1))


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
    return torch.from_numpy(_triangles(edges.cpu().numpy(), num_memories)).to(edges.device)


def global_labels(
    memories: Tensor,
    camids: Tensor,
    alpha: int | Literal["auto"] = 1,
    method: LabelMethod = "components",
    *,
    repeated: bool = False,
    tile: int = 2048,
) -> Tensor:
    """Labels across cameras: memories that enough triangles hold together share one.

    ``"components"`` are the connected components of the edges with at least ``alpha`` triangles. One wrong edge joins two people there,
    and the label then holds two memories of one camera, which cannot be one person. ``"one_per_camera"`` takes the same edges strongest
    first (triangles descending, distance ascending, rows ascending) and joins two groups unless they share a camera: no label ever holds
    two memories of a camera.

    Source: edge-device text, section 3.3 ("Triangle Relation" and "Global Label" are empty there: components are implied by section 4.3;
    ``"one_per_camera"``, ``repeated`` and ``"auto"`` are ours, constraints of this kind are in Wang 2019, arXiv:1908.10486).

    Args:
        memories: ``[N, D]`` float, a row a tracklet.
        camids: ``[N]`` int64.
        alpha: Least number of triangles of an edge, up to the number of cameras less two; the text has 1 for Market-1501 and MARS, 2 for
            DukeMTMC-reID. ``"auto"`` is the smallest with which at most a twentieth of the memories contradict.
        method: ``"components"`` or ``"one_per_camera"``.
        repeated: Take edges away again and again, until each that is left has ``alpha`` triangles among those that are left.
        tile: As of ``mutual_top1``.

    Returns:
        ``[N]`` int64, numbered from 0 by the first memory of each in the order of cameras, then rows. A memory without edges is a label.

    Raises:
        ValueError: Fewer than two cameras, an ``alpha`` that no edge can reach, or as ``mutual_top1`` says.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import global_labels
        >>> memories, camids = torch.tensor([[0.0], [5.0], [0.1], [5.1], [0.2], [9.0]]), torch.tensor([1, 1, 2, 2, 3, 3])
        >>> global_labels(memories, camids, alpha=1).tolist()
        [0, 1, 0, 1, 0, 1]
    """
    edges = mutual_top1(memories, camids, tile=tile)
    order = torch.sort(camids, stable=True).indices  # the answer does not depend on the order in which banks arrived
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    edges = _ascending(place[edges])
    squared = _squared_lengths(in_full_precision(memories), order[edges])
    return labels_of_edges(edges, squared, camids[order], alpha, method, repeated=repeated)[place]


def labels_of_edges(
    edges: Tensor,
    squared: Tensor,
    camids: Tensor,
    alpha: int | Literal["auto"] = 1,
    method: LabelMethod = "components",
    *,
    repeated: bool = False,
) -> Tensor:
    """``global_labels`` of a graph that is there already, whose rows are in the order of their cameras.

    Args:
        edges: ``[E, 2]`` int64 as ``mutual_top1`` gives them.
        squared: ``[E]`` float, squared distances of their ends.
        camids: ``[N]`` int64, ascending.
        alpha: See ``global_labels``.
        method: See ``global_labels``.
        repeated: See ``global_labels``.

    Raises:
        ValueError: Fewer than two cameras, cameras that do not ascend, or an ``alpha`` that no edge can reach.
    """
    require_choice("method", method, get_args(LabelMethod))
    require_switch("repeated", repeated)
    if bool((camids[1:] < camids[:-1]).any()):
        raise ValueError("the rows must be in the order of their cameras: sort them, or take global_labels, which does")
    most = len(camids.unique()) - 2
    if most < 0:
        raise ValueError(f"labels across cameras need memories of two cameras or more, got {most + 2}")
    if alpha == "auto":
        for one in range(most + 1):
            labels = _labels(edges, squared, camids, one, method, repeated=repeated)
            if contradictions(labels, camids) <= MOST_CONTRADICTIONS * len(camids):
                break
        return labels
    require_count("alpha", alpha, low=0)
    if alpha > most:
        raise ValueError(f"alpha={alpha}, and an edge between {most + 2} cameras has at most {most} triangles: give at most {most}")
    return _labels(edges, squared, camids, alpha, method, repeated=repeated)


def contradictions(labels: Tensor, camids: Tensor) -> int:
    """How many memories share their label with another of their camera, which cannot be one person: N less the (label, camera) pairs.

    Raises:
        ValueError: There is not a label and a camera for each.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import contradictions
        >>> contradictions(torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 2, 2]))
        1
    """
    if labels.ndim != 1 or labels.shape != camids.shape:
        raise ValueError(f"need a label and a camera for each memory, got {tuple(labels.shape)} and {tuple(camids.shape)}")
    return len(labels) - len(torch.stack([labels, camids.to(labels.device)]).unique(dim=1).T) if len(labels) else 0


def _labels(edges: Tensor, squared: Tensor, camids: Tensor, alpha: int, method: LabelMethod, *, repeated: bool) -> Tensor:
    graph, number = edges.cpu().numpy(), len(camids)
    triangles = _triangles(graph, number)
    kept = triangles >= alpha
    while repeated and not kept.all():
        graph, squared = graph[kept], squared[torch.from_numpy(kept).to(squared.device)]
        triangles = _triangles(graph, number)
        kept = triangles >= alpha
    labels: NDArray[np.int64]
    if method == "components":
        matrix = _adjacency(graph[kept], number)
        labels = connected_components(matrix, directed=False)[1].astype(np.int64)
    else:
        strongest = np.lexsort((graph[:, 1], graph[:, 0], squared.cpu().numpy(), -triangles))
        labels = _joined(graph[strongest[kept[strongest]]], camids.cpu().numpy())
    return torch.from_numpy(_by_first(labels)).to(camids.device)


def _joined(edges: NDArray[np.int64], camids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups after joining along the edges, in their order, all those that share no camera."""
    group = list(range(len(camids)))
    members = {one: [one] for one in group}
    cameras = {one: 1 << camera for one, camera in enumerate(np.unique(camids, return_inverse=True)[1].tolist())}  # a bit each
    for u, v in zip(edges[:, 0].tolist(), edges[:, 1].tolist(), strict=True):
        large, small = sorted((group[u], group[v]), key=lambda one: -len(members[one]))
        if large == small or cameras[large] & cameras[small]:
            continue
        for member in members[small]:
            group[member] = large
        members[large] += members.pop(small)
        cameras[large] |= cameras.pop(small)
    return np.array(group, dtype=np.int64)


def _by_first(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, numbered by their first rows."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _adjacency(edges: NDArray[np.int64], number: int) -> csr_matrix:
    both = np.concatenate([edges, edges[:, ::-1]])
    return csr_matrix((np.ones(len(both), dtype=np.int64), (both[:, 0], both[:, 1])), shape=(number, number))


def _triangles(edges: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Entries of the square of the adjacency at the edges alone: all of it would hold a number for each path of two edges."""
    matrix, counts = _adjacency(edges, number), np.zeros(len(edges), dtype=np.int64)
    for start in range(0, len(edges), _COUNTED_AT_A_TIME):
        some = slice(start, start + _COUNTED_AT_A_TIME)
        counts[some] = matrix[edges[some, 0]].multiply(matrix[edges[some, 1]]).sum(axis=1).ravel()
    return counts


def _ascending(edges: Tensor) -> Tensor:
    """The same edges, each from its lower row to its higher one, and in the order of both."""
    edges = edges.sort(dim=1).values
    return edges[np.lexsort(edges.cpu().numpy().T[::-1]).copy()]


def _squared_lengths(points: Tensor, edges: Tensor) -> Tensor:
    """Squared distances ``[E]`` of the ends of edges ``[E, 2]``."""
    found = points.new_empty(len(edges))
    for start in range(0, len(edges), _MEASURED_AT_A_TIME):
        some = slice(start, start + _MEASURED_AT_A_TIME)
        found[some] = (points[edges[some, 0]] - points[edges[some, 1]]).square_().sum(1)
    return found


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
    norms = torch.cat([rows.square().sum(1) for rows in points.split(_MEASURED_AT_A_TIME)])
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
