"""Work of several ranks of which none may wait for ever: done once for all of them, or by each its share."""

from __future__ import annotations

import pickle
import traceback
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
        return portable(error)


def portable(error: Exception) -> Exception:
    """An error that can be sent to another process: itself with its traceback as a note, or what is told of one that cannot be pickled."""
    trace = "".join(traceback.format_exception(error))
    error.add_note(f"in the process that it came from:\n{trace}")
    try:
        same = type(pickle.loads(pickle.dumps(error))) is type(error)  # its own bytes, nobody else's
    except Exception:  # an error of a class of somebody else's may raise anything
        same = False
    return error if same else RuntimeError(f"{type(error).__name__}: {error}\n{trace}")


def _result(outcome: T | Exception) -> T:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
