"""The ranks of the right answers, found by counting: no row of similarities is ever sorted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_COUNTING_LIMIT = 128
"""Matches per query up to which a pass over the row for each match beats one binary search for each row entry."""


def ranks_in_chunk(similarity: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rank of entry ``(rows[k], columns[k])`` in its row, as a stable sort of the row by descending similarity gives it.

    Args:
        similarity: ``[c, G]`` float; ``-inf`` marks entries that do not take part. No NaN.
        rows: ``[P]`` int64, ascending.
        columns: ``[P]`` int64; the entries they name are finite.

    Returns:
        ``[P]`` int64 ranks from 1: one more than the entries that are larger, or equal and further left.
    """
    if similarity.device.type == "cpu" and len(rows) <= _COUNTING_LIMIT * len(similarity):
        return _ranks_by_counting(similarity, rows, columns)
    return _ranks_by_search(similarity, rows, columns)


def _ranks_by_counting(similarity: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # NumPy compares and counts a row that sits in cache at several entries a nanosecond; torch has no such count.
    table = similarity.numpy()
    ranks = np.empty(len(rows), dtype=np.int64)
    ahead = np.empty(similarity.shape[1], dtype=bool)
    for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        entries = table[row]
        threshold = entries[column]
        np.greater_equal(entries[:column], threshold, out=ahead[:column])
        np.greater(entries[column:], threshold, out=ahead[column:])
        ranks[k] = np.count_nonzero(ahead) + 1
    return torch.from_numpy(ranks)


def _ranks_by_search(similarity: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    thresholds = similarity[rows, columns]
    matches = torch.bincount(rows, minlength=len(similarity))
    place = torch.arange(len(rows), device=rows.device) - (matches.cumsum(0) - matches)[rows]
    table = similarity.new_full((len(similarity), int(matches.max())), float("inf"))
    table[rows, place] = thresholds
    table, order = table.sort(dim=1, stable=True)
    larger = torch.empty_like(order).scatter_(1, order, _entries_above(similarity, table, strictly=True))[rows, place]
    at_least = torch.empty_like(order).scatter_(1, order, _entries_above(similarity, table, strictly=False))[rows, place]
    tied = (at_least - larger > 1).nonzero().flatten()  # more than the match itself
    ranks = larger + 1
    left = torch.arange(similarity.shape[1], device=columns.device)
    for some in tied.split(max(1, len(similarity) // 4)):  # a gathered block stays smaller than the chunk itself
        equal = similarity[rows[some]] == thresholds[some, None]
        ranks[some] += (equal & (left < columns[some, None])).sum(1)
    return ranks


def _entries_above(similarity: Tensor, thresholds: Tensor, *, strictly: bool) -> Tensor:
    """``[c, M]`` int64: how many entries of each row lie above (or at) each of its ascending ``thresholds`` ``[c, M]``."""
    num_rows, num_bins = len(thresholds), thresholds.shape[1] + 1
    bins = torch.searchsorted(thresholds, similarity, right=not strictly, out_int32=True)
    bins += torch.arange(num_rows, dtype=torch.int32, device=bins.device)[:, None] * num_bins
    histogram = torch.bincount(bins.flatten(), minlength=num_rows * num_bins).view(num_rows, num_bins)
    return similarity.shape[1] - histogram.cumsum(1)[:, :-1]
