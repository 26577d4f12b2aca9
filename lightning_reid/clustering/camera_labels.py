"""Labels across cameras that follow from a graph between their memories.

Source: edge-device text, section 3.3, "Global Label", which is empty and decided here; constraints between pairs that cannot be one person:
Wang et al. 2019 (arXiv:1908.10486).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_switch
from lightning_reid.clustering.camera_graph import ROWS_MEASURED_AT_A_TIME, adjacency, ascending, mutual_top1, triangles
from lightning_reid.clustering.distances import in_full_precision

LabelMethod = Literal["components", "one_per_camera"]
MOST_CONTRADICTIONS = 0.05
"""Share of the memories up to which ``alpha="auto"`` takes a graph to be clean."""


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
    edges = ascending(place[edges])
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
    counts = triangles(graph, number)
    kept = counts >= alpha
    while repeated and not kept.all():
        graph, squared = graph[kept], squared[torch.from_numpy(kept).to(squared.device)]
        counts = triangles(graph, number)
        kept = counts >= alpha
    labels: NDArray[np.int64]
    if method == "components":
        matrix = adjacency(graph[kept], number)
        labels = connected_components(matrix, directed=False)[1].astype(np.int64)
    else:
        strongest = np.lexsort((graph[:, 1], graph[:, 0], squared.cpu().numpy(), -counts))
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


def _squared_lengths(points: Tensor, edges: Tensor) -> Tensor:
    """Squared distances ``[E]`` of the ends of edges ``[E, 2]``."""
    found = points.new_empty(len(edges))
    for start in range(0, len(edges), ROWS_MEASURED_AT_A_TIME):
        some = slice(start, start + ROWS_MEASURED_AT_A_TIME)
        found[some] = (points[edges[some, 0]] - points[edges[some, 1]]).square_().sum(1)
    return found
