"""Embeddings of images on the disk, to be searched for people: adding, removing, forgetting, and finding the nearest of millions."""

from lightning_reid.search_index.changes import add_rows, forget_person, remove_paths
from lightning_reid.search_index.damage import SearchIndexError
from lightning_reid.search_index.fast import build_fast
from lightning_reid.search_index.index import create_index, open_index, write_index
from lightning_reid.search_index.rows import Filters, IndexRow
from lightning_reid.search_index.searching import search_indexes

__all__ = [
    "Filters",
    "IndexRow",
    "SearchIndexError",
    "add_rows",
    "build_fast",
    "create_index",
    "forget_person",
    "open_index",
    "remove_paths",
    "search_indexes",
    "write_index",
]
