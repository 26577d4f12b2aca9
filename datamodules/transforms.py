"""Image transforms on uint8 tensors; what is random in them can be pinned to a (seed, epoch, position)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from lightning_reid.normalization import IMAGENET_MEAN

ImageTransform = Callable[[Tensor], Tensor]
"""``[3, h, w]`` uint8 of any size to ``[3, H, W]`` uint8 of the network's size."""

ERASED_AREA = (0.02, 0.4)
"""Smallest and largest share of the image that random erasing covers."""
ERASED_ASPECT = (0.3, 3.33)
"""Smallest and largest height over width of the erased rectangle."""
_ERASING_ATTEMPTS = 10


@dataclass(frozen=True)
class TrainTransform:
    """Resize, flip, pad and crop, erase: the usual training transform of re-ID, on uint8 until the batch is normalized.

    It draws from torch's global generator: run it inside :func:`seeded`. Written out rather than composed of torchvision's random
    classes, whose dispatch costs more than the pixels of a person crop.

    Attributes:
        image_size: (height, width) in pixels.
        crop_padding: Black pixels added on every side before a random crop back to ``image_size``, fewer than its shorter side; 0 leaves
            the crop out.
        erasing_probability: Chance of erasing a rectangle (2 to 40 % of the area, aspect 0.3 to 3.3) with the ImageNet mean
            color (Zhong et al. 2020, arXiv:1708.04896); 0 leaves it out.
        flip_probability: Chance of mirroring left and right; 0 leaves it out.

    Raises:
        ValueError: ``crop_padding`` is negative, or as large as a side of the image.
    """

    image_size: tuple[int, int]
    crop_padding: int = 10
    erasing_probability: float = 0.5
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.crop_padding < min(self.image_size):
            raise ValueError(
                f"crop_padding={self.crop_padding} around images of {self.image_size[0]}x{self.image_size[1]} may leave a crop without any"
                " pixel of the image: give at least 0 and less than the shorter side"
            )

    @property
    def is_random(self) -> bool:
        """Whether it does anything to an image but resize it."""
        return max(self.crop_padding, self.erasing_probability, self.flip_probability) > 0

    def __call__(self, image: Tensor) -> Tensor:
        """Augment one image ``[3, h, w]`` uint8 to a contiguous ``[3, H, W]``."""
        flip, down, right, erase = torch.rand(4).tolist()
        image = resized(image, *self.image_size)
        if flip < self.flip_probability:
            image = image.flip(2)
        offsets = 2 * self.crop_padding + 1
        image = shifted(image, int(down * offsets) - self.crop_padding, int(right * offsets) - self.crop_padding)
        if erase < self.erasing_probability:
            erase_rectangle(image)
        return image


@dataclass(frozen=True)
class EvaluationTransform:
    """Resize to ``image_size`` (height, width) in pixels, nothing random."""

    image_size: tuple[int, int]

    def __call__(self, image: Tensor) -> Tensor:
        """Resize one image ``[3, h, w]`` uint8 to a contiguous ``[3, H, W]``."""
        return resized(image, *self.image_size).contiguous()

    @property
    def in_words(self) -> str:
        """What an image goes through before a network sees it, for the stamp of a score."""
        return f"resize {self.image_size[0]}x{self.image_size[1]}, ImageNet normalization"


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image resized bilinearly with antialiasing; one that has the size already is passed through."""
    if image.shape[1:] == (height, width):
        return image
    smaller_or_larger: Tensor = functional.resize_image(image, [height, width], antialias=True)
    return smaller_or_larger


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """A contiguous copy of ``image [3, H, W]`` that begins at its row ``down`` and column ``right``, black where it has no pixels.

    Padding and cropping in one: the padded image is never made.
    """
    height, width = image.shape[1:]
    canvas = torch.zeros((3, height, width), dtype=image.dtype)
    rows, columns = slice(max(down, 0), min(height, height + down)), slice(max(right, 0), min(width, width + right))
    canvas[:, rows.start - down : rows.stop - down, columns.start - right : columns.stop - right] = image[:, rows, columns]
    return canvas


def erase_rectangle(image: Tensor) -> None:
    """Overwrite a random rectangle of ``image [3, H, W]`` uint8 in place; nothing when none of the drawn ones fits.

    It draws from torch's global generator: run it inside :func:`seeded`.
    """
    height, width = image.shape[1:]
    low, high = map(math.log, ERASED_ASPECT)
    for area, aspect, y, x in torch.rand(_ERASING_ATTEMPTS, 4).tolist():
        pixels = (ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0])) * height * width
        ratio = math.exp(low + aspect * (high - low))
        erased_height, erased_width = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if erased_height < height and erased_width < width:
            top, left = int(y * (height - erased_height + 1)), int(x * (width - erased_width + 1))
            fill = torch.tensor([round(255 * channel) for channel in IMAGENET_MEAN], dtype=image.dtype).view(3, 1, 1)
            image[:, top : top + erased_height, left : left + erased_width] = fill
            return


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Run a block with torch's CPU generator seeded by ``key``, and give the generator back as it was.

    torchvision's random transforms take no generator of their own.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1)
    try:
        yield
    finally:
        torch.set_rng_state(state)
