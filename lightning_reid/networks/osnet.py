"""OSNet and OSNet-AIN, small networks made for re-ID, known to timm by the names that their weights were released under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.networks.omni_scale import BOTTLENECK, OSBlock, convolution, instance_norm

WIDTHS: dict[str, tuple[int, int, int, int]] = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
    "osnet_ain_x1_0": (64, 256, 384, 512),
}
"""Channels behind the first convolution and of the three stages, by name."""
GENERALIZING = ("osnet_ain_x1_0",)
"""Which of them are OSNet-AINs."""
STAGES = ("conv2", "conv3", "conv4")
"""Rows of blocks."""
INSTANCE_NORMALIZED = ((True, True), (False, True), (True, False))
"""Blocks of OSNet-AIN's stages in which its search put instance normalization."""

default_cfgs = generate_default_cfgs({name: {"num_classes": 0, "input_size": (3, 256, 128)} for name in WIDTHS})
"""What timm knows of them: that there are no weights to fetch."""


class OSNet(nn.Module):
    """OSNet up to its feature map: images ``[B, 3, H, W]`` to ``[B, channels[3], H / 16, W / 16]``.

    Source: Zhou et al. 2019 (arXiv:1905.00953), table 1; OSNet-AIN, with instance normalization behind the first convolution and in some
    blocks, Zhou et al. 2021 (arXiv:1910.06827). Parameters and buffers have the names and shapes of torchreid's ``osnet_x1_0`` and
    ``osnet_ain_x1_0``. The layer of 512 numbers behind the pooling, ``fc`` of the papers, is no part of it: networks that are trained here
    have the BNNeck of every backbone there, those of released files ``ReducedPooling``.

    Attributes:
        num_features: Channels of the feature map.
        feature_info: What timm's networks tell of their stages.

    Args:
        channels: Behind the first convolution and of the three stages; those of the stages multiples of 4.
        generalizing: Whether it is an OSNet-AIN.

    Raises:
        ValueError: ``channels`` are none of such a network.
    """

    def __init__(self, channels: Sequence[int], *, generalizing: bool = False) -> None:
        super().__init__()
        _check_channels(channels)
        self.conv1 = convolution(3, channels[0], size=7, stride=2, norm=instance_norm if generalizing else nn.BatchNorm2d)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, (name, inputs, outputs) in enumerate(zip(STAGES, channels, channels[1:], strict=False)):
            normalized = INSTANCE_NORMALIZED[stage] if generalizing else (False, False)
            row: list[nn.Module] = [
                OSBlock(width, outputs, generalizing=generalizing, instance_normalized=by_image)
                for width, by_image in zip((inputs, outputs), normalized, strict=True)
            ]
            halving = nn.Sequential(convolution(outputs, outputs), nn.AvgPool2d(2)) if name != STAGES[-1] else None
            if halving is not None and not generalizing:  # the released names count it as one of the row
                row.append(halving)
            self.add_module(name, nn.Sequential(*row))
            if halving is not None and generalizing:
                self.add_module(name.replace("conv", "pool"), halving)
        self.conv5 = convolution(channels[3], channels[3])
        self.num_features = channels[3]
        ends = ("conv2", "conv3", "conv5") if generalizing else ("conv2.1", "conv3.1", "conv5")
        told = zip(ends, channels[1:], (4, 8, 16), strict=True)
        self.feature_info = [{"module": module, "num_chs": width, "reduction": reduction} for module, width, reduction in told]
        _initialize(self)

    def forward_features(self, images: Tensor) -> Tensor:
        """The feature map ``[B, channels[3], H / 16, W / 16]`` of images ``[B, 3, H, W]`` of any size."""
        maps = images
        for part in self.children():
            maps = part(maps)
        return maps

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images)


@register_model
def osnet_x1_0(**options: Any) -> OSNet:
    """Build OSNet with the published channels."""
    return _made("osnet_x1_0", **options)


@register_model
def osnet_x0_75(**options: Any) -> OSNet:
    """Build OSNet with three quarters of the channels."""
    return _made("osnet_x0_75", **options)


@register_model
def osnet_x0_5(**options: Any) -> OSNet:
    """Build OSNet with half of the channels."""
    return _made("osnet_x0_5", **options)


@register_model
def osnet_x0_25(**options: Any) -> OSNet:
    """Build OSNet with a quarter of the channels."""
    return _made("osnet_x0_25", **options)


@register_model
def osnet_ain_x1_0(**options: Any) -> OSNet:
    """Build OSNet-AIN with the published channels."""
    return _made("osnet_ain_x1_0", **options)


_FROM_THE_REGISTRY = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""What ``timm.create_model`` hands on of weights, which there are none of."""


def _made(name: str, *, channels: Sequence[int] | None = None, **handed_on: Any) -> OSNet:
    """Make a network of what ``timm.create_model`` hands on: all there is to choose are ``channels``."""
    asked = {option: value for option, value in handed_on.items() if value and option not in _FROM_THE_REGISTRY}
    if asked:
        told = ", ".join(f"{option}={value!r}" for option, value in asked.items())
        raise ValueError(f"it is a feature map, without classifier and released weights, of which channels can be told; got {told}")
    return OSNet(WIDTHS[name] if channels is None else channels, generalizing=name in GENERALIZING)


def _check_channels(channels: Sequence[int]) -> None:
    if not isinstance(channels, Sequence) or len(channels) != 4:
        raise ValueError(f"channels must be four numbers, of the first convolution and of three stages, got {channels!r}")
    for number in channels:
        require_count("channels", number)
    if any(number % BOTTLENECK for number in channels[1:]):
        raise ValueError(f"channels of the three stages must be multiples of {BOTTLENECK}, got {list(channels[1:])}")


def _initialize(network: nn.Module) -> None:
    """For training from scratch, as the released networks began; normalizations begin as torch makes them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
