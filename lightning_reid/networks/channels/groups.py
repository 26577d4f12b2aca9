"""Which channels of which layers of a network can only be removed together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from lightning_reid.networks.evaluating import evaluating

TAKES_APART = (
    "chunk",
    "split",
    "split_with_sizes",
    "tensor_split",
    "unsafe_chunk",
    "unsafe_split",
    "narrow",
    "index_select",
    "select",
    "unbind",
    "__getitem__",
)
"""Functions that may give some channels of a map."""
COUNTED = (nn.Conv2d, nn.Linear, _BatchNorm)
"""Layers whose channels are followed."""


@dataclass(frozen=True)
class CoupledLayer:
    """A layer that loses channels with a group.

    Attributes:
        name: Of the module in the network.
        channels: ``[C, m]`` int64: the layer's own channels that belong to each of the group's C; m above 1 behind a flattened map.
    """

    name: str
    channels: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are shared by all layers that a residual sum, a depthwise convolution or an attention ties together.

    Attributes:
        name: A convolution whose filters make the channels.
        size: C, how many there are.
        outputs: Layers that lose output channels: convolutions, and normalizations.
        inputs: Layers that lose input channels.
        gates: Of ``outputs``, the last layer of each branch before others read the channels: normalizations, and convolutions that none
            follows. Where they give zeros the channels are as good as removed.
        decided_by: The convolution by whose filters alone channels are chosen to go; ``None`` for all that make them.
    """

    name: str
    size: int
    outputs: tuple[CoupledLayer, ...]
    inputs: tuple[CoupledLayer, ...]
    gates: tuple[CoupledLayer, ...]
    decided_by: str | None = None


def first_tensor(output: Tensor | Sequence[Tensor | None]) -> Tensor:
    """The output of a network: the embedding of an ``EmbeddingOutput``, the first tensor of a sequence, or a tensor itself."""
    if isinstance(output, Tensor):
        return output
    embedding = getattr(output, "embedding", None)
    return embedding if isinstance(embedding, Tensor) else next(part for part in output if part is not None)


