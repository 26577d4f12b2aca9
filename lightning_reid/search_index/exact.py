"""Exact nearest rows of a file of embeddings, in memory that does not depend on how many there are.

Every similarity is the exact dot product of what the file holds and the query on a grid of ``2**-24``: all products are whole multiples of
``2**-48`` and the sum of any of them, by the Cauchy-Schwarz inequality, is little above 1, so that float64 rounds nothing. Equal rows are
equally similar, whatever the parts and the order in which they were multiplied. To find the few rows that are worth float64, float32 does,
whose error is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.search_index.damage import SearchIndexError
from lightning_reid.search_index.embeddings_file import EmbeddingsFile

NOTHING = -1
"""The place of an answer that is not there, as where fewer rows than asked for are searched."""
_QUERIES_AT_A_TIME = 64
_GRID = 2.0**24
_LENGTH_OFF = 0.01
"""Of the square of a length of 1, more than rounding to float16 makes it."""


class Nearest(NamedTuple):
    """Rows found for Q queries, the most similar first, of equally similar ones that of the lower place.

    Attributes:
        similarities: ``[Q, k]`` float64 in [-1, 1]; ``-inf`` where nothing is.
        places: ``[Q, k]`` int64; ``NOTHING`` where nothing is.
    """

    similarities: NDArray[np.float64]
    places: NDArray[np.int64]


def on_grid(queries: Tensor) -> NDArray[np.float64]:
    """Queries ``[Q, D]`` of length 1, each number rounded to the nearest multiple of ``2**-24``."""
    return np.rint(queries.numpy().astype(np.float64) * _GRID) / _GRID


def nothing(num_queries: int, top: int) -> Nearest:
    """The answers of a search without rows."""
    return Nearest(np.full((num_queries, top), -np.inf), np.full((num_queries, top), NOTHING))


def exact_nearest(file: EmbeddingsFile, queries: NDArray[np.float64], parts: Iterable[NDArray[np.int64]], top: int) -> Nearest:
    """The ``top`` rows most similar to each query among those at some places.

    Args:
        file: Of embeddings, each of length 1 before it was rounded to float16.
        queries: ``[Q, D]``, as ``on_grid`` makes them.
        parts: The places, in rising order; each part is read at once, and once for all queries.
        top: Answers a query.

    Raises:
        SearchIndexError: A row is no vector of length 1, as with NaN in it; the message names the file and the place.
    """
    best, rough = nothing(len(queries), top), queries.astype(np.float32)
    slack = 1.1 * (file.dimension + 4) * 2.0**-24  # of a float32 dot product of vectors of length 1
    for places in parts:
        half = file.read(places)
        rows = half.float().numpy()
        _require_unit(file, rows, places)
        for start in range(0, len(queries), _QUERIES_AT_A_TIME):
            some = slice(start, start + _QUERIES_AT_A_TIME)
            floor = (best.similarities[some, -1:] - slack).astype(np.float32)
            columns = np.flatnonzero((rough[some] @ rows.T >= floor).any(0))
            if len(columns):
                similarities = queries[some] @ rows[columns].T.astype(np.float64)
                _merge(best, some, similarities, np.broadcast_to(places[columns], similarities.shape))
    return best


def exact_similarities(file: EmbeddingsFile, queries: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Similarities ``[Q, n]`` of queries, as ``on_grid`` makes them, to rows at places in rising order.

    Raises:
        SearchIndexError: As ``exact_nearest``.
    """
    half = file.read(places)
    _require_unit(file, half.float().numpy(), places)
    similarities: NDArray[np.float64] = queries @ half.double().numpy().T
    return similarities


def merged(one: Nearest, other: Nearest) -> Nearest:
    """The best of two searches of one file, of which ``one`` went over lower places."""
    best = Nearest(one.similarities.copy(), one.places.copy())
    _merge(best, slice(None), other.similarities, other.places)
    return best


def _merge(best: Nearest, some: slice, similarities: NDArray[np.float64], places: NDArray[np.int64]) -> None:
    """Put what is better into some rows of ``best``, whose places are lower."""
    top = best.places.shape[1]
    similarities = np.concatenate([best.similarities[some], similarities], 1)
    order = np.argsort(-similarities, 1, kind="stable")[:, :top]
    best.similarities[some] = np.take_along_axis(similarities, order, 1)
    best.places[some] = np.take_along_axis(np.concatenate([best.places[some], places], 1), order, 1)


def _require_unit(file: EmbeddingsFile, rows: NDArray[np.float32], places: NDArray[np.int64]) -> None:
    broken = places[~(np.abs(np.einsum("nd,nd->n", rows, rows) - 1) < _LENGTH_OFF)]  # with NaN nothing is smaller
    if len(broken):
        told = f"{len(broken)} of its embeddings are no vectors of length 1 (NaN, say), the first is number {broken[0]:,}"
        raise SearchIndexError(f"{file.path} is damaged, {told}: restore the folder from a copy, or make the index anew")
