"""The front of a network: its stem and first stages, which some methods leave as they are."""

from __future__ import annotations

from typing import Any

from torch import nn

_FIRST_REDUCTION = 4
"""Pixels of the image per position behind the first stage; each next one halves the map."""


def front_modules(trunk: nn.Module, stages: int = 2) -> tuple[str, ...]:
    """Names of the submodules of a timm network from its input up to the end of a stage, in calling order.

    Args:
        trunk: Of timm, with ``feature_info``: ResNets, ConvNeXts, MobileNets, EfficientNets and others whose map halves stage by stage.
        stages: How many of the four stages; 0 gives none, not even the stem.

    Raises:
        ValueError: The network has no such stages.

    Example:
        >>> import timm
        >>> from lightning_reid.networks.front import front_modules
        >>> front_modules(timm.create_model("resnet18"), 2)
        ('conv1', 'bn1', 'act1', 'maxpool', 'layer1', 'layer2')
    """
    if not stages:
        return ()
    path = _end_of_stage(trunk, stages).split(".")
    found = []
    for name, child in trunk.named_children():
        if name != path[0]:
            found.append(name)
            continue
        if len(path) == 1 or not isinstance(child, nn.Sequential | nn.ModuleList):
            return (*found, name)
        inner = [inside for inside, _ in child.named_children()]
        return (*found, *(f"{name}.{inside}" for inside in inner[: inner.index(path[1]) + 1]))
    raise ValueError(f"{type(trunk).__name__} has no module {'.'.join(path)}")


def _end_of_stage(trunk: nn.Module, stages: int) -> str:
    told: Any = getattr(trunk, "feature_info", ())
    entries = [entry for entry in told if isinstance(entry, dict)]
    wanted = _FIRST_REDUCTION * 2 ** (stages - 1)
    named = [str(entry["module"]) for entry in entries if entry.get("reduction") == wanted and entry.get("module")]
    if not named:
        reductions = [entry.get("reduction") for entry in entries]
        raise ValueError(
            f"{type(trunk).__name__} has no stage behind which the map is a {wanted}th of the image (it tells {reductions}): give"
            " frozen_stages=0, or a network such as resnet50 or mobilenetv2_100"
        )
    return named[-1]
