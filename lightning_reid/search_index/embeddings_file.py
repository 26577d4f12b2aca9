"""The part of an index that holds the embeddings: rows of float16, one behind the other, without a heading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.files import told_as_not_written
from lightning_reid.search_index.damage import SearchIndexError, require_plain

_BYTES_AT_A_TIME = 4 * 2**20
"""Of float32, the memory that a pass over the file takes, however long it is."""
_SPARSE = 16
"""Rows that lie so many times as far apart are read one by one: mapped pages count as memory, and come with many neighbors."""


@dataclass(frozen=True)
class EmbeddingsFile:
    """The first ``places`` rows of a file of embeddings; what lies behind them was never committed.

    Attributes:
        path: Of the file.
        places: Rows, holes included.
        dimension: Numbers of a row.
    """

    path: Path
    places: int
    dimension: int

    def require_whole(self) -> None:
        """Check that the rows are there.

        Raises:
            SearchIndexError: There is no file, it is a link to another, or it is too short.
        """
        way_on = "restore the folder from a copy, or make the index anew"
        try:
            held = require_plain(self.path) / self._bytes_of_a_row
        except FileNotFoundError as error:
            raise SearchIndexError(f"the index has lost its file {self.path}: {way_on}") from error
        if held < self.places:
            raise SearchIndexError(f"{self.path} is cut short, it holds {held:,.1f} embeddings of {self.places:,}: {way_on}")

    @property
    def most_at_a_time(self) -> int:
        """Rows that are read at once by whoever reads all."""
        return max(_BYTES_AT_A_TIME // (4 * self.dimension), 1)

    def read(self, places: NDArray[np.int64]) -> Tensor:
        """Rows ``[n, D]`` float16 at places in rising order; what is mapped into memory for that is let go with them."""
        first, span = int(places[0]), int(places[-1] - places[0]) + 1
        if span > _SPARSE * len(places):
            return self._read_one_by_one(places)
        window = np.memmap(self.path, "<f2", "c", first * self._bytes_of_a_row, (span, self.dimension))
        return torch.from_numpy(window if span == len(places) else window[places - first])

    def _read_one_by_one(self, places: NDArray[np.int64]) -> Tensor:
        rows = np.empty((len(places), self.dimension), "<f2")
        with self.path.open("rb", buffering=0) as file:
            for row, place in zip(rows, places.tolist(), strict=True):
                file.seek(place * self._bytes_of_a_row)
                if file.readinto(row.data) != self._bytes_of_a_row:
                    raise SearchIndexError(f"{self.path} was cut while it was read, at the embedding number {place:,}")
        return torch.from_numpy(rows)

    def append(self, embeddings: Tensor) -> None:
        """Put rows ``[n, D]`` behind the others and onto the disk; whoever counts them makes them part of the index.

        Raises:
            OSError: The disk is full; the message names the file.
        """
        self._write(self.places, embeddings.numpy().astype("<f2"))

    def zero(self, places: NDArray[np.int64]) -> None:
        """Overwrite rows at places in rising order, on the disk too."""
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1) if len(places) else []
        for run in runs:
            for start in range(0, len(run), self.most_at_a_time):
                part = run[start : start + self.most_at_a_time]
                self._write(int(part[0]), np.zeros((len(part), self.dimension), "<f2"))

    def cut(self) -> None:
        """Remove what lies behind the rows: an append that was never committed."""
        counted = self.places * self._bytes_of_a_row
        with self._opened_to_write() as file:
            if os.fstat(file.fileno()).st_size > counted:
                os.ftruncate(file.fileno(), counted)

    def copy(self, file: Path, parts: Iterator[NDArray[np.int64]]) -> None:
        """Write the rows at some places into another file."""
        with file.open("wb") as copied:
            for part in parts:
                copied.write(self.read(part).numpy().data)

    @property
    def _bytes_of_a_row(self) -> int:
        return 2 * self.dimension

    @contextmanager
    def _opened_to_write(self) -> Iterator[BinaryIO]:
        with told_as_not_written(self.path), open(self.path, "r+b", opener=_not_through_a_link) as file:
            yield file

    def _write(self, place: int, rows: NDArray[np.float16]) -> None:
        with self._opened_to_write() as file:
            file.seek(place * self._bytes_of_a_row)
            file.write(rows.data)
            file.flush()
            os.fsync(file.fileno())


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))  # it would lead to a file that is none of the index
