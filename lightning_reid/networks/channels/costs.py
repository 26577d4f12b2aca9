"""What a network costs under a channel plan, without making the smaller network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_reid.networks.channels.groups import ChannelGroup
from lightning_reid.networks.channels.plan import ChannelPlan, materialize
from lightning_reid.networks.multiply_adds import count_multiply_adds


@dataclass(frozen=True)
class LayerSize:
    """Sizes of one layer at full width, from which its costs at any width follow.

    Attributes:
        inputs: Channels, or features, it takes.
        outputs: It gives.
        weights_a_pair: Weights for each pair of an input and an output channel, 0 for a normalization.
        weights_an_output: Further weights for each output channel: biases, scales.
        positions: Of its output map, for one input of the network: how often its weights are multiplied.
        depthwise: Each output channel has one input channel.
    """

    inputs: int
    outputs: int
    weights_a_pair: int
    weights_an_output: int
    positions: int
    depthwise: bool


class ChannelCosts:
    """Multiply-adds and parameters of a network as functions of how many channels of each group are left: exact, in microseconds.

    Parameters of a layer grow with its inputs times its outputs. Products between activations, as in attention, must grow in proportion to
    each group alone, as they do in non-local blocks.

    Args:
        network: At full width; unchanged.
        groups: Of ``find_channel_groups``.
        input_shape: Of one input of the network, the first size 1: ``(1, 3, 256, 128)`` for an image.

    Raises:
        ValueError: Products between activations grow in another way.
    """

    def __init__(self, network: nn.Module, groups: Sequence[ChannelGroup], input_shape: Sequence[int]) -> None:
        self.groups = list(groups)
        self.layers = _layer_sizes(network, input_shape)
        self._lost_inputs = {group.name: [(layer.name, layer.channels.shape[1]) for layer in group.inputs] for group in groups}
        self._lost_outputs = {group.name: [(layer.name, layer.channels.shape[1]) for layer in group.outputs] for group in groups}
        followed = {id(parameter) for name in self.layers for parameter in network.get_submodule(name).parameters(recurse=False)}
        self._other_parameters = sum(parameter.numel() for parameter in network.parameters() if id(parameter) not in followed)
        self.attention, self._attention_a_channel = _attention_costs(network, self.groups, input_shape)

    @property
    def full(self) -> dict[str, int]:
        """Channels of every group before any was removed."""
        return {group.name: group.size for group in self.groups}

    def __call__(self, left: Mapping[str, int]) -> dict[str, float]:
        """``{"flops", "params"}``: multiply-adds (not twice as many) of one input, and parameters, with ``left`` channels in each group."""
        inputs, outputs = self._channels(left)
        attention = self.attention
        for group in self.groups:
            attention -= self._attention_a_channel.get(group.name, 0) * (group.size - left[group.name])
        pairs = {name: _pairs(layer, inputs[name], outputs[name]) for name, layer in self.layers.items()}
        flops = sum(layer.positions * pairs[name] for name, layer in self.layers.items()) + attention
        params = sum(pairs[name] + layer.weights_an_output * outputs[name] for name, layer in self.layers.items()) + self._other_parameters
        return {"flops": float(flops), "params": float(params)}

    def widths(self, left: Mapping[str, int]) -> dict[str, tuple[float, float]]:
        """Shares of inputs and outputs that every layer keeps, with ``left`` channels in each group."""
        inputs, outputs = self._channels(left)
        return {name: (inputs[name] / layer.inputs, outputs[name] / layer.outputs) for name, layer in self.layers.items()}

    def _channels(self, left: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Input and output channels of every layer."""
        inputs = {name: layer.inputs for name, layer in self.layers.items()}
        outputs = {name: layer.outputs for name, layer in self.layers.items()}
        for group in self.groups:
            removed = group.size - left[group.name]
            for sizes, lost in ((inputs, self._lost_inputs), (outputs, self._lost_outputs)):
                for name, channels in lost[group.name]:
                    sizes[name] -= channels * removed
        return inputs, outputs


def _pairs(layer: LayerSize, inputs: int, outputs: int) -> int:
    return layer.weights_a_pair * (outputs if layer.depthwise else inputs * outputs)


def _layer_sizes(network: nn.Module, input_shape: Sequence[int]) -> dict[str, LayerSize]:
    unreal = copy.deepcopy(network).to("meta").eval()
    positions: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            positions[name] = positions.get(name, 0) + output.numel() // _outputs(module)

        return hook

    kinds = (nn.Conv2d, nn.Linear, _BatchNorm)
    layers = {name: module for name, module in unreal.named_modules() if isinstance(module, kinds)}
    for name, module in layers.items():
        module.register_forward_hook(count(name))
    with torch.no_grad():
        unreal(torch.empty(*input_shape, device="meta"))
    return {name: _size_of(module, positions.get(name, 0)) for name, module in layers.items()}


def _outputs(module: Any) -> int:
    return int(next(getattr(module, name) for name in ("out_channels", "out_features", "num_features") if hasattr(module, name)))


def _size_of(module: Any, positions: int) -> LayerSize:
    outputs = _outputs(module)
    an_output = sum(parameter.numel() for parameter in (module.weight, module.bias) if parameter is not None and parameter.ndim == 1)
    if isinstance(module, _BatchNorm):
        return LayerSize(outputs, outputs, 0, an_output // outputs, positions, depthwise=True)
    depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
    inputs = int(module.in_channels if isinstance(module, nn.Conv2d) else module.in_features)
    pairs = outputs if depthwise else inputs * outputs
    return LayerSize(inputs, outputs, module.weight.numel() // pairs, an_output // outputs, positions, depthwise)


def _attention_costs(network: nn.Module, groups: list[ChannelGroup], input_shape: Sequence[int]) -> tuple[int, dict[str, int]]:
    """Multiply-adds between activations, and what each channel of a group adds to them."""
    unreal = copy.deepcopy(network).to("meta")

    def without_one(*some: ChannelGroup) -> int:
        keep = {group.name: torch.arange(group.size) > 0 for group in some if group.size > 1}
        return count_multiply_adds(materialize(unreal, ChannelPlan(tuple(input_shape), keep)), input_shape).attention

    full = count_multiply_adds(unreal, input_shape).attention
    if not full:
        return 0, {}
    # queries, keys and values come straight from a projection; whether others matter as well is told by one count of all together
    straight = [group for group in groups if any(not isinstance(unreal.get_submodule(gate.name), _BatchNorm) for gate in group.gates)]
    found = {group.name: full - without_one(group) for group in straight}
    together = without_one(*groups)
    if full - sum(found.values()) != together:
        found = {group.name: full - without_one(group) for group in groups}
    if full - sum(found.values()) != together:
        raise ValueError("products between activations do not shrink by a share for each channel: such a network cannot be counted")
    return full, found
