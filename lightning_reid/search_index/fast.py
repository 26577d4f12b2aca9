"""Approximate search of large indexes: inverted lists of product codes by faiss, what they find is compared again exactly."""

from __future__ import annotations

from importlib import import_module
from math import log2
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.files import write_atomically
from lightning_reid.search_index.damage import SearchIndexError, require_plain
from lightning_reid.search_index.database import transaction
from lightning_reid.search_index.exact import NOTHING, Nearest, exact_nearest, exact_similarities, merged, nothing, on_grid
from lightning_reid.search_index.index import Index
from lightning_reid.search_index.meta import Meta
from lightning_reid.search_index.parts import parts_to_search
from lightning_reid.search_index.rows import Filters, filtered_places, holes

FEWEST = 10_000
"""Rows that codes can be learned of; so few are searched exactly in milliseconds."""
NUMBERS_A_BYTE = 8
"""Of an embedding, that a byte of its code stands for; for half as many a search takes 1.6 times as long and finds 0.5 % more."""
FEWEST_BYTES = 16
LEARNED_OF_A_LIST = 64
"""Rows a list that lists and codes are learned of."""
COMPARED_AGAIN = 200
"""Rows a query, at least, that are compared exactly."""
_COMPARED_TOGETHER = 8
"""Queries whose candidates are read at once, which costs less than opening the file for each."""
_SHARE_OF_LISTS = 32
"""One of so many lists is looked into, and of few lists ``_FEWEST_LISTS``."""
_FEWEST_LISTS = 32
_ROUNDS = 10
"""Of learning codes, of which faiss would take 25."""
_PROBED = 100
"""Rows that serve as queries to measure what is found."""
_TOP = 10


class FastFile(NamedTuple):
    """What was built for approximate search.

    Attributes:
        rows: That are in it.
        lists: That they are divided into; 32 are looked into, or one of 32 where they are more.
        code_bytes: Of each row.
        recall: Of the 10 nearest of 100 of the rows, the share that is found.
    """

    rows: int
    lists: int
    code_bytes: int
    recall: float


