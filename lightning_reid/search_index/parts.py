"""Which places of an index are searched, as parts of a size that fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightning_reid.search_index.index import Index
from lightning_reid.search_index.rows import Filters, filtered_places, holes

_FIRST_PART = 1024
"""Rows. With as many rows in a part as before it, few of its rows are among the best so far, and most of it needs no closer look."""


def parts_to_search(index: Index, filters: Filters, *, first: int = 0) -> Iterator[NDArray[np.int64]]:
    """Places from ``first`` on that have a row which passes, in order.

    Args:
        index: Open.
        filters: Without any, nobody asks the database for places, but for those of holes.
        first: Lowest place.

    Yields:
        Arrays ``[n]`` with n of at least 1.
    """
    file = index.embeddings()
    if filters != Filters():
        yield from filtered_places(index.connection, filters, file.most_at_a_time, first=first)
        return
    size = min(_FIRST_PART, file.most_at_a_time)
    while first < file.places:
        end = min(first + size, file.places)
        part = np.delete(np.arange(first, end), holes(index.connection, first, end) - first)
        if len(part):
            yield part
        first, size = end, min(2 * size, file.most_at_a_time)
