"""The order in which a network's maps lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
LEAST_CHANNELS = 16
"""Into a strided 1 x 1 convolution, for channels-last on a CPU: what AVX-512 takes at once."""


def in_fast_layout(network: Network) -> Network:
    """Lay weights out channels-last, which suits CPUs and tensor cores alike; convolutions run in the layout of their weights.

    Not where a strided 1 x 1 convolution has fewer than 16 input channels, as in narrow or pruned networks: the gradient of its weights
    then writes past its memory in oneDNN (its issue 6035: crashes, or wrong gradients) when maps are channels-last.
    """
    narrow = any(
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.in_channels < LEAST_CHANNELS
        for layer in network.modules()
    )
    return network.to(memory_format=torch.contiguous_format if narrow else torch.channels_last)


def take_channels_last(network: nn.Module) -> None:
    """From now on lay maps out channels-last though the weights are not: nearly as fast, where weights cannot lie so.

    The first convolution gets its images in that order, and every layer after it gives what it gets.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda _, images: (images[0].contiguous(memory_format=torch.channels_last),))
            return
