"""How much a layer's performance suffers for the computation that removing its filters saves."""

from __future__ import annotations


def performance_sensitivity(drop_change: float, factor_change: float, filter_size: int) -> float:
    """``PS = dD / (dr W H C)``: drop of the metric for a unit of removed computation. Layers of small PS are pruned first.

    Source: thesis, eq. 5.6. The denominator is what the text uses for the computation change; the number of filters and the size of the
    map are not in it.

    Args:
        drop_change: dD, change of the drop between two steps, in units of the metric; below 0 where pruning helped.
        factor_change: dr, change of the reducing factor, above 0.
        filter_size: ``W H C``, weights of a filter over the input channels that are left, at least 1.

    Raises:
        ValueError: The factor did not grow, or a filter has no weights.
    """
    if not factor_change > 0 or filter_size < 1:
        raise ValueError(f"need factor_change > 0 and filter_size of at least 1, got {factor_change} and {filter_size}")
    return drop_change / (factor_change * filter_size)
