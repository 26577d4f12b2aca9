"""Chapter 5's rule for residual blocks: which of their layers lose channels where those of a sum are not all pruned together."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from lightning_reid.networks.channels.activation_memory import tensors_in
from lightning_reid.networks.channels.groups import ChannelGraph, ChannelGroup

ResidualBlocks = Literal["coupled", "zero-padded"]
"""How channels of a residual sum are pruned: all layers of the sum together, or by chapter 5's rule, ``zero_padded_groups``."""


class ZeroPaddedShortcut(nn.Module):
    """Puts zeros in the place of channels that a feature map has lost, so that it can be added to one that has them all.

    Source: thesis, figure 5.4 (b). Maps ``[B, K, H, W]`` to ``[B, C, H, W]``.

    Args:
        keep: ``[C]`` bool, true at the K channels that the map has.
    """

    places: Tensor

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        places = torch.full((len(keep),), int(keep.sum()), dtype=torch.int64)  # of the one channel of zeros behind the map's own
        places[keep] = torch.arange(int(keep.sum()))
        self.register_buffer("places", places, persistent=False)  # the channel plan has it

    @override
    def forward(self, features: Tensor) -> Tensor:
        padded: Tensor = F.pad(features, (0, 0, 0, 0, 0, 1)).index_select(1, self.places)
        return padded


def zero_padded_groups(network: nn.Module, input_shape: Sequence[int]) -> tuple[list[ChannelGroup], dict[str, str]]:
    """The groups of channels that chapter 5's rule leaves to be pruned, and the blocks whose shortcuts are then padded with zeros.

    In a block with an identity shortcut the last convolution is left alone, and those before it are free. In a block with a convolution in
    its shortcut, that one's filters decide, and the block's last convolution loses the same channels. The identity block behind it reads
    fewer channels, and adds zeros in their place. The network's first convolution is left alone, and so is what makes its output, or is
    read by a linear layer behind the blocks.

    The text has blocks of two convolutions, and leaves open the rest: that the "second layer" of a bottleneck is its third, and the two
    before it are free; that channels which no residual block adds to, of depthwise convolutions or attention, stay coupled; that in a
    layer's sensitivity (eq. 5.6) both layers of a projected block count, as both lose filters.

    Source: thesis, section 5.4.4 and figure 5.4.

    Args:
        network: With residual blocks of torchvision's or timm's ResNets; unchanged.
        input_shape: Of one input, the first size 1.

    Returns:
        The groups, in the network's order; and by name of a group that a block with a convolution in its shortcut makes, the identity
        block behind it, where there is one.

    Raises:
        ValueError: There is no such block, or the output of a projected one is read by others than the identity block behind it.
    """
    copied = copy.deepcopy(network)
    blocks = _residual_blocks(copied)
    if not blocks:
        raise ValueError(
            f"residual_blocks='zero-padded' is a rule for the blocks of ResNets, and {type(network).__name__} has none: take 'coupled'"
        )
    first, readers = _read_pass(copied, blocks, input_shape)
    graph = ChannelGraph(copied, input_shape)
    free = {group.name for group in graph.groups()}
    groups: list[ChannelGroup] = []
    padded: dict[str, str] = {}
    for group in graph.groups(with_output=True):
        made_by = {layer.name for layer in group.outputs if isinstance(copied.get_submodule(layer.name), nn.Conv2d)}
        summed = [block for block in blocks.values() if block.last in made_by]
        if not summed:
            groups += [group] if group.name in free and first not in made_by else []
        elif (alone := summed[0].projection) is not None and all(name.startswith(f"{summed[0].name}.") for name in made_by):
            groups += [replace(group, name=alone, decided_by=alone)] if group.name in free else []  # no other block adds to its channels
        else:
            behind = {block.projection: _identity_behind(block, blocks, readers) for block in summed if block.projection is not None}
            groups += [_part_of_block(group, projection, block) for projection, block in behind.items()]
            padded |= behind
    heads = _linear_layers_outside(copied, blocks)
    kept = [group for group in groups if not any(layer.name in heads for layer in group.inputs)]
    order = {name: place for place, (name, _) in enumerate(copied.named_modules())}
    return sorted(kept, key=lambda group: order[group.name]), padded


