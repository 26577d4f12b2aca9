"""The networks of CycleGAN: a residual generator from pictures to pictures, and a discriminator of patches.

Modules bear the numbers that they have in the public code, so that released weights fit by name. InstanceNorm has no weights and no running
statistics: a picture is normalized by its own, in training and afterwards.

Source: Zhu et al. 2017 (arXiv:1703.10593), section 7.1, used by the edge-device text, section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.networks.weights import load_all, unwrapped

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_BLOCK_CONVOLUTION = re.compile(r"(model\.\d+\.conv_block)\.6\.")
_NUMBER = re.compile(r"model\.(\d+)\.")


class ResnetGenerator(nn.Module):
    """Pictures ``[B, 3, H, W]`` in [-1, 1] to pictures of the same size, in (-1, 1); sides must be divisible by 4.

    Args:
        blocks: Residual blocks at a quarter of the size: 9 in CycleGAN and CamStyle for 256 x 256, 6 for 128 x 128.
        width: Channels after the first convolution.

    Raises:
        ValueError: An argument is below 1 (here), or a side is not divisible by 4 (``forward``).

    Example:
        >>> import torch
        >>> from lightning_reid.networks.style_transfer import ResnetGenerator
        >>> ResnetGenerator(blocks=1, width=4)(torch.zeros(1, 3, 36, 20)).shape
        torch.Size([1, 3, 36, 20])
    """

    def __init__(self, blocks: int = 9, width: int = 64) -> None:
        super().__init__()
        require_count("blocks", blocks)
        require_count("width", width)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]
        for channels in (width, 2 * width):
            half = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
            layers += [half, nn.InstanceNorm2d(2 * channels), nn.ReLU(inplace=True)]
        layers += [_ResidualBlock(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            double = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [double, nn.InstanceNorm2d(channels // 2), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def require_size(self, height: int, width: int) -> None:
        """Refuse sides that are not divisible by 4."""
        if width % 4 or height % 4:
            raise ValueError(f"sides of pictures must be divisible by 4 to be translated, got {height} x {width}")

    @override
    def forward(self, images: Tensor) -> Tensor:
        self.require_size(*images.shape[-2:])
        translated: Tensor = self.model(images)
        return translated


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)),
        )

    @override
    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.conv_block(maps)
        return maps + changed


class PatchDiscriminator(nn.Module):
    """Pictures ``[B, 3, H, W]`` in [-1, 1] to a map of scores ``[B, 1, h, w]``, large for what looks recorded, each of a patch.

    Args:
        layers: Convolutions with stride 2; with 3 of them sides must be at least 24.
        width: Channels after the first convolution.

    Raises:
        ValueError: An argument is below 1 (here), or a side is too small (``forward``).

    Example:
        >>> import torch
        >>> from lightning_reid.networks.style_transfer import PatchDiscriminator
        >>> PatchDiscriminator(layers=3, width=4)(torch.zeros(1, 3, 64, 32)).shape
        torch.Size([1, 1, 6, 2])
    """

    def __init__(self, layers: int = 3, width: int = 64) -> None:
        super().__init__()
        require_count("layers", layers)
        require_count("width", width)
        self.least = 3 * 2**layers
        channels = [min(2**place, 8) * width for place in range(layers + 1)]
        found: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for place in range(1, layers + 1):
            stride = 2 if place < layers else 1
            convolution = nn.Conv2d(channels[place - 1], channels[place], 4, stride=stride, padding=1)
            found += [convolution, nn.InstanceNorm2d(channels[place]), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*found, nn.Conv2d(channels[-1], 1, 4, padding=1))

    def require_size(self, height: int, width: int) -> None:
        """Refuse sides that are too small."""
        if min(height, width) < self.least:
            raise ValueError(f"pictures must have sides of {self.least} or more to be judged, got {height} x {width}")

    @override
    def forward(self, images: Tensor) -> Tensor:
        self.require_size(*images.shape[-2:])
        scores: Tensor = self.model(images)
        return scores


def load_released_generator(generator: ResnetGenerator, state_dict: Mapping[str, Tensor], *, source: str = "the state dict") -> None:
    """Load weights that the public code of CycleGAN or CamStyle saved.

    Wrappers' prefixes, running statistics that InstanceNorm once had (they are not what the weights were trained with) and the place that
    a dropout takes in a block are undone. CamStyle draws its pictures with that dropout switched on; here there is none.

    Args:
        generator: Of as many blocks and channels.
        state_dict: As it was released.
        source: What messages call it.

    Raises:
        ValueError: It is of no generator, or of another: U-Net, another number of blocks, or other channels.

    Example:
        >>> import torch
        >>> from lightning_reid.networks.style_transfer import ResnetGenerator, load_released_generator
        >>> released = {f"module.{name}": tensor for name, tensor in ResnetGenerator(1, 4).state_dict().items()}
        >>> generator = ResnetGenerator(1, 4)
        >>> load_released_generator(generator, released)
        >>> torch.equal(generator.model[1].weight, released["module.model.1.weight"])
        True
    """
    plain = unwrapped(state_dict)
    state = {_BLOCK_CONVOLUTION.sub(r"\1.5.", name): tensor for name, tensor in plain.items() if not name.endswith(_STATISTICS)}
    own = generator.state_dict()
    if any(name.startswith("model.model.") for name in state):
        raise ValueError(f"{source} is of a U-Net generator, which is not built here: give one of a resnet (--netG resnet_9blocks)")
    deepest, wanted = (max((int(found[1]) for name in names if (found := _NUMBER.match(name))), default=0) for names in (state, own))
    if deepest != wanted:
        blocks = deepest - 17
        if blocks < 1:
            raise ValueError(f"{source} is of no generator of CycleGAN: its last layer is model.{deepest}. Give a net_G of a resnet")
        raise ValueError(f"{source} is of a generator of {blocks} blocks, this one has {wanted - 17}: build it with blocks={blocks}")
    load_all(generator, state, source=source)
