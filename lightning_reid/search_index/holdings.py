"""What an index holds, as its owner asks for it."""

from __future__ import annotations

import os
from typing import Any

from lightning_reid.search_index.database import DATABASE
from lightning_reid.search_index.index import Index
from lightning_reid.search_index.meta import require_times
from lightning_reid.search_index.rows import rows_below


def paths_within(index: Index, place: str) -> list[str]:
    """Paths of the rows of a file, or of all files in a folder, neither of which need be there any more.

    Args:
        index: Open.
        place: Relative to the working folder, or absolute.
    """
    return rows_below(index.connection, os.path.abspath(place))  # noqa: PTH100  (links stay)


def describe_index(index: Index) -> dict[str, Any]:
    """How many pictures of how many people, by which network, where, when, in how many bytes; in plain values."""
    meta = index.meta()
    require_times(index.connection, index.folder / DATABASE)

    def asked(sql: str) -> list[Any]:
        return index.connection.execute(sql).fetchall()

    ((people, unnamed, first, last, untimed),) = asked(
        "SELECT count(DISTINCT person), count(*) - count(person), min(time), max(time), count(*) - count(time) FROM rows"
    )
    return {
        "model": meta.model,
        "dimension": meta.dimension,
        "pictures": meta.rows,
        "people": people,
        "of nobody who is named": unnamed,
        "cameras": dict(asked("SELECT camera, count(*) FROM rows WHERE camera NOTNULL GROUP BY camera ORDER BY camera")),
        "first": first,
        "last": last,
        "without a time": untimed,
        "holes": meta.places - meta.rows,
        "in the file for approximate search": meta.fast_places,
        "bytes": sum(file.stat().st_size for file in index.folder.iterdir() if file.is_file()),
    }
