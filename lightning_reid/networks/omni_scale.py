"""The block that OSNet is made of: it looks at its maps through windows of four sizes at once, and weighs what it sees in each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor, nn
from typing_extensions import override

DEPTHS = (1, 2, 3, 4)
"""Light convolutions of the streams of a block: the first sees 3 x 3 positions, the last 9 x 9."""
BOTTLENECK, GATE_REDUCTION = 4, 16

Norm = Callable[[int], nn.Module]
instance_norm: Norm = partial(nn.InstanceNorm2d, affine=True)
"""Of each image by itself, in training as in evaluation: it keeps no statistics."""


class ChannelGate(nn.Module):
    """Weigh channels by what is in the map: ``x * sigmoid(W2 relu(W1 mean_hw(x)))``, ``[B, C, h, w]`` to the same shape.

    Source: Zhou et al. 2019 (arXiv:1905.00953), section 3.2, the unified aggregation gate.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // GATE_REDUCTION)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    @override
    def forward(self, maps: Tensor) -> Tensor:
        weights: Tensor = self.fc2(self.fc1(maps.mean((2, 3), keepdim=True)).relu())
        return maps * weights.sigmoid()


class OSBlock(nn.Module):
    """A residual block of four streams, one to four light 3 x 3 convolutions each, that are added up as one gate weighs their channels.

    Source: Zhou et al. 2019 (arXiv:1905.00953), section 3.2; with instance normalization Zhou et al. 2021 (arXiv:1910.06827).
    Parameters have the names that torchreid releases: ``conv2a`` ... ``conv2d`` for the streams of OSNet, ``conv2.0.layers`` ...
    ``conv2.3.layers`` for those of OSNet-AIN.

    Args:
        inputs: Channels of the maps it is given, ``[B, inputs, h, w]``.
        outputs: Channels of the maps it gives, ``[B, outputs, h, w]``; the streams have a quarter of them.
        generalizing: Whether it is one of OSNet-AIN.
        instance_normalized: Normalize what is added to the shortcut by ``instance_norm`` in place of BatchNorm.
    """

    def __init__(self, inputs: int, outputs: int, *, generalizing: bool = False, instance_normalized: bool = False) -> None:
        super().__init__()
        width = outputs // BOTTLENECK
        self.conv1 = convolution(inputs, width)
        if generalizing:
            self.conv2 = nn.ModuleList(nn.Sequential(OrderedDict(layers=_stream(width, depth))) for depth in DEPTHS)
            self.streams = tuple(f"conv2.{number}" for number in range(len(DEPTHS)))
        else:
            self.conv2a = _light_convolution(width)
            self.conv2b, self.conv2c, self.conv2d = (_stream(width, depth) for depth in DEPTHS[1:])
            self.streams = ("conv2a", "conv2b", "conv2c", "conv2d")
        self.gate = ChannelGate(width)
        self.conv3 = convolution(width, outputs, norm=None if instance_normalized else nn.BatchNorm2d, relu=False)
        self.downsample = nn.Identity() if inputs == outputs else convolution(inputs, outputs, relu=False)
        self.IN = instance_norm(outputs) if instance_normalized else nn.Identity()

    @override
    def forward(self, maps: Tensor) -> Tensor:
        narrow = self.conv1(maps)
        scales = reduce(torch.add, (self.gate(self.get_submodule(stream)(narrow)) for stream in self.streams))
        added: Tensor = self.IN(self.conv3(scales)) + self.downsample(maps)
        return added.relu()


def convolution(
    inputs: int, outputs: int, *, size: int = 1, stride: int = 1, norm: Norm | None = nn.BatchNorm2d, relu: bool = True
) -> nn.Sequential:
    """A convolution ``conv`` without bias, its normalization ``bn`` and a ReLU."""
    parts: dict[str, nn.Module] = {"conv": nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)}
    if norm is not None:
        parts["bn"] = norm(outputs)
    if relu:
        parts["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(OrderedDict(parts))


def _light_convolution(channels: int) -> nn.Sequential:
    """A 3 x 3 convolution in two: over the channels, then over the positions."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, channels, 1, bias=False),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
    )


def _stream(channels: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(_light_convolution(channels) for _ in range(depth)))
