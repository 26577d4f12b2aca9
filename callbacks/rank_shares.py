"""Work that ranks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytorch_lightning as pl

T = TypeVar("T")


def from_all_ranks(trainer: pl.Trainer, compute: Callable[[], T]) -> list[T]:
    """Run ``compute`` on every rank and give every rank all results, by rank; an error on one is raised on all, so none waits for ever."""
    if trainer.world_size == 1:
        return [compute()]
    outcome: T | Exception
    try:
        outcome = compute()
    except Exception as error:
        outcome = error
    results: list[T] = []
    for one in [trainer.strategy.broadcast(outcome, src=rank) for rank in range(trainer.world_size)]:
        if isinstance(one, Exception):
            raise one
        results.append(one)
    return results
