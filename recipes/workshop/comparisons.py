"""Two methods over the same seeds: the difference, its interval, and what may be said of it where it is one of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.special import stdtr, stdtrit

from lightning_reid.metrics import holm_adjusted, paired_difference_interval, paired_difference_p_value

Pair = tuple[str, str]
LEVEL = 0.05
"""Level of the tests; the intervals are those of 1 - LEVEL."""
HOLDS, OPPOSITE, NOT_SHOWN = "holds", "the opposite", "not shown"
BY_ITSELF = ", by itself only"
"""Added where the interval leaves zero out, and Holm's correction does not."""


@dataclass(frozen=True)
class Comparison:
    """A paired difference over seeds, in the unit of the scores.

    Attributes:
        better: The method that is to be better.
        worse: The other.
        mean: Of the differences, ``better - worse``.
        low: Lower end of the 95 % interval (Student's t).
        high: Upper end.
        p: Two-sided p-value of the paired t-test.
        corrected: ``p`` with Holm's correction among the exploratory comparisons of its table; ``None`` for the primary one, which is
            tested by itself.
    """

    better: str
    worse: str
    mean: float
    low: float
    high: float
    p: float
    corrected: float | None = None

    @property
    def verdict(self) -> str:
        """``HOLDS``, ``OPPOSITE`` or ``NOT_SHOWN`` by the interval; with ``BY_ITSELF`` where the correction takes it back."""
        if self.low <= 0 <= self.high:
            return NOT_SHOWN
        seen = HOLDS if self.low > 0 else OPPOSITE
        return seen + BY_ITSELF if self.corrected is not None and self.corrected >= LEVEL else seen


def comparison_of_scores(pair: Pair, scores: Mapping[str, Sequence[float]]) -> Comparison:
    """Compare two methods by their scores, one a seed, in the same order.

    Raises:
        ValueError: Fewer than two seeds, or a score that is not finite.
    """
    a, b = (torch.tensor(scores[name], dtype=torch.float64) for name in pair)
    low, high = paired_difference_interval(a, b)
    return Comparison(*pair, float((a - b).mean()), low, high, paired_difference_p_value(a, b))


def comparison_of_interval(pair: Pair, mean: float, interval: tuple[float, float], seeds: int) -> Comparison:
    """Compare two methods of which only the mean and the 95 % interval are left; the p-value is that of such an interval.

    Raises:
        ValueError: Fewer than two seeds, or an interval that does not hold the mean.
    """
    low, high = interval
    if seeds < 2 or not low <= mean <= high or low == high:
        raise ValueError(f"need two seeds and low <= mean <= high, low < high, got {seeds} seeds and {mean} in {interval} for {pair}")
    error = (high - low) / 2 / float(stdtrit(seeds - 1, 1 - LEVEL / 2))
    return Comparison(*pair, mean, low, high, float(2 * stdtr(seeds - 1, -math.fabs(mean) / error)))


def corrected(comparisons: Sequence[Comparison], primary: Pair | None) -> list[Comparison]:
    """The comparisons of a table, all but the primary one with Holm's correction among themselves.

    Raises:
        ValueError: The primary comparison is not among them.
    """
    if primary is not None and primary not in {(one.better, one.worse) for one in comparisons}:
        raise ValueError(f"the primary comparison {' - '.join(primary)} is not among those of its table")
    explored = [one for one in comparisons if (one.better, one.worse) != primary]
    p_values = holm_adjusted(torch.tensor([one.p for one in explored], dtype=torch.float64)).tolist()
    told = {(one.better, one.worse): replace(one, corrected=p) for one, p in zip(explored, p_values, strict=True)}
    return [told.get((one.better, one.worse), one) for one in comparisons]


def p_cells(comparison: Comparison) -> tuple[str, str]:
    """The p-value, and the corrected one or ``primary``, as they are printed."""
    told = "primary" if comparison.corrected is None else _printed(comparison.corrected)
    return _printed(comparison.p), told


def _printed(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"
