"""The k-reciprocal Jaccard distance as a sparse matrix, in memory that grows with the neighbor lists and not with N x N.

With ``near(i, k)`` the k nearest points of i, i itself included:

1. ``R(i) = {j in near(i, k1): i in near(j, k1)}`` are i's reciprocal neighbors, ``H(j)`` the same with ``round(k1 / 2) + 1`` for k1.
2. ``E(i) = R(i)`` together with every ``H(j)``, j in ``R(i)``, of which more than two thirds lie in ``R(i)``.
3. ``V(i, m) = softmax over m in E(i) of -|x_i - x_m|^2``: how much m belongs to i's surroundings; 0 outside ``E(i)``.
4. ``V(i)`` becomes the mean of ``V(j)`` over j in ``near(i, k2)`` (local query expansion).
5. ``J(i, j) = 1 - S / (2 - S)`` with ``S = sum over m of min(V(i, m), V(j, m))``; rows of V sum to 1, so ``2 - S`` is the sum of maxima.

Source: Zhong et al. 2017 (arXiv:1701.08398), section 3, in the form that clustering pipelines of unsupervised re-ID share.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from lightning_reid.arguments import require_count, require_number
from lightning_reid.clustering.distances import in_full_precision, squared_norms
from lightning_reid.clustering.neighbors import nearest_neighbors
from lightning_reid.clustering.weight_overlap import distance_of_weights


def require_neighborhood(k1: int, k2: int) -> None:
    """Check the sizes of ``jaccard_distance``, whose query expansion averages the first k2 of k1 neighbors.

    Raises:
        ValueError: Not ``1 <= k2 <= k1``, or no whole numbers.
    """
    require_count("k1", k1)
    require_count("k2", k2, high=k1)


def jaccard_distance(embeddings: Tensor, k1: int = 30, k2: int = 6, *, max_distance: float = 1.0) -> sparse.csr_matrix:
    """k-reciprocal Jaccard distance of all pairs of points (see the module's text for the steps).

    An entry that is not stored is 1: two points with no common surroundings. A stored 0 is a distance of 0 (the diagonal, duplicates):
    ``eliminate_zeros()`` would move such points as far apart as can be. The embeddings are taken as they are; L2-normalize them first
    for the distance that the published pipelines cluster on. The search runs on the embeddings' device, the sets on the CPU with as many
    threads as torch has.

    Beside the lists, memory goes to the pairs that have any common surroundings: a few hundred to a few thousand a point, more where
    hubs stand in many lists. Nearly all of these distances are close to 1; ``max_distance`` drops them before they are gathered.

    Args:
        embeddings: ``[N, D]`` float, finite.
        k1: Length of the neighbor lists, the point itself included; N if there are fewer points.
        k2: How many of the nearest points, itself included, a point's weights are averaged over; 1 leaves them as they are.
        max_distance: Larger distances are not stored and so count as 1. DBSCAN with a known radius asks for no more than the radius; the
            rule that finds a radius (``eps_from_share``) wants them all.

    Returns:
        ``[N, N]`` symmetric, values in [0, 1], float64 for float64 embeddings and float32 for all others; indices within a row unsorted.

    Raises:
        ValueError: Not ``1 <= k2 <= k1``, ``max_distance`` outside [0, 1], or embeddings that are not finite.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import jaccard_distance
        >>> distance = jaccard_distance(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), k1=2, k2=1)
        >>> distance.nnz  # of 16: images 0 and 1 have no surroundings in common with images 2 and 3, a distance of 1 that is not stored
        8
        >>> bool(distance[0, 1] < 0.1), distance.shape
        (True, (4, 4))
    """
    require_neighborhood(k1, k2)
    require_number("max_distance", max_distance, low=0, high=1)
    points = in_full_precision(embeddings)
    total = len(points)
    if total == 0:
        return sparse.csr_matrix(np.empty((0, 0), np.float32))
    indices, _ = nearest_neighbors(points, min(k1, total))
    lists = indices.to("cpu", torch.int32).numpy()
    sets = expanded_sets(lists, half=round(k1 / 2) + 1)
    weights = membership_weights(points, sets)
    if k2 > 1:
        weights = neighbor_matrix(lists[:, :k2], weights.dtype) @ weights
        weights.data /= min(k2, total)
    return distance_of_weights(weights, max_distance)


def neighbor_matrix(lists: NDArray[np.int32], dtype: Any = np.float32) -> sparse.csr_matrix:
    """``[N, N]`` with a 1 at (i, j) for every j in row i of ``lists [N, k]``."""
    total, k = lists.shape
    # a copy: sorting the matrix would otherwise sort the caller's lists
    return sparse.csr_matrix((np.ones(total * k, dtype), lists.flatten(), np.arange(0, total * k + 1, k)), shape=(total, total))


def reciprocal_sets(lists: NDArray[np.int32]) -> sparse.csr_matrix:
    """``[N, N]`` with a 1 where i and j stand in each other's lists."""
    near = neighbor_matrix(lists)
    return sparse.csr_matrix(near.multiply(near.T.tocsr()))


def expanded_sets(lists: NDArray[np.int32], half: int) -> sparse.csr_matrix:
    """Step 1 and 2: ``[N, N]``, stored exactly where j is in ``E(i)``, indices sorted."""
    full, halves = reciprocal_sets(lists), reciprocal_sets(lists[:, :half])
    common = (full @ halves.T.tocsr()).multiply(full).tocsr()  # (i, j): size of R(i) and H(j) together, for j in R(i)
    common.data = (3 * common.data > 2 * np.diff(halves.indptr)[common.indices]).astype(np.float32)
    sets = sparse.csr_matrix(full + common @ halves)
    sets.eliminate_zeros()
    sets.sort_indices()
    return sets


def membership_weights(points: Tensor, sets: sparse.csr_matrix) -> sparse.csr_matrix:
    """Step 3: softmax of the negative squared distances within every row of ``sets``."""
    rows = np.repeat(np.arange(len(points), dtype=np.int32), np.diff(sets.indptr))
    norms = squared_norms(points).cpu().numpy()
    distances = norms[rows] + norms[sets.indices] - 2 * _products(points, sets)
    distances[rows == sets.indices] = 0  # whatever the rounding: it is the one term of the sum that cannot underflow
    weights = np.exp(-np.maximum(distances, 0))
    weights /= np.add.reduceat(weights, sets.indptr[:-1])[rows]
    return sparse.csr_matrix((weights, sets.indices, sets.indptr), shape=sets.shape)


def _products(points: Tensor, pattern: sparse.csr_matrix) -> NDArray[Any]:
    """Inner products of the pairs stored in ``pattern``, in its order."""
    crow, col = (torch.from_numpy(part).to(points.device) for part in (pattern.indptr, pattern.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        where = torch.sparse_csr_tensor(crow, col, points.new_zeros(pattern.nnz), size=pattern.shape, check_invariants=False)
        products: NDArray[Any] = torch.sparse.sampled_addmm(where, points, points.T).values().cpu().numpy()
    return products
