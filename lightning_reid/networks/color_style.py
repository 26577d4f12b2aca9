"""A camera's style as six numbers: mean and deviation of its color channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

_LEAST_DEVIATION = 1e-3


class ColorStatistics(NamedTuple):
    """Mean and deviation of all pixels of a camera's pictures; colors in [0, 1].

    Attributes:
        mean: ``[3]`` float32.
        std: ``[3]`` float32.
    """

    mean: Tensor
    std: Tensor

    def distance(self, other: ColorStatistics) -> float:
        """Euclidean distance of the six numbers."""
        return float(torch.cat([self.mean - other.mean, self.std - other.std]).norm())


def color_statistics(pictures: Iterable[Tensor]) -> ColorStatistics:
    """Mean and deviation of each channel over all pixels of pictures ``[3, h, w]`` uint8, of any sizes.

    Raises:
        ValueError: There is no picture.

    Example:
        >>> import torch
        >>> from lightning_reid.networks.color_style import color_statistics
        >>> color_statistics([torch.zeros(3, 2, 2, dtype=torch.uint8), torch.full((3, 2, 2), 255, dtype=torch.uint8)]).mean.tolist()
        [0.5, 0.5, 0.5]
    """
    count, first, second = 0, torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for picture in pictures:
        pixels = picture.flatten(1).double() / 255
        count += pixels.shape[1]
        first += pixels.sum(1)
        second += pixels.square().sum(1)
    if not count:
        raise ValueError("a style is that of some pictures: there are none")
    mean = first / count
    return ColorStatistics(mean.float(), (second / count - mean.square()).clamp(min=0).sqrt().float())


def in_colors_of(picture: Tensor, own: ColorStatistics, other: ColorStatistics) -> Tensor:
    """``(x - mean) / std * std' + mean'`` of each channel, clipped: a picture ``[3, h, w]`` uint8 of one camera as another would see it.

    Args:
        picture: Of the camera ``own`` is of.
        own: A channel that hardly varies is only moved.
        other: Of the other camera.

    Source: ours, beside CycleGAN; 24 bytes cross.
    """
    gain = torch.where(own.std > _LEAST_DEVIATION, other.std / own.std.clamp(min=_LEAST_DEVIATION), torch.ones(3))[:, None, None]
    moved = (picture.float() / 255 - own.mean[:, None, None]) * gain + other.mean[:, None, None]
    return (255 * moved).round().clamp(0, 255).to(torch.uint8)
