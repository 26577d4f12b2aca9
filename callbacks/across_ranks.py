"""Work of several ranks of which none may wait for ever: done once for all of them, or by each its share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytorch_lightning as pl

T = TypeVar("T")


def once_for_all_ranks(trainer: pl.Trainer, compute: Callable[[], T]) -> T:
    """Run ``compute`` on rank 0 and give its result to every rank; an error on rank 0 is raised on every rank."""
    if trainer.world_size == 1:
        return compute()
    outcome: T | Exception | None = _outcome(compute) if trainer.is_global_zero else None
    return _result(trainer.strategy.broadcast(outcome))  # type: ignore[return-value]  # rank 0's; None only if compute returned it


def from_all_ranks(trainer: pl.Trainer, compute: Callable[[], T]) -> list[T]:
    """Run ``compute`` on every rank and give every rank all results, by rank; an error on one is raised on all."""
    if trainer.world_size == 1:
        return [compute()]
    outcome = _outcome(compute)
    outcomes = [trainer.strategy.broadcast(outcome, src=rank) for rank in range(trainer.world_size)]
    return [_result(one) for one in outcomes]


def _outcome(compute: Callable[[], T]) -> T | Exception:
    """Whatever went wrong travels to the other ranks, which would otherwise wait for this one, and is raised there and here."""
    try:
        return compute()
    except Exception as error:
        return error


def _result(outcome: T | Exception) -> T:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
