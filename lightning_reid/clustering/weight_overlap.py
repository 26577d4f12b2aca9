"""Step 5 of the Jaccard distance: how much two points' surroundings overlap, from the sparse weights of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse

TERMS_IN_FLIGHT = 1 << 22
"""Minima held in memory at a time, over all threads: about 80 MB."""


def distance_of_weights(weights: sparse.csr_matrix, max_distance: float = 1.0) -> sparse.csr_matrix:
    """Step 5, some rows at a time: every weight of a row meets the column it stands in, the list of all points with that neighbor.

    The minima come out of one gather, and adding them up by target point is a sparse product with a matrix of ones: both
    run in compiled code that lets other threads go on.
    """
    weights.sort_indices()  # both (i, j) and (j, i) then add the same minima in the same order: symmetric to the last bit
    columns = weights.T.tocsr()
    terms = np.concatenate([[0], np.cumsum(np.diff(columns.indptr)[weights.indices], dtype=np.int64)])[weights.indptr]
    threads = max(1, min(torch.get_num_threads(), 16))
    pieces = int(terms[-1] * threads // TERMS_IN_FLIGHT) + threads
    cuts = np.unique(np.searchsorted(terms, np.linspace(0, terms[-1], pieces + 1)))
    rows = partial(_distance_rows, weights, columns, max_distance)
    with ThreadPoolExecutor(threads) as pool:
        blocks = _in_order(pool, rows, pairwise(cuts.tolist()), ahead=threads)
        return _stacked(blocks, weights, at_most=min(int(terms[-1]), weights.shape[0] ** 2))


def _distance_rows(weights: sparse.csr_matrix, columns: sparse.csr_matrix, max_distance: float, part: tuple[int, int]) -> sparse.csr_matrix:
    """Rows ``part[0]..part[1] - 1`` of the distance."""
    first, last = part
    begin, end = weights.indptr[first], weights.indptr[last]
    minima = columns[weights.indices[begin:end]]
    np.minimum(minima.data, np.repeat(weights.data[begin:end], np.diff(minima.indptr)), out=minima.data)
    row_sums = (np.ones(end - begin, weights.dtype), np.arange(end - begin), weights.indptr[first : last + 1] - begin)
    block: sparse.csr_matrix = sparse.csr_matrix(row_sums, shape=(last - first, end - begin)) @ minima
    np.divide(block.data, 2 - block.data, out=block.data)
    np.subtract(1, block.data, out=block.data)
    np.maximum(block.data, 0, out=block.data)
    block.data[block.indices == np.repeat(np.arange(first, last), np.diff(block.indptr))] = 0
    if max_distance == 1:
        return block
    near = np.flatnonzero(block.data <= max_distance)
    return sparse.csr_matrix((block.data[near], block.indices[near], np.searchsorted(near, block.indptr)), shape=block.shape)


def _in_order(
    pool: ThreadPoolExecutor, rows: Callable[[tuple[int, int]], sparse.csr_matrix], parts: Iterable[tuple[int, int]], ahead: int
) -> Iterator[sparse.csr_matrix]:
    """The rows of every part, of which no more than ``ahead`` wait to be fetched: ``pool.map`` would let them pile up."""
    waiting: deque[Future[sparse.csr_matrix]] = deque()
    for part in parts:
        waiting.append(pool.submit(rows, part))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _stacked(blocks: Iterable[sparse.csr_matrix], like: sparse.csr_matrix, at_most: int) -> sparse.csr_matrix:
    """The blocks one below the other, each let go once copied, so that the result is held once and not twice."""
    # room for every entry there could be: what stays unwritten is address space, not memory
    data, indices = np.empty(at_most, like.dtype), np.empty(at_most, like.indices.dtype)
    row_ends, stored = [np.zeros(1, np.int64)], 0
    for block in blocks:
        data[stored : stored + block.nnz], indices[stored : stored + block.nnz] = block.data, block.indices
        row_ends.append(stored + block.indptr[1:].astype(np.int64))
        stored += block.nnz
    return sparse.csr_matrix((data[:stored], indices[:stored], np.concatenate(row_ends)), shape=like.shape)