@dataclass(frozen=True)
class _Block:
    """A residual block: its last convolution, and the one in its shortcut, or ``None``; whether its shortcut is the identity."""

    name: str
    last: str
    projection: str | None
    is_identity: bool


def _residual_blocks(network: nn.Module) -> dict[str, _Block]:
    found = {}
    for name, module in network.named_modules():
        convolutions = [own for own in ("conv1", "conv2", "conv3") if isinstance(getattr(module, own, None), nn.Conv2d)]
        if not hasattr(module, "downsample") or convolutions[:2] != ["conv1", "conv2"]:
            continue
        shortcut: Any = module.downsample
        layers = [] if shortcut is None else shortcut.named_modules(prefix=f"{name}.downsample")
        projection = next((own for own, layer in layers if isinstance(layer, nn.Conv2d)), None)
        found[name] = _Block(name, f"{name}.{convolutions[-1]}", projection, shortcut is None)
    return found


def _identity_behind(block: _Block, blocks: Mapping[str, _Block], readers: Mapping[str, set[str]]) -> str:
    """The identity block that alone reads what a block gives."""
    names = sorted(readers[block.name])
    if len(names) == 1 and names[0] in blocks and blocks[names[0]].is_identity:
        return names[0]
    raise ValueError(
        f"residual_blocks='zero-padded' pads the shortcut of the identity block behind {block.name}, but its output is read by"
        f" {', '.join(names) or 'nobody'}: take 'coupled'"
    )


def _part_of_block(group: ChannelGroup, projection: str, behind: str) -> ChannelGroup:
    """The channels of a sum as one block makes them, up to where the block behind it adds to them."""
    inside = projection[: projection.rindex(".downsample") + 1]
    outputs, gates = (tuple(layer for layer in some if layer.name.startswith(inside)) for some in (group.outputs, group.gates))
    inputs = tuple(layer for layer in group.inputs if layer.name == f"{behind}.conv1" or layer.name.startswith(inside))
    return ChannelGroup(projection, group.size, outputs, inputs, gates, projection)


def _linear_layers_outside(network: nn.Module, blocks: Iterable[str]) -> set[str]:
    inside = tuple(f"{name}." for name in blocks)
    return {name for name, module in network.named_modules() if isinstance(module, nn.Linear) and not name.startswith(inside)}


def _read_pass(network: nn.Module, blocks: Iterable[str], input_shape: Sequence[int]) -> tuple[str, dict[str, set[str]]]:
    """The convolution that a pass comes to first, and which blocks, or functions outside of blocks, read the output of each block."""
    unreal = copy.deepcopy(network).to("meta").eval()
    reading, convolutions = _Reading(), []
    for name, module in unreal.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda module, inputs, name=name: convolutions.append(name))
        if name in blocks:
            module.register_forward_pre_hook(lambda module, inputs, name=name: reading.enter(name))
            module.register_forward_hook(lambda module, inputs, output, name=name: reading.leave(name, output))
    with torch.no_grad(), reading:
        unreal(torch.empty(*input_shape, device="meta"))
    return convolutions[0], reading.readers


class _Reading(TorchFunctionMode):
    """Who calls functions on what blocks gave."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[str, set[str]] = {}
        self._made: dict[StorageWeakRef, str] = {}
        self._inside: list[str] = []

    def enter(self, block: str) -> None:
        self._inside.append(block)

    def leave(self, block: str, output: Tensor) -> None:
        self._inside.pop()
        self._made[StorageWeakRef(output.untyped_storage())] = block  # kept: its place is not used again
        self.readers[block] = set()

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if any(True for _ in tensors_in(output)):  # a question for a shape reads nothing
            for tensor in tensors_in([*args, *(kwargs or {}).values()]):
                block = self._made.get(StorageWeakRef(tensor.untyped_storage()))
                if block is not None:
                    self.readers[block].add(self._inside[-1] if self._inside else f"{getattr(func, '__name__', func)} outside of blocks")
        return output
