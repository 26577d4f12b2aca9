"""The smallest pieces that a network can be cut into, to be computed by several processes one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from torch import Tensor, nn

from lightning_reid.networks.osnet import STAGES, OSNet
from lightning_reid.networks.stages import stages_of


class Unit(NamedTuple):
    """A piece of a network that nothing runs around: what it is given it got from the piece before.

    Attributes:
        name: As in ``layer2.0`` or ``attention.stage2.1``.
        modules: Names of the network's submodules that it calls, which hold its parameters; none of a piece without any.
        run: The piece: a batch or its maps to the maps, or the embeddings, that the next piece is given. It looks the modules up by name
            when it is called, so that one that was replaced is the one that runs.
        takes_masks: Whether ``run`` also takes the masks of the batch, or ``None``.
    """

    name: str
    modules: tuple[str, ...]
    run: Callable[..., Tensor]
    takes_masks: bool = False


def blocks_of(trunk: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The submodules of a timm network in calling order, those together between which it cannot be cut: stem, blocks, end.

    Raises:
        ValueError: It is of another kind than ResNet, ConvNeXt, OSNet or EfficientNet, which MobileNetV2 is one of.
    """
    if isinstance(trunk, (ResNet, ConvNeXt)):
        stages = stages_of(trunk)
        inner = [(name,) for stage in stages.stages for name in (*stage.entry, *stage.blocks)]
        return tuple(names for names in (stages.stem, *inner, stages.end) if names)
    if isinstance(trunk, EfficientNet):
        blocks = [(f"blocks.{stage}.{block}",) for stage, made in enumerate(_children(trunk, "blocks")) for block in range(len(made))]
        return (("conv_stem", "bn1"), *blocks, ("conv_head", "bn2"))
    if isinstance(trunk, OSNet):
        return _blocks_of_osnet(trunk)
    raise ValueError(
        f"cannot cut a {type(trunk).__name__} into units: that is known for timm's ResNet family (resnet18, resnet50, resnext50_32x4d,"
        " resnest50d...), ConvNeXt, OSNet, and EfficientNet with MobileNetV2 (mobilenetv2_100)"
    )


def _blocks_of_osnet(trunk: OSNet) -> tuple[tuple[str, ...], ...]:
    blocks: list[tuple[str, ...]] = [("conv1", "maxpool")]
    for name, part in trunk.named_children():
        if name in STAGES:
            blocks += [(f"{name}.{block}",) for block, _ in part.named_children()]
        elif name not in blocks[0]:
            blocks.append((name,))
    return tuple(blocks)


def through(network: nn.Module, names: Sequence[str], maps: Tensor) -> Tensor:
    """The maps after some submodules of a network, looked up by name: whoever replaced one has it called."""
    for name in names:
        maps = network.get_submodule(name)(maps)
    return maps


def _children(trunk: nn.Module, name: str) -> list[nn.Sequential]:
    return list(trunk.get_submodule(name).children())  # type: ignore[arg-type]  # timm's stages are sequences of blocks
