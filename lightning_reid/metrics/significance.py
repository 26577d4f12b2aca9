"""How likely a paired difference is by chance, and what is left of it where several differences are looked at."""

from __future__ import annotations

import math

import torch
from scipy.special import stdtr
from torch import Tensor


def paired_difference_p_value(a: Tensor, b: Tensor) -> float:
    """Two-sided p-value of Student's paired t-test, for two methods run with the same seeds.

    ``2 P(T_{n-1} > |mean(d)| / (std(d) / sqrt(n)))`` of the n differences d, so that it is below 0.05 where the 95 % interval of
    ``paired_difference_interval`` leaves zero out.

    Args:
        a: ``[n]`` scores of one method, one a seed, n at least 2.
        b: ``[n]`` scores of the other, same seeds in the same order.

    Returns:
        In [0, 1]; of differences that are all the same 0, or 1 where they are all zero.

    Raises:
        ValueError: Fewer than two pairs, unequal lengths, NaN or infinite scores.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import paired_difference_p_value
        >>> a, b = torch.tensor([0.50, 0.52, 0.51]), torch.tensor([0.45, 0.46, 0.47])  # mAP of two methods with the same three seeds
        >>> round(paired_difference_p_value(a, b), 3)
        0.013
    """
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"need two or more pairs of scores, one of each method a seed, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    difference = a.double() - b.double()
    if not bool(difference.isfinite().all()):
        raise ValueError(f"scores must be finite, got {difference.isfinite().logical_not().sum()} differences that are not")
    mean, error = float(difference.mean()), float(difference.std()) / math.sqrt(len(a))
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(len(a) - 1, -abs(mean) / error))


def holm_adjusted(p_values: Tensor) -> Tensor:
    """P-values of several comparisons, so that any below 0.05 keeps the chance of even one false finding among them below 5 %.

    The smallest of K is multiplied by K, the next by K - 1 and so on; none becomes smaller than one before it, or larger than 1.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    Args:
        p_values: ``[K]`` in [0, 1], in any order; K may be 0.

    Returns:
        ``[K]`` float64 in [0, 1], in the order of ``p_values``, on their device.

    Raises:
        ValueError: Not a list, or a value that is not in [0, 1].

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import holm_adjusted
        >>> [round(p, 3) for p in holm_adjusted(torch.tensor([0.03, 0.01, 0.04])).tolist()]
        [0.06, 0.03, 0.06]
    """
    if p_values.ndim != 1 or not bool(((p_values >= 0) & (p_values <= 1)).all()):
        raise ValueError(f"p-values must be a list of numbers in [0, 1], got {p_values.tolist()}")
    ordered, order = p_values.double().sort()
    factors = torch.arange(len(ordered), 0, -1, dtype=torch.float64, device=ordered.device)
    return torch.empty_like(ordered).index_copy_(0, order, (factors * ordered).cummax(0).values.clamp(max=1))
