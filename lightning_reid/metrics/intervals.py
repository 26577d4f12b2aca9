"""Confidence intervals: of one score over the people who were asked for, and of a difference over seeds."""

from __future__ import annotations

import torch
from scipy.special import stdtrit
from torch import Tensor

_BLOCK_ELEMENTS = 2**22
"""Positions drawn at a time, 32 MiB of int64."""


def bootstrap_interval(
    values: Tensor,
    groups: Tensor | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron & Tibshirani 1993, section 13.3), with ``groups`` the cluster bootstrap.

    For a mAP: ``bootstrap_interval(scores.average_precision, scores.query_pids)``; for R1 the same of ``scores.first_match_rank <= 1``.
    Queries of one person succeed and fail together: drawn one by one they pass for more evidence than they are, and the interval comes
    out too narrow. So people are drawn, each with all their queries, and the mean is over all queries of the people drawn, every query
    with one weight as in the mAP itself (a ratio of sums; Davison & Hinkley 1997, section 3.8). The interval tells how far the score
    depends on who was asked for, not on the seed of the training; over few people it is too narrow still.

    Args:
        values: ``[V]`` finite numbers (or bool), one a query, at least one.
        groups: ``[V]`` integers, the person of each query; ``None`` draws the values one by one, for values that are independent.
        confidence: Coverage in (0, 1).
        num_resamples: Resamples with replacement, each as many people (or values) as there are, at least 2; fewer than
            ``2 / (1 - confidence)`` leave the ends to chance.
        generator: Source of the draws, on the device of ``values``; ``None`` stands for one of seed 0, so that a printed interval
            stays the same.

    Returns:
        ``(low, high)``, the ``(1 - confidence) / 2`` quantile of the resampled means and its mirror image.

    Raises:
        ValueError: No values, NaN or infinite ones, groups that are not V integers or all of one person, of whom no other can be drawn;
            or an option out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import bootstrap_interval
        >>> average_precision, people = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1, 1, 2, 2])
        >>> bootstrap_interval(average_precision, people)  # two people: any draw of them holds none, one or both
        (0.0, 1.0)
    """
    if values.ndim != 1 or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(f"values must be a non-empty list of finite numbers, got {_described(values)}")
    if not 0 < confidence < 1 or num_resamples < 2:
        raise ValueError(f"need 0 < confidence < 1 and num_resamples >= 2, got {confidence} and {num_resamples}")
    if generator is None:
        generator = torch.Generator(values.device).manual_seed(0)
    values = values.double()
    sums, counts = (values, torch.ones_like(values)) if groups is None else _by_person(values, groups)
    means = []
    for rows in torch.empty(num_resamples, 0).split(max(1, _BLOCK_ELEMENTS // len(sums))):
        draws = torch.randint(len(sums), (len(rows), len(sums)), generator=generator, device=values.device)
        means.append(sums[draws].sum(1) / counts[draws].sum(1))
    tail = (1 - confidence) / 2
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64, device=values.device)).tolist()
    return low, high


def _by_person(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """``[P]`` sums of the values and numbers of queries of each person, by ascending pid."""
    if groups.shape != values.shape or groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
        raise ValueError(f"groups must be {len(values)} integers, one for each value, got {groups.dtype} {tuple(groups.shape)}")
    people, of, counts = groups.to(values.device).unique(return_inverse=True, return_counts=True)
    if len(people) < 2:
        raise ValueError(
            f"an interval over people needs two people or more, all {len(values)} values are of person {int(people[0])}: "
            "print the score without an interval"
        )
    return torch.zeros(len(people), dtype=values.dtype, device=values.device).index_add_(0, of, values), counts.double()


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

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import paired_difference_interval
        >>> a, b = torch.tensor([0.50, 0.52, 0.51]), torch.tensor([0.45, 0.46, 0.47])  # mAP of two methods with the same three seeds
        >>> low, high = paired_difference_interval(a, b)
        >>> round(low, 3), round(high, 3)  # low > 0: a is better
        (0.025, 0.075)
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
