"""Constraint-aware importance: the loss a channel costs for each unit of scarce resources that its removal frees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def resource_impact(left: float, left_without: float) -> float:
    """``r(f) = (C(theta) - C(theta_F')) / C(theta)``: share of the resource that is left which removing the channel frees.

    Source: thesis, eq. 6.6.

    Args:
        left: Consumption now, above 0.
        left_without: Consumption without the channel.

    Raises:
        ValueError: Nothing is left.
    """
    if not left > 0:
        raise ValueError(f"there must be some of the resource left to free a share of, got {left}")
    return (left - left_without) / left


def pruning_objective(left: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """``R_i = max((C_i(theta) - C_i) / C_i(theta), 0)``: share of each resource that is still to go.

    Source: thesis, section 6.3.3. Renewed at each step.

    Args:
        left: Consumption now, by resource.
        limits: C_i, what may be left, in the same units, for each resource that is constrained.
    """
    return {name: max((left[name] - limit) / left[name], 0.0) for name, limit in limits.items()}


def effective_resource_impact(impacts: Sequence[float], objective: Sequence[float]) -> float:
    """``r_e(f) = r(f) . R / |R|``: projection of the impacts onto the direction of what is still to go.

    Source: thesis, eq. 6.17. With one resource it is its impact (eq. 6.10).

    Raises:
        ValueError: The lengths differ, or nothing is still to go.
    """
    if len(impacts) != len(objective):
        raise ValueError(f"need an impact and an objective for each resource, got {len(impacts)} and {len(objective)}")
    length = math.hypot(*objective)
    if length == 0:
        raise ValueError("every constraint is met: there is no direction left to prune in")
    return sum(impact * share for impact, share in zip(impacts, objective, strict=True)) / length