class ChannelGraph:
    """torch-pruning's dependency graph of a network, with the network's output marked.

    Args:
        network: Takes one tensor, gives one, or an ``EmbeddingOutput``; in evaluation mode while it is traced.
        input_shape: Shape of that tensor, e.g. ``(1, 3, 256, 128)``.

    Raises:
        ValueError: A layer or parameter cannot be followed; the message names it.
    """

    def __init__(self, network: nn.Module, input_shape: Sequence[int]) -> None:
        _refuse_what_cannot_be_followed(network)
        self.network = network
        with evaluating(network), torch.enable_grad():
            marked = _Marked(network, input_shape)
            scalars = [parameter for parameter in network.parameters() if parameter.numel() == 1]
            self.graph = tp.DependencyGraph().build_dependency(
                marked, torch.zeros(*input_shape, device=next(network.parameters()).device), ignored_params=scalars, verbose=False
            )
        self._marker, self._names = marked.marker, {module: name for name, module in network.named_modules()}
        unseen = [name for name, module in network.named_modules() if isinstance(module, COUNTED) and module not in self.graph.module2node]
        if unseen:
            raise ValueError(
                f"torch-pruning cannot trace {unseen[0]} ({type(network.get_submodule(unseen[0])).__name__}): the forward pass does not"
                " reach it, or reaches it without gradients"
            )

    def groups(self, *, with_output: bool = False) -> list[ChannelGroup]:
        """The groups of channels that filters make, in the network's order.

        Those that make the output, whose width stays, are left out, unless ``with_output``.
        """
        all_groups = self.graph.get_all_groups(root_module_types=[nn.Conv2d])
        found = [self._group(group) for group in all_groups if with_output or not self._is_output(group)]
        order = {name: place for place, name in enumerate(self._names.values())}
        return sorted((group for group in found if group is not None), key=lambda group: order[group.name])

    def remove(self, layer: str, channels: Sequence[int]) -> None:
        """Remove output channels of a layer, and what hangs on them, from the network itself."""
        module = self.network.get_submodule(layer)
        self.graph.get_pruning_group(module, self.graph.get_pruner_of_module(module).prune_out_channels, list(channels)).prune()

    def _is_output(self, group: tp.Group) -> bool:
        return any(item.dep.target.module is self._marker for item in group)

    def _group(self, group: tp.Group) -> ChannelGroup | None:
        root = group[0].dep.target.module
        size = len(group[0].idxs)
        outputs: dict[str, CoupledLayer] = {}
        inputs: dict[str, CoupledLayer] = {}
        for item in group:
            module = item.dep.target.module
            if module not in self._names:  # an operation between layers
                continue
            channels = torch.full((size, len(item.idxs) // size), -1, dtype=torch.int64)
            filled = [0] * size
            for own, of_root in zip(item.idxs, item.root_idxs, strict=True):
                channels[of_root, filled[of_root]] = own
                filled[of_root] += 1
            side = outputs if self.graph.is_out_channel_pruning_fn(item.dep.handler) else inputs
            side[self._names[module]] = CoupledLayer(self._names[module], channels)
        normalized = {self._behind(name) for name in outputs if isinstance(self.network.get_submodule(name), _BatchNorm)}
        gates = tuple(layer for layer in outputs.values() if self.network.get_submodule(layer.name) not in normalized)
        return ChannelGroup(self._names[root], size, tuple(outputs.values()), tuple(inputs.values()), gates)

    def _behind(self, norm: str) -> nn.Module | None:
        """The layer that gives to this normalization and to nothing else; timm's normalizations are operations and a layer to the graph."""
        node = self.graph.module2node[self.network.get_submodule(norm)]
        while len(node.inputs) == 1 and len(node.inputs[0].outputs) == 1:
            node = node.inputs[0]
            if node.module in self._names:
                behind: nn.Module = node.module
                return behind
        return None


def find_channel_groups(network: nn.Module, input_shape: Sequence[int]) -> list[ChannelGroup]:
    """The groups of channels of a network that can be pruned; see :class:`ChannelGraph`, which does the work on a copy."""
    return ChannelGraph(copy.deepcopy(network), input_shape).groups()


class _Marked(nn.Module):
    """The network with a layer behind it that nothing else has: what it couples with is the output."""

    def __init__(self, network: nn.Module, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        device = next(network.parameters()).device
        with torch.no_grad(), _WholeMaps():
            output = first_tensor(network(torch.zeros(*input_shape, device=device)))
        if output.ndim != 2:
            raise ValueError(f"a network to prune gives [B, D], this one gave {list(output.shape)}")
        self.marker = nn.Linear(output.shape[1], 1).to(device)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        marked: Tensor = self.marker(first_tensor(self.network(inputs)))
        return marked


def _has_all_channels(part: Tensor, maps: Tensor) -> bool:
    """Of a map that lost a dimension, by the step from one channel to the next: an image of a batch has it still, a channel has not."""
    if part.ndim == 4:
        return part.shape[1] == maps.shape[1]
    return maps.shape[1] == 1 or any(size == maps.shape[1] and step == maps.stride(1) for size, step in zip(part.shape, part.stride()))


class _WholeMaps(TorchFunctionMode):
    """Refuses to take the channels of a map apart: torch-pruning follows one of the parts, and removes other channels than are masked."""

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in TAKES_APART and args and isinstance(args[0], Tensor) and args[0].ndim == 4:
            parts = output if isinstance(output, (tuple, list)) else (output,)
            if not all(_has_all_channels(part, args[0]) for part in parts):
                told = f"the forward pass takes a map of {args[0].shape[1]} channels apart ({name.strip('_')})"
                raise ValueError(f"{told}: channels of parts cannot be pruned")
        return output


def _refuse_what_cannot_be_followed(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups not in (1, module.in_channels):
            raise ValueError(f"{name} is a convolution in {module.groups} groups: only whole and depthwise ones can be pruned")
        if isinstance(module, COUNTED):
            continue
        loose = [own for own, parameter in module.named_parameters(recurse=False) if parameter.numel() > 1]
        if loose:
            raise ValueError(
                f"torch-pruning cannot trace {name or 'the network'} ({type(module).__name__}): its parameter {loose[0]} belongs to no"
                " convolution, linear layer or BatchNorm"
            )
