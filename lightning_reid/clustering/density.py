"""DBSCAN on a sparse distance, and the radius that a share of all pairs implies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

ENTRIES_AT_A_TIME = 1 << 22
"""Stored distances looked at together; each takes 20 bytes or so on the way."""


def dbscan(distance: sparse.csr_matrix, eps: float, min_samples: int = 4) -> Tensor:
    """Pseudo-labels by density: points with ``min_samples`` neighbors within ``eps``, chained, and the points at their rim.

    The clusters are those of scikit-learn's ``DBSCAN(metric="precomputed")``: a rim point in reach of two clusters goes to the one whose
    first core point has the lower index. All noise is a valid answer; what to do about it is the caller's decision.

    Args:
        distance: ``[N, N]`` symmetric, absent entries count as 1 and stored zeros as 0, as ``jaccard_distance`` makes it.
        eps: Radius in [0, 1), inclusive.
        min_samples: Neighbors that make a core point, itself counted, at least 1.

    Returns:
        ``[N]`` int64: -1 noise, clusters ``0..C-1`` in the order in which they first appear.

    Raises:
        ValueError: ``eps`` or ``min_samples`` out of range, or the distance is not square.

    Source: Ester et al. 1996; HSR, section 4.3.1.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import dbscan, jaccard_distance
        >>> embeddings = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [90.0]])
        >>> dbscan(jaccard_distance(embeddings, k1=3, k2=1), eps=0.5, min_samples=3).tolist()
        [0, 0, 0, 1, 1, 1, -1]
    """
    _require_square(distance)
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be in [0, 1), got {eps}: at 1 the pairs that a sparse distance leaves out would be neighbors too")
    if min_samples < 1:
        raise ValueError(f"min_samples must be at least 1, got {min_samples}")
    total = distance.shape[0]
    parts = range(0, distance.nnz, ENTRIES_AT_A_TIME)
    near = np.concatenate(
        [start + np.flatnonzero(distance.data[start : start + ENTRIES_AT_A_TIME] <= eps) for start in parts] or [np.empty(0, np.int64)]
    )
    rows, columns = np.searchsorted(distance.indptr, near, side="right") - 1, distance.indices[near]
    rows, columns = rows[rows != columns], columns[rows != columns]
    core = np.bincount(rows, minlength=total) + 1 >= min_samples
    return torch.from_numpy(_in_order_of_appearance(_first_core_points(rows, columns, core)))


def eps_from_share(distance: sparse.csr_matrix, rho: float = 1.6e-3) -> float:
    """Mean of the smallest ``round(rho * N (N - 1) / 2)`` distances between two different points; absent entries are 1.

    The rule is tuned to the size of Market-1501, where ``rho`` is near the share of true pairs; on small sets a fixed radius serves better.

    Args:
        distance: ``[N, N]`` symmetric, as ``jaccard_distance`` makes it.
        rho: Share of all pairs, in (0, 1].

    Returns:
        The radius, in [0, 1]. At 1 ``dbscan`` refuses it: no pair within the share has common neighbors.

    Raises:
        ValueError: ``rho`` out of range, or the share of so few points rounds to no pair at all.

    Source: SSG (Fu et al. 2019, arXiv:1811.10144), whose setting HSR, section 4.3.1, follows.
    """
    _require_square(distance)
    total = distance.shape[0]
    count = round(rho * total * (total - 1) / 2)
    if not 0 < rho <= 1 or count < 1:
        raise ValueError(f"a share of rho={rho} of the pairs of {total} points is {count} pairs: raise rho, or give dbscan a fixed eps")
    smallest = np.empty(0, distance.dtype)
    for rows in np.array_split(np.arange(total), min(total, distance.nnz // ENTRIES_AT_A_TIME + 1)):
        begin, end = distance.indptr[rows[0]], distance.indptr[rows[-1] + 1]
        upper = distance.indices[begin:end] > np.repeat(rows, np.diff(distance.indptr[rows[0] : rows[-1] + 2]))
        smallest = np.concatenate([smallest, distance.data[begin:end][upper]])
        if len(smallest) > count:
            smallest = np.partition(smallest, count - 1)[:count]
    return float((smallest.sum(dtype=np.float64) + count - len(smallest)) / count)


def _require_square(distance: sparse.csr_matrix) -> None:
    if distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        raise ValueError(f"distance must be [N, N], got shape {distance.shape}")


def _first_core_points(rows: NDArray[Any], columns: NDArray[Any], core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For every point the lowest core point of its cluster, N for noise; (rows, columns) are the pairs of neighbors."""
    total = len(core)
    both = core[rows] & core[columns]
    chains = sparse.coo_matrix((np.ones(int(both.sum()), np.bool_), (rows[both], columns[both])), shape=(total, total))
    _, chain = connected_components(chains, directed=False)
    lowest = np.full(total, total)
    np.minimum.at(lowest, chain[core], np.flatnonzero(core))
    first = np.where(core, lowest[chain], total)
    rim = ~core[rows] & core[columns]
    np.minimum.at(first, rows[rim], first[columns[rim]])
    return first


def _in_order_of_appearance(marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Marks renumbered ``0..C-1`` as they first appear; the mark N (how many there are) becomes -1."""
    clustered = marks < len(marks)
    _, appeared, which = np.unique(marks[clustered], return_index=True, return_inverse=True)
    labels = np.full(len(marks), -1, dtype=np.int64)
    labels[clustered] = np.argsort(np.argsort(appeared))[which]
    return labels
