"""Which channels of all groups go in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lightning_reid.pruning.resource_impact import effective_resource_impact


def constraint_aware_importance(
    impacts: Mapping[str, Tensor], resource_impacts: Mapping[str, Mapping[str, float]], objective: Mapping[str, float]
) -> dict[str, Tensor]:
    """``I(f) = l(f) / r_e(f)``, by group of channels, ``[C]`` each: channels of small importance go first.

    Source: thesis, eq. 6.18, and eq. 6.10 where the objective has one resource.

    Args:
        impacts: Loss impacts ``[C]`` by group.
        resource_impacts: By group, the share of each resource that removing one of its channels frees.
        objective: Share of each resource that is still to go, at least one above 0.

    Returns:
        By group. Infinite where a group's channels free nothing of what is still to go.

    Example:
        >>> import torch
        >>> from lightning_reid.pruning import constraint_aware_importance
        >>> impacts = {"conv1": torch.tensor([1.0, 2.0]), "conv2": torch.tensor([1.0, 2.0])}
        >>> freed = {"conv1": {"flops": 0.5, "params": 0.1}, "conv2": {"flops": 0.1, "params": 0.4}}
        >>> constraint_aware_importance(impacts, freed, objective={"flops": 0.2, "params": 0.0})  # conv2 frees a fifth of conv1's flops
        {'conv1': tensor([2., 4.]), 'conv2': tensor([10., 20.])}
    """
    importance = {}
    for name, impact in impacts.items():
        effective = effective_resource_impact([resource_impacts[name][resource] for resource in objective], list(objective.values()))
        importance[name] = impact / effective if effective > 0 else torch.full_like(impact, torch.inf)
    return importance


def protected_channels(size: int, min_channel_ratio: float) -> int:
    """How many of a group's channels always stay: ``max(1, int(ratio size))``."""
    return max(1, int(min_channel_ratio * size))


def least_important(
    importance: Mapping[str, Tensor], keep: Mapping[str, Tensor], count: int, *, min_channel_ratio: float = 0.1
) -> dict[str, Tensor]:
    """Remove the ``count`` least important channels of all groups together.

    In each group the ``protected_channels`` of largest importance stay. Ties go by the order of groups and channels. A group whose
    importance is infinite is left alone.

    Source: thesis, algorithm 3, line 6; the protected channels are the public code's.

    Args:
        importance: ``[C]`` by group; what it says of channels that are gone does not matter.
        keep: ``[C]`` bool by group, true where a channel is left.
        count: Channels to remove at most, at least 1.
        min_channel_ratio: Share of a group's channels that always stay, in (0, 1].

    Returns:
        The new ``keep``, tensors of its own: all as before where nothing may go.
    """
    candidates: list[tuple[float, int, int]] = []
    names = list(importance)
    for number, name in enumerate(names):
        left = keep[name].nonzero().flatten()
        values = importance[name][left].double()
        order = values.argsort(stable=True).tolist()
        free = max(0, len(left) - protected_channels(len(keep[name]), min_channel_ratio))
        candidates += [(float(values[place]), number, int(left[place])) for place in order[:free] if bool(values[place].isfinite())]
    chosen = {name: mask.clone() for name, mask in keep.items()}
    for _, number, channel in sorted(candidates)[:count]:
        chosen[names[number]][channel] = False
    return chosen


def least_important_in_turn(
    impacts: Mapping[str, Tensor],
    keep: Mapping[str, Tensor],
    count: int,
    effective: Callable[[Mapping[str, int]], Mapping[str, float]],
    *,
    min_channel_ratio: float = 0.1,
) -> dict[str, Tensor]:
    """Remove up to ``count`` channels one after another, each the least important for what is left then.

    For resources whose impacts do not add up over a step: under a peak, a channel frees something only while its layer is at the peak,
    and a few channels later that is another layer. Importance is ``l(f) / r_e(f)`` as in ``constraint_aware_importance``; ties, protected
    channels and groups that free nothing are as in ``least_important``.

    Source: thesis, eq. 6.18, in a step of algorithm 3, line 6. The text adds up the impacts of a step (section 6.3.2), which is exact for
    sums; taking a peak's anew for each channel is ours.

    Args:
        impacts: Loss impacts ``[C]`` by group, finite; what they say of channels that are gone does not matter.
        keep: ``[C]`` bool by group, true where a channel is left.
        count: Channels to remove at most, at least 1.
        effective: From channels left to the effective resource impact ``r_e`` of each group; empty where nothing is still to go.
        min_channel_ratio: Share of a group's channels that always stay, in (0, 1].

    Returns:
        The new ``keep``, tensors of its own. Fewer than ``count`` go where nothing is still to go, or nothing may.
    """
    chosen = {name: mask.clone() for name, mask in keep.items()}
    left = {name: int(mask.sum()) for name, mask in keep.items()}
    queues: dict[str, list[int]] = {}
    for name, impact in impacts.items():
        channels = keep[name].nonzero().flatten()
        order = channels[impact[channels].double().argsort(stable=True)].tolist()
        queues[name] = order[: max(0, left[name] - protected_channels(len(keep[name]), min_channel_ratio))][::-1]
    for _ in range(count):
        freed = effective(left)
        able = [name for name, queue in queues.items() if queue and freed.get(name, 0.0) > 0]
        if not able:
            break
        name = min(able, key=lambda name: float(impacts[name][queues[name][-1]]) / freed[name])  # the first of several as good
        chosen[name][queues[name].pop()] = False
        left[name] -= 1
    return chosen
