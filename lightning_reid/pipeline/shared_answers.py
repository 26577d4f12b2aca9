"""What a second network says of a batch: one process asks it, the others are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

Answer = TypeVar("Answer")


class SharedAnswers:
    """Stands between a module's step and its second network, a teacher: on the process of the last stage it asks, elsewhere it repeats.

    Args:
        asks: Whether this process is the one that asks.
        source: The rank of that one among all.
        group: The processes of the pipeline.
        expected: Whether there is a second network at all; without one nothing is sent.
    """

    def __init__(self, *, asks: bool, source: int, group: dist.ProcessGroup, expected: bool) -> None:
        self._asks, self._source, self._group, self._expected = asks, source, group, expected
        self._answers: list[Any] = []

    def __call__(self, ask: Callable[[], Answer]) -> Answer:
        """What ``ask`` says, or what it said on the process of the last stage."""
        if not self._asks:
            answer: Answer = self._answers.pop(0)
            return answer
        self._answers.append(ask())
        said: Answer = self._answers[-1]
        return said

    def share(self) -> None:
        """Tell the others what was said since the last time; every process of the pipeline calls it."""
        if self._expected:
            told = [self._answers if self._asks else None]
            dist.broadcast_object_list(told, self._source, group=self._group)
            self._answers = [] if self._asks else list(told[0] or [])
