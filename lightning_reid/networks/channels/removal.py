"""Channels taken out of the layers of a network, one group after another's list: what a plan needs once the groups are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_reid.networks.channels.groups import ChannelGroup


def remove_channels(network: nn.Module, groups: Sequence[ChannelGroup], gone: Mapping[str, Tensor]) -> None:
    """Take channels of groups out of the network itself: out of the layers that make them, and of those that read them.

    Args:
        network: Changed; of the width that the groups were found at.
        groups: Of the network.
        gone: ``[C]`` bool by name of a group, true where a channel goes; groups that are not named keep all.
    """
    outputs: dict[str, set[int]] = {}
    inputs: dict[str, set[int]] = {}
    for group in groups:
        if group.name not in gone:
            continue
        for layers, lost in ((group.outputs, outputs), (group.inputs, inputs)):
            for layer in layers:
                lost.setdefault(layer.name, set()).update(layer.channels[gone[group.name]].flatten().tolist())
    # all that a layer loses on one side goes at once: after a first removal the numbers of its channels would be others
    for name, channels in outputs.items():
        _remove_outputs(network.get_submodule(name), sorted(channels))
    for name, channels in inputs.items():
        _remove_inputs(network.get_submodule(name), sorted(channels))


def _remove_outputs(layer: nn.Module, channels: list[int]) -> None:
    if isinstance(layer, _BatchNorm):
        tp.prune_batchnorm_out_channels(layer, channels)
    elif isinstance(layer, nn.Linear):
        tp.prune_linear_out_channels(layer, channels)
    elif isinstance(layer, nn.Conv2d) and layer.groups > 1:  # depthwise: others are refused when groups are looked for
        tp.prune_depthwise_conv_out_channels(layer, channels)
    else:
        tp.prune_conv_out_channels(layer, channels)


def _remove_inputs(layer: nn.Module, channels: list[int]) -> None:
    remove = tp.prune_linear_in_channels if isinstance(layer, nn.Linear) else tp.prune_conv_in_channels
    remove(layer, channels)
