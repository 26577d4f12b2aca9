"""Evaluation mode for the time of a block, after which every part is in the mode it was in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put ``module`` into evaluation mode; afterwards, also after an error, each of its parts has its own mode again."""
    with keeping_modes(module):
        module.eval()
        yield


@contextmanager
def keeping_modes(module: nn.Module) -> Iterator[None]:
    """Give each part of ``module`` the mode back that it had, whatever a block puts them into, also after an error.

    ``module.train(was_training)`` would give all parts one mode: a BatchNorm that was frozen in evaluation mode inside a module under
    training would go on with batch statistics, and nothing would say so.
    """
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
