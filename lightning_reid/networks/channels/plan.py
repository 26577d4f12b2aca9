"""Channel plans: which channels of a network stay. Masks play a plan while a network trains, ``materialize`` makes the smaller network."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from lightning_reid.arguments import LARGEST_SIDE, require_choice, require_count, shown
from lightning_reid.networks.channels.groups import ChannelGraph, ChannelGroup
from lightning_reid.networks.channels.removal import remove_channels
from lightning_reid.networks.channels.residual_blocks import ResidualBlocks, ZeroPaddedShortcut, zero_padded_groups

LARGEST_INPUT = 10_000_000
"""Numbers that a network is traced with: of a clip, or a few large images."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ChannelPlan:
    """Which channels of each layer of a network stay.

    Attributes:
        input_shape: Of the tensor the network is traced with, e.g. ``(1, 3, 256, 128)``.
        keep: By name of a layer, ``[C]`` bool over its output channels, on the CPU; layers that are not named keep all.
        residual_blocks: Whether all layers of a residual sum lose the channels of the one that is named, or only its block does and the
            next one's shortcut is ``"zero-padded"``, see ``zero_padded_groups``.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import ChannelPlan
        >>> plan = ChannelPlan((1, 3, 64, 32), {"backbone.trunk.layer1.0.conv1": torch.arange(8) < 6})
        >>> {name: int(mask.sum()) for name, mask in plan.keep.items()}  # channels that are left
        {'backbone.trunk.layer1.0.conv1': 6}
    """

    input_shape: tuple[int, ...]
    keep: dict[str, Tensor] = field(default_factory=dict)
    residual_blocks: ResidualBlocks = "coupled"

    def as_tensors(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        keep = {name: mask.cpu() for name, mask in self.keep.items()}
        return {"input_shape": list(self.input_shape), "keep": keep, "residual_blocks": self.residual_blocks}

    @classmethod
    def from_tensors(cls, content: Mapping[str, Any]) -> ChannelPlan:
        """The plan that ``as_tensors`` turned into tensors and plain values.

        Raises:
            ValueError: It did not: a shape of an input that no network is traced with, masks that are none, or another rule for residual
                blocks.
        """
        shape, keep = (content.get(name) if isinstance(content, Mapping) else None for name in ("input_shape", "keep"))
        if not isinstance(shape, (list, tuple)) or not 3 <= len(shape) <= 5 or not isinstance(keep, Mapping):
            raise ValueError(f"the channel plan is {shown(content)}: expected an input_shape, and masks by name to keep")
        for side in shape:
            require_count("input_shape of the channel plan", side, high=LARGEST_SIDE)
        if math.prod(shape) > LARGEST_INPUT:
            raise ValueError(f"the channel plan is traced with an input {shown(shape)}, expected at most {LARGEST_INPUT:,} numbers")
        for name, mask in keep.items():
            if not isinstance(name, str) or not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 1:
                raise ValueError(f"the channel plan keeps {shown(mask)} of {shown(name)}: expected a mask [C] bool by name of a layer")
        residual_blocks = content.get("residual_blocks", "coupled")  # older plans do not tell
        require_choice("residual_blocks of the channel plan", residual_blocks, get_args(ResidualBlocks))
        return cls(tuple(shape), dict(keep), residual_blocks)


def materialize(network: Network, plan: ChannelPlan) -> Network:
    """A copy of ``network`` without the channels that ``plan`` drops: really smaller, with the outputs of the masked network.

    Args:
        network: Of full width; unchanged.
        plan: See :class:`ChannelPlan`; coupled layers follow the one that is named, or those of its block do.

    Raises:
        ValueError: The plan names a layer that the network has not, or another number of channels, or keeps none; or the network cannot
            be traced.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import ChannelPlan, EmbeddingNetwork, build_backbone, materialize
        >>> network = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])).eval()
        >>> plan = ChannelPlan((1, 3, 64, 32), {"backbone.trunk.layer1.0.conv1": torch.arange(8) < 6})
        >>> smaller = materialize(network, plan)
        >>> smaller.get_submodule("backbone.trunk.layer1.0.conv1").out_channels
        6
        >>> smaller(torch.rand(2, 3, 64, 32)).embedding.shape  # as wide as before
        torch.Size([2, 16])
    """
    smaller = copy.deepcopy(network)
    layers = dict(smaller.named_modules())
    for name, mask in plan.keep.items():
        size = getattr(layers.get(name), "out_channels", None)
        if size != len(mask) or not mask.any():
            has = f"{size} output channels" if size else "no such convolution"
            raise ValueError(
                f"the channel plan keeps {int(mask.sum())} of {len(mask)} channels of {name}, the network has {has}:"
                " a layer must keep a channel, and a plan fits the network it was made for"
            )
    if plan.residual_blocks == "zero-padded":
        _remove_and_pad(smaller, plan)
    else:
        graph = ChannelGraph(smaller, plan.input_shape)
        for name, mask in plan.keep.items():
            if not mask.all():
                graph.remove(name, (~mask).nonzero().flatten().tolist())
    if getattr(smaller, "channel_plan", plan) is None:  # a network that is saved by itself tells of what it was made
        smaller.channel_plan = plan  # type: ignore[assignment]
    return smaller


def _remove_and_pad(network: nn.Module, plan: ChannelPlan) -> None:
    groups, padded = zero_padded_groups(network, plan.input_shape)
    unknown = set(plan.keep) - {group.name for group in groups}
    if unknown:
        raise ValueError(f"the channel plan drops channels of {sorted(unknown)[0]}, which residual_blocks='zero-padded' leaves alone")
    remove_channels(network, groups, {name: ~mask for name, mask in plan.keep.items()})
    device = next(network.parameters()).device
    for name, block in padded.items():
        keep = plan.keep.get(name)
        if keep is not None and not keep.all():
            network.get_submodule(block).downsample = ZeroPaddedShortcut(keep).to(device)


class ChannelMasks:
    """Multiplies what the layers of a network give by 0 where a plan drops channels, until it is told to stop.

    Masked behind the groups' gates. Through them no gradient flows to what is dropped; after ``silence`` its weights are 0, so that the
    network gives the same without masks, as it does when it is loaded from a checkpoint.

    Args:
        network: Changed by forward hooks only.
        groups: Of ``find_channel_groups``.
    """

    def __init__(self, network: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        self.network, self.groups = network, {group.name: group for group in groups}
        self.keep = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
        self._masks: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def set(self, keep: Mapping[str, Tensor]) -> None:
        """Play another plan: ``[C]`` bool by group; groups that are not named stay as they are."""
        self.keep |= {name: mask.cpu().clone() for name, mask in keep.items()}
        self._masks = {}
        for name, group in self.groups.items():
            if self.keep[name].all():
                continue
            for layer in group.gates:
                size = _num_outputs(self.network.get_submodule(layer.name))
                mask = self._masks.setdefault(layer.name, torch.ones(size, dtype=torch.bool))
                mask[layer.channels[~self.keep[name]].flatten()] = False
        self.stop()
        device = next(self.network.parameters()).device
        self._masks = {name: mask.to(device) for name, mask in self._masks.items()}
        for name, mask in self._masks.items():
            module = self.network.get_submodule(name)
            self._hooks.append(module.register_forward_hook(_masking(module, mask)))

    @torch.no_grad()
    def silence(self) -> None:
        """Set scale and shift of dropped channels, or the filters that make them, to 0."""
        for name, mask in self._masks.items():
            module = self.network.get_submodule(name)
            for parameter in (module.weight, module.bias):
                if isinstance(parameter, Tensor):
                    parameter[~mask] = 0

    def stop(self) -> None:
        """Take the hooks out; the plan is kept."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _masking(layer: nn.Module, mask: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    only = weakref.ref(layer)

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if module is not only():  # a copy of the network brings its hooks along, and may be of another width by now
            return None
        return output * mask.view(1, -1, *[1] * (output.ndim - 2)).to(output.dtype)

    return hook


def _num_outputs(module: nn.Module) -> int:
    size = module.num_features if isinstance(module, _BatchNorm) else module.out_channels
    assert isinstance(size, int)  # torch types attributes of modules loosely
    return size
