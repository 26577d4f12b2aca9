"""How much a layer's performance suffers for the computation that removing its filters saves."""

from __future__ import annotations


def performance_sensitivity(drop_change: float, factor_change: float, *, kernel: tuple[int, int], in_channels: int) -> float:
    """``PS = dD / (dr W H C)``: drop of the metric for a unit of removed computation. Layers of small PS are pruned first.

    Source: thesis, eq. 5.6. The denominator is what the text uses for the computation change; the number of filters and the size of the
    map are not in it.

    Args:
        drop_change: dD, change of the drop between two steps, in units of the metric; below 0 where pruning helped.
        factor_change: dr, change of the reducing factor, above 0.
        kernel: (H, W) of a filter.
        in_channels: C that are left.

    Raises:
        ValueError: The factor did not grow, or a size is below 1.
    """
    if not factor_change > 0 or min(*kernel, in_channels) < 1:
        raise ValueError(f"need factor_change > 0 and sizes of at least 1, got {factor_change}, {kernel} and {in_channels}")
    return drop_change / (factor_change * kernel[0] * kernel[1] * in_channels)
