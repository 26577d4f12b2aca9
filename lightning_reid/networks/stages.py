"""The stages of a timm network: the modules it calls, in order, so that something can happen between two of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from torch import nn


class Stage(NamedTuple):
    """One stage: blocks that work at one size of the feature map.

    Attributes:
        entry: Names of the modules before the first block, in calling order.
        blocks: Names of its blocks, in calling order.
        channels: Channels of its output.
        stride: Pixels of the image per position of its output, where no ``last_stride`` has been taken out.
    """

    entry: tuple[str, ...]
    blocks: tuple[str, ...]
    channels: int
    stride: int


class Stages(NamedTuple):
    """A network from image to feature map, as names of its submodules.

    Attributes:
        stem: What comes before the first stage.
        stages: The four stages; ``stages[1]`` is timm's ``layer2`` and conv3 of the papers.
        end: What comes after the last one.
    """

    stem: tuple[str, ...]
    stages: tuple[Stage, ...]
    end: tuple[str, ...]


def stages_of(trunk: nn.Module) -> Stages:
    """Find the stages of a timm ResNet (also ResNeXt, ResNeSt, SE-, ECA-, Res2Net... all of timm's class ``ResNet``) or ConvNeXt.

    Raises:
        ValueError: It is a network of another kind.
    """
    if isinstance(trunk, ResNet):
        return Stages(("conv1", "bn1", "act1", "maxpool"), tuple(_stage(trunk, info, "{}") for info in trunk.feature_info[-4:]), ())
    if isinstance(trunk, ConvNeXt):
        stages = tuple(_stage(trunk, info, "{}.blocks", entry=("{}.downsample",)) for info in trunk.feature_info[-4:])
        return Stages(("stem",), stages, ("norm_pre",))
    raise ValueError(
        f"cannot tell the stages of a {type(trunk).__name__}: they are known of timm's ResNet family (resnet18, resnet50, resnext50_32x4d, "
        "resnest50d...) and of ConvNeXt"
    )


def _stage(trunk: nn.Module, info: dict[str, Any], blocks: str, entry: tuple[str, ...] = ()) -> Stage:
    """The stage of an entry of timm's ``feature_info``; ``{}`` in the names of its parts stands for its own name."""
    parent = blocks.format(info["module"])
    names = tuple(f"{parent}.{name}" for name, _ in trunk.get_submodule(parent).named_children())
    return Stage(tuple(part.format(info["module"]) for part in entry), names, info["num_chs"], info["reduction"])