def build_fast(index: Index, *, seed: int = 0) -> FastFile:
    """Build the file for approximate search of all rows that are there; rows that come later are searched exactly.

    Args:
        index: Open to be changed.
        seed: Of the rows that lists and codes are learned of.

    Raises:
        ModuleNotFoundError: The extra ``faiss`` is not installed.
        OSError: The disk is full.
        ValueError: There are too few rows, or embeddings that cannot be divided into codes.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, build_fast, create_index, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=4)
        >>> with write_index(folder / "index") as index:
        ...     replaced = add_rows(index, [IndexRow("a.jpg")], torch.eye(4)[:1])
        ...     build_fast(index)
        Traceback (most recent call last):
        ValueError: ... has 1 rows, which are searched exactly in no time: 10,000 are needed at least
    """
    meta = index.meta()
    if meta.rows < FEWEST:
        raise ValueError(f"{index.folder} has {meta.rows:,} rows, which are searched exactly in no time: {FEWEST:,} are needed at least")
    code_bytes = _code_bytes(meta.dimension)
    faiss, lists = _faiss(), 2 ** round(log2(meta.rows**0.5))
    found = faiss.IndexIVFPQ(faiss.IndexFlatIP(meta.dimension), meta.dimension, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    found.cp.seed = found.pq.cp.seed = seed % 2**31
    learned_of = max(LEARNED_OF_A_LIST * lists, FEWEST)
    found.pq.cp.niter = _ROUNDS
    found.train(_sample(index, meta, learned_of, seed).numpy())
    file = index.embeddings()
    for places in parts_to_search(index, Filters()):
        found.add_with_ids(file.read(places).float().numpy(), places)
    _keep(index, meta, found)
    return FastFile(meta.rows, lists, code_bytes, _recall(index, seed))


def fast_nearest(index: Index, queries: NDArray[np.float64], top: int, filters: Filters) -> Nearest:
    """The ``top`` rows most similar to each query, as far as they are found; similarities are exact, and so is what was added later.

    Args:
        index: Open, with a file for approximate search.
        queries: ``[Q, D]``, as ``on_grid`` makes them.
        top: Answers a query; fewer may be found where filters leave little near a query.
        filters: Which rows are searched at all.

    Raises:
        ModuleNotFoundError: The extra ``faiss`` is not installed.
        SearchIndexError: The file is gone, or is not the one that was built.
    """
    faiss, meta, file = _faiss(), index.meta(), index.embeddings()
    codes = _codes(index, meta)
    allowed = _allowed(index, meta, filters)
    selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    probes = max(codes.nlist // _SHARE_OF_LISTS, _FEWEST_LISTS)
    how = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
    _, candidates = codes.search(queries.astype(np.float32), max(COMPARED_AGAIN, 4 * top), params=how)
    best = nothing(len(queries), top)
    for start in range(0, len(queries), _COMPARED_TOGETHER):
        rows = slice(start, start + _COMPARED_TOGETHER)
        some = np.sort(candidates[rows], 1)  # so that of equally similar ones the lower place is first
        some[:, 1:][some[:, 1:] == some[:, :-1]] = NOTHING  # twice in the lists of a file that was tampered with
        places = np.unique(some[some >= 0])
        if len(places):
            columns = np.searchsorted(places, np.maximum(some, places[0]))
            similarities = np.take_along_axis(exact_similarities(file, queries[rows], places), columns, 1)
            similarities[some < 0] = -np.inf
            order = np.argsort(-similarities, 1, kind="stable")[:, :top]
            best.similarities[rows] = np.take_along_axis(similarities, order, 1)
            best.places[rows] = np.take_along_axis(some, order, 1)
    return merged(best, exact_nearest(file, queries, parts_to_search(index, filters, first=meta.fast_places), top))


def _code_bytes(dimension: int) -> int:
    most = max(dimension // NUMBERS_A_BYTE, min(FEWEST_BYTES, dimension))
    found = max(size for size in range(1, most + 1) if dimension % size == 0)
    if found < most / 2:
        told = f"embeddings of {dimension} numbers cannot be divided into codes: it has no divisor from {-(-most // 2)} to {most}"
        raise ValueError(f"{told}, and they are searched exactly alone")
    return found


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("approximate search needs faiss: pip install 'lightning-reid[faiss]'") from error


def _sample(index: Index, meta: Meta, number: int, seed: int) -> Tensor:
    places = np.random.default_rng(seed).choice(meta.places, min(number, meta.places), replace=False)
    places = np.setdiff1d(places, holes(index.connection, 0, meta.places))
    return index.embeddings().read(places).float()


def _keep(index: Index, meta: Meta, codes: Any) -> None:
    number = meta.fast_number + 1
    path = index.fast_file(meta._replace(fast_number=number))
    write_atomically(path, lambda draft: import_module("faiss").write_index(codes, str(draft)))
    with transaction(index.connection, writes=True):
        told = (number, meta.places, path.stat().st_size)
        index.connection.execute("UPDATE meta SET fast_number = ?, fast_places = ?, fast_bytes = ?", told)
    index.fast_file(meta).unlink(missing_ok=True)


def _codes(index: Index, meta: Meta) -> Any:
    """The file that was built. What it finds is compared exactly with the embeddings: damage could hide a row, but not invent one."""
    path, faiss = index.fast_file(meta), _faiss()
    way_on = f"lightning-reid index speed {index.folder} makes another"
    try:
        size = require_plain(path)
    except FileNotFoundError as error:
        raise SearchIndexError(f"the index has lost its file {path}: {way_on}") from error
    if size != meta.fast_bytes:
        raise SearchIndexError(f"{path} has {size:,} bytes, {meta.fast_bytes:,} were written: {way_on}")
    try:
        codes = faiss.read_index(str(path))
    except RuntimeError as error:
        raise SearchIndexError(f"{path} was overwritten, faiss cannot read it: {way_on}") from error
    if not isinstance(codes, faiss.IndexIVF):
        raise SearchIndexError(f"{path} was overwritten, it has no inverted lists: {way_on}")
    if (codes.d, codes.ntotal <= meta.fast_places) != (meta.dimension, True):
        raise SearchIndexError(f"{path} is of another index, with {codes.ntotal:,} rows of {codes.d} numbers: {way_on}")
    return codes


def _allowed(index: Index, meta: Meta, filters: Filters) -> NDArray[np.bool_]:
    """For each place that the file covers, whether it has a row which passes."""
    if filters == Filters():
        allowed = np.ones(meta.fast_places, bool)
        allowed[holes(index.connection, 0, meta.fast_places)] = False
        return allowed
    allowed = np.zeros(meta.fast_places, bool)
    for places in filtered_places(index.connection, filters, 2**16, end=meta.fast_places):
        allowed[places] = True
    return allowed


def _recall(index: Index, seed: int) -> float:
    """Of the nearest rows of some of the rows, themselves left out, the share that approximate search finds."""
    sample = _sample(index, index.meta(), _PROBED, seed + 1)
    queries = on_grid(sample)
    exact = exact_nearest(index.embeddings(), queries, parts_to_search(index, Filters()), _TOP + 1).places
    found = fast_nearest(index, queries, _TOP + 1, Filters()).places
    return float(np.mean([len(np.intersect1d(one[1:], other)) / _TOP for one, other in zip(exact, found, strict=True)]))
