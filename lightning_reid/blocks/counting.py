"""Counts of access that a loader's workers and the process that made them keep in common."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info

from lightning_reid.blocks.statistics import NAMES, AccessCounts

_MOST_WORKERS = 1024


class SharedCounts:
    """Counts by worker, in memory that a loader's workers share with its maker: none has to send any.

    A row is written by one process alone: the first by whoever is no worker.
    """

    def __init__(self) -> None:
        self._rows = torch.zeros(1 + _MOST_WORKERS, len(NAMES), dtype=torch.int64).share_memory_()

    def add(self, **more: int) -> None:
        """Count more of some, in this process's row."""
        info = get_worker_info()
        row = self._rows[0 if info is None else 1 + info.id % _MOST_WORKERS]
        for name, number in more.items():
            row[NAMES.index(name)] += number

    def total(self) -> AccessCounts:
        """The sum over all workers, and over who is none."""
        return AccessCounts(*self._rows.sum(0).tolist())

    def by_worker(self) -> dict[str, AccessCounts]:
        """The counts of each that read something: ``"main"``, ``"worker0"``, ..."""
        found = {}
        for row in self._rows.any(1).nonzero().flatten().tolist():
            found["main" if row == 0 else f"worker{row - 1}"] = AccessCounts(*self._rows[row].tolist())
        return found
