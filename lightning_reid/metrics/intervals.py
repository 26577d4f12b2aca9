"""Confidence intervals: of one score over its queries, and of a difference over seeds."""

from __future__ import annotations

import torch
from scipy.special import stdtrit
from torch import Tensor

_BLOCK_ELEMENTS = 2**22  # 32 MiB of drawn int64 positions


def bootstrap_interval(
    values: Tensor, *, confidence: float = 0.95, num_resamples: int = 1000, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron & Tibshirani 1993, section 13.3).

    For a mAP: ``bootstrap_interval(scores.average_precision)``; for R1: ``bootstrap_interval(scores.first_match_rank <= 1)``. It tells
    how far the score depends on which queries were asked, not on the seed of the training.

    Args:
        values: ``[V]`` finite numbers (or bool), one a query, at least one.
        confidence: Coverage in (0, 1).
        num_resamples: Resamples of V values with replacement, at least 2; fewer than ``2 / (1 - confidence)`` leave the ends to chance.
        generator: Source of the draws, on the device of ``values``; ``None`` stands for one of seed 0, so that a printed interval
            stays the same.

    Returns:
        ``(low, high)``, the ``(1 - confidence) / 2`` quantile of the resampled means and its mirror image.

    Raises:
        ValueError: No values, NaN or infinite ones, or an option out of range.
    """
    if values.ndim != 1 or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(f"values must be a non-empty list of finite numbers, got {_described(values)}")
    if not 0 < confidence < 1 or num_resamples < 2:
        raise ValueError(f"need 0 < confidence < 1 and num_resamples >= 2, got {confidence} and {num_resamples}")
    if generator is None:
        generator = torch.Generator(values.device).manual_seed(0)
    values = values.double()
    means = []
    for rows in torch.empty(num_resamples, 0).split(max(1, _BLOCK_ELEMENTS // len(values))):
        draws = torch.randint(len(values), (len(rows), len(values)), generator=generator, device=values.device)
        means.append(values[draws].mean(1))
    tail = (1 - confidence) / 2
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64, device=values.device)).tolist()
    return low, high


def paired_difference_interval(a: Tensor, b: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """Student-t interval of the mean of ``a - b``, for two methods run with the same seeds.

    ``mean(d) -+ t * std(d) / sqrt(n)`` of the n differences d, with t the quantile of Student's distribution for n - 1 degrees of
    freedom and std the sample standard deviation. A claim "a is better than b" holds at this confidence if low > 0.

    Args:
        a: ``[n]`` scores of one method, one a seed, n at least 2.
        b: ``[n]`` scores of the other, same seeds in the same order.
        confidence: Coverage in (0, 1).

    Returns:
        ``(low, high)``.

    Raises:
        ValueError: Fewer than two pairs, unequal lengths, NaN or infinite scores, or a confidence out of range.
    """
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"need two or more pairs of scores, one of each method a seed, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not 0 < confidence < 1:
        raise ValueError(f"need 0 < confidence < 1, got {confidence}")
    difference = a.double() - b.double()
    if not bool(difference.isfinite().all()):
        raise ValueError(f"scores must be finite, got {_described(a)} and {_described(b)}")
    reach = float(stdtrit(len(a) - 1, (1 + confidence) / 2)) * float(difference.std()) / len(a) ** 0.5
    middle = float(difference.mean())
    return middle - reach, middle + reach


def _described(values: Tensor) -> str:
    return f"shape {tuple(values.shape)} with {int((~values.isfinite()).sum())} NaN or infinite"
