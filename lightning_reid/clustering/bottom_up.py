"""Bottom-up clustering: the closest clusters merge, a few at each step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision, squared_distances, squared_norms


@torch.no_grad()
def merge_closest_clusters(embeddings: Tensor, labels: Tensor, num_merges: int, *, size_penalty: float = 0.003, tile: int = 2048) -> Tensor:
    """Merge clusters pair by pair, the closest first, until there are ``num_merges`` fewer. Exact.

    The distance of clusters A and B is the least squared Euclidean distance of a point of A and one of B, plus
    ``size_penalty (|A| + |B|)``, with the sizes before the step. Of equally distant pairs the one of smaller labels goes first.

    What merges are the first edges of the minimum spanning tree over the clusters. Tiles of the distance matrix are merged into a
    forest one by one, and of each tile only distances count that are below those already found: memory is some tiles and O(N), time
    that of the N^2 D / 2 products.

    Source: Lin et al. 2019 (a bottom-up clustering approach to unsupervised person re-identification), section 3.3, eq. 5 and 6, with
    the squared distance of the public code.

    Args:
        embeddings: ``[N, D]`` float on any device, taken as they are; BUC normalizes them.
        labels: ``[N]`` int64 in ``0..K-1``, each taken; ``arange(N)`` where every point is a cluster.
        num_merges: In 0..K-1.
        size_penalty: lambda, at least 0: large clusters merge later.
        tile: Edge of the tiles.

    Returns:
        ``[N]`` int64 on the device of ``labels``, in ``0..K-num_merges-1``, in the order of the smallest old label of each new cluster.

    Raises:
        ValueError: A number is out of its range, labels leave numbers out, or embeddings are not finite.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import merge_closest_clusters
        >>> embeddings = torch.tensor([[0.0], [0.1], [1.0], [1.3], [9.0]])
        >>> merge_closest_clusters(embeddings, torch.arange(5), num_merges=2).tolist()
        [0, 0, 1, 1, 2]
    """
    points = in_full_precision(embeddings)
    norms = squared_norms(points)
    if labels.shape != (len(points),):
        raise ValueError(f"labels must hold one number for each of the {len(points)} embeddings, got shape {tuple(labels.shape)}")
    sizes = torch.bincount(labels) if len(labels) and int(labels.min()) >= 0 else labels.new_zeros(0)
    if len(labels) and (not len(sizes) or not bool((sizes > 0).all())):
        raise ValueError("labels must be 0..K-1, each taken: noise (-1) and gaps have no cluster to merge")
    if not 0 <= num_merges < max(1, len(sizes)) or not size_penalty >= 0 or tile < 1:
        raise ValueError(
            f"need num_merges in 0..{max(0, len(sizes) - 1)}, size_penalty >= 0 and tile >= 1, got {num_merges}, {size_penalty} and {tile}"
        )
    if num_merges == 0:
        return labels.clone()
    owners = labels.to(points.device)
    penalties = size_penalty * sizes.to(points.device, points.dtype)
    forest = Forest(len(sizes), num_merges)
    for start in range(0, len(points), tile):
        rows = slice(start, start + tile)
        for first in range(start, len(points), tile):
            columns = slice(first, first + tile)
            block = squared_distances(points[rows], points[columns], norms[rows], norms[columns])
            block += penalties[owners[rows], None] + penalties[owners[columns]]
            wanted = (block <= forest.limit) & (owners[rows, None] != owners[None, columns])
            i, j = wanted.nonzero(as_tuple=True)
            forest.add(owners[rows][i].cpu().numpy(), owners[columns][j].cpu().numpy(), block[i, j].cpu().numpy())
    return torch.from_numpy(forest.components()).to(labels.device)[labels]


def merges_to_reach(num_clusters: int, expected: int, steps: int) -> int:
    """How many clusters go at each of so many steps for ``expected`` to be left in the end, rounded up; at least 1.

    Source: FedUReID, "personalized clustering": clients of different size reach their own number of clusters in the same round.

    Raises:
        ValueError: A number is below 1.
    """
    if min(num_clusters, expected, steps) < 1:
        raise ValueError(f"numbers of clusters and steps must be at least 1, got {num_clusters}, {expected} and {steps}")
    return max(1, -(-(num_clusters - expected) // steps))


class Forest:
    """The first ``num_edges`` edges of the minimum spanning tree of all edges added so far, smallest first.

    Edges that are no part of the tree of some edges are no part of the tree of more of them, so that only the tree's own are kept.

    Attributes:
        limit: An edge longer than this is not among the first ``num_edges``; infinite while there are fewer.
    """

    def __init__(self, num_nodes: int, num_edges: int) -> None:
        self.num_nodes, self.num_edges = num_nodes, num_edges
        self.limit = float("inf")
        self._edges: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]] | None = None

    def add(self, ends: NDArray[np.int64], others: NDArray[np.int64], lengths: NDArray[np.floating]) -> None:
        """Take in edges ``[E]`` between nodes, in either direction."""
        lower, upper = np.minimum(ends, others), np.maximum(ends, others)
        if self._edges is not None:
            lower, upper, lengths = (np.concatenate(pair) for pair in zip(self._edges, (lower, upper, lengths), strict=True))
        order = np.lexsort((upper, lower, lengths))
        lower, upper, lengths = lower[order], upper[order], lengths[order]
        # the shortest of parallel edges; numbers instead of lengths, as SciPy takes a length of 0 for no edge and breaks ties as it likes
        _, first = np.unique(lower * self.num_nodes + upper, return_index=True)
        first.sort()
        lower, upper, lengths = lower[first], upper[first], lengths[first]
        numbers = np.arange(1, len(first) + 1)
        tree = minimum_spanning_tree(coo_matrix((numbers, (lower, upper)), shape=(self.num_nodes, self.num_nodes)).tocsr())
        kept = np.sort(tree.data.astype(np.int64))[: self.num_edges] - 1
        self._edges = lower[kept], upper[kept], lengths[kept]
        if len(kept) == self.num_edges:
            self.limit = float(lengths[kept[-1]])

    def components(self) -> NDArray[np.int64]:
        """``[num_nodes]``: the tree of each node, numbered in the order of their smallest nodes."""
        assert self._edges is not None
        lower, upper, _ = self._edges
        graph = coo_matrix((np.ones(len(lower)), (lower, upper)), shape=(self.num_nodes, self.num_nodes))
        found = connected_components(graph, directed=False)[1]
        _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return rank[inverse]
