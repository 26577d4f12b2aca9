"""Searching one or several indexes: filters first, then the nearest of what passes, exactly or, of very many rows, approximately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.arguments import require_count
from lightning_reid.search_index.database import DATABASE
from lightning_reid.search_index.exact import NOTHING, Nearest, exact_nearest, on_grid
from lightning_reid.search_index.fast import fast_nearest
from lightning_reid.search_index.index import Index, open_index
from lightning_reid.search_index.meta import require_times
from lightning_reid.search_index.parts import parts_to_search
from lightning_reid.search_index.rows import Filters, count_filtered, row_at, values_of

EXACT_UP_TO = 2_000_000
"""Rows: so many are searched exactly in about a second a core."""
_NAMES = 10
_LENGTH_OFF = 1e-3


class Answer(NamedTuple):
    """An image that was found.

    Attributes:
        similarity: Cosine, in [-1, 1], of the query and what float16 holds.
        path: Of the image's file.
        person: ``None`` of somebody who is not named.
        camera: ``None`` where it is not known.
        time: Seconds on the clock of the index; ``None`` where it is not known.
        folder: Of the index that has it.
    """

    similarity: float
    path: str
    person: str | None
    camera: str | None
    time: float | None
    folder: str


class Searched(NamedTuple):
    """The answers of a search.

    Attributes:
        answers: Of each query, the most similar first; equally similar ones in the order of the indexes, and in that of their rows.
        rows: How many passed the filters.
        approximate: Folders of the indexes that were searched approximately.
        notes: What should be known, in sentences.
    """

    answers: list[list[Answer]]
    rows: int
    approximate: list[str]
    notes: list[str]


def search_indexes(
    folders: Sequence[str | Path],
    queries: Tensor,
    model: str,
    *,
    top: int = 10,
    filters: Filters = Filters(),  # noqa: B008  (a tuple)
    leave_out: Callable[[int, str], bool] | None = None,
    exact_up_to: int = EXACT_UP_TO,
) -> Searched:
    """Find the rows of indexes that are most similar to queries.

    Args:
        folders: Of the indexes, which must all be of ``model``.
        queries: ``[Q, D]`` float32, L2-normalized, on the CPU.
        model: Name of the network that made the queries, as the indexes bear it.
        top: Answers a query; fewer come of fewer rows.
        filters: Which rows are searched at all.
        leave_out: Told the number of a query and a path, whether that is no answer to it; the next row is then.
        exact_up_to: An index is searched approximately only if it has more rows than these that pass, and ``build_fast`` was run.

    Raises:
        FileNotFoundError: There is no such folder.
        ModuleNotFoundError: Approximate search needs the extra ``faiss``.
        OSError: The disk fails, or another process holds the index for a minute.
        SearchIndexError: A folder is no index, of another version or model, damaged or cut short.
        ValueError: A number is out of range, queries are not of length 1 or too wide, or an index is given twice.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, create_index, search_indexes, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=2)
        >>> with write_index(folder / "index") as index:
        ...     add_rows(index, [IndexRow("a.jpg", person="anna"), IndexRow("b.jpg")], torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        0
        >>> found = search_indexes([folder / "index"], torch.tensor([[0.0, 1.0]]), "some network at 256x128", top=1)
        >>> [(answer.path, round(answer.similarity, 2)) for answer in found.answers[0]]
        [('b.jpg', 0.8)]
    """
    require_count("top", top)
    require_count("exact_up_to", exact_up_to, low=0)
    for name, limit in (("since", filters.since), ("until", filters.until)):
        if limit is not None and not isfinite(limit):
            raise ValueError(f"{name} must be a finite number of seconds, got {limit}")
    if not folders:
        raise ValueError("there is no index to search: give at least one")
    places = [Path(folder) for folder in folders]
    twice = next((str(one) for number, one in enumerate(places) if one.resolve() in [other.resolve() for other in places[:number]]), None)
    if twice is not None:
        raise ValueError(f"the index {twice} is given twice: give it once")
    if queries.ndim != 2 or not bool(((queries.norm(dim=1) - 1).abs() < _LENGTH_OFF).all()):  # NaN is no length either
        raise ValueError(f"queries must be [Q, D] of length 1, got {list(queries.shape)}, of which some are not: normalize them")
    with ExitStack() as stack:
        indexes = [stack.enter_context(open_index(folder, model)) for folder in places]
        wide = next((index for index in indexes if index.meta().dimension != queries.shape[1]), None)
        if wide is not None:
            raise ValueError(f"queries have {queries.shape[1]} numbers, embeddings in {wide.folder} have {wide.meta().dimension}")
        if filters.since is not None or filters.until is not None:
            for index in indexes:
                require_times(index.connection, index.folder / DATABASE)
        rows = [count_filtered(index.connection, filters) if filters != Filters() else index.meta().rows for index in indexes]
        fast = [passing > exact_up_to and index.meta().fast_places > 0 for index, passing in zip(indexes, rows, strict=True)]
        asked, answers = top + (leave_out is not None), list[list[Answer]]()
        while True:
            nearest = [_search(*one, on_grid(queries), asked, filters) for one in zip(indexes, fast, strict=True)]
            found = _merged([of_one for of_one, _ in nearest], indexes, asked)
            answers = [_allowed(query, some, top, leave_out) for query, some in enumerate(found)]
            if all(len(kept) == top or len(some) < asked for kept, some in zip(answers, found, strict=True)):
                break
            asked *= 2  # so many had to be left out
        notes = [note for index, passing in zip(indexes, rows, strict=True) for note in _notes(index, passing, filters, exact_up_to)]
    approximate = [str(index.folder) for index, (_, was_fast) in zip(indexes, nearest, strict=True) if was_fast]
    return Searched(answers, sum(rows), approximate, notes)


def _search(index: Index, fast: bool, queries: NDArray[np.float64], top: int, filters: Filters) -> tuple[Nearest, bool]:
    """What is found, and whether approximately."""
    if fast:
        found = fast_nearest(index, queries, top, filters)
        if (found.places != NOTHING).all():
            return found, True  # else the filters leave too little near some query for the lists that were looked into
    return exact_nearest(index.embeddings(), queries, parts_to_search(index, filters), top), False


def _merged(found: Sequence[Nearest], indexes: Sequence[Index], top: int) -> list[list[Answer]]:
    """Answers of all indexes, in order."""
    merged = []
    for query in range(len(found[0].places)):
        ranked = sorted(
            (-similarity, number, rank)
            for number, of_one in enumerate(found)
            for rank, similarity in enumerate(of_one.similarities[query])
            if of_one.places[query, rank] != NOTHING
        )
        merged.append([_answer(indexes[number], found[number], query, rank) for _, number, rank in ranked[:top]])
    return merged


def _answer(index: Index, found: Nearest, query: int, rank: int) -> Answer:
    row = row_at(index.connection, int(found.places[query, rank]), index.folder / DATABASE)
    return Answer(float(found.similarities[query, rank]), *row, str(index.folder))


def _allowed(query: int, answers: Sequence[Answer], top: int, leave_out: Callable[[int, str], bool] | None) -> list[Answer]:
    return [one for one in answers if leave_out is None or not leave_out(query, one.path)][:top]


def _notes(index: Index, rows: int, filters: Filters, exact_up_to: int) -> list[str]:
    meta, notes = index.meta(), list[str]()
    for column, asked in (("camera", filters.cameras), ("person", filters.persons)):
        known = values_of(index.connection, column) if asked else []
        unknown = sorted(set(asked) - set(known))
        if unknown:
            shown = ", ".join(known[:_NAMES]) + (f" and {len(known) - _NAMES} more" if len(known) > _NAMES else "")
            notes.append(f"{index.folder} has no {column} {', '.join(unknown)}: it has {shown or 'none at all'}")
    if filters.since is not None or filters.until is not None:
        (untimed,) = index.connection.execute("SELECT count(*) FROM rows WHERE time ISNULL").fetchone()
        if untimed:
            notes.append(f"{untimed:,} of {meta.rows:,} rows of {index.folder} have no time, and are left out")
    if not rows:
        notes.append(
            f"{index.folder} has no rows" if not meta.rows else f"none of the {meta.rows:,} rows of {index.folder} passes the filters"
        )
    if rows > exact_up_to and not meta.fast_places:
        notes.append(f"{rows:,} rows of {index.folder} were compared one by one: lightning-reid index speed {index.folder} makes it faster")
    return notes
