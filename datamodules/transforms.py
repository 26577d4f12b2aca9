"""Image transforms on uint8 tensors; what is random in them can be pinned to a (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

ImageTransform = Callable[[Tensor], Tensor]
"""``[3, h, w]`` uint8 of any size to ``[3, H, W]`` uint8 of the network's size."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def train_transform(image_size: Sequence[int], *, crop_padding: int = 10, erasing_probability: float = 0.5) -> ImageTransform:
    """Resize, flip, pad and crop, erase: the usual training transform of re-ID, on uint8 until the batch is normalised.

    Args:
        image_size: (height, width) in pixels.
        crop_padding: Black pixels added on every side before a random crop back to ``image_size``; 0 leaves the crop out.
        erasing_probability: Chance of erasing a rectangle (2 to 40 % of the area, aspect 0.3 to 3.3) with the ImageNet mean
            colour (Zhong et al. 2020, arXiv:1708.04896); 0 leaves it out.

    Returns:
        A transform that draws from torch's global generator: run it inside :func:`seeded`.
    """
    height, width = image_size
    steps: list[torch.nn.Module] = [v2.Resize((height, width), antialias=True), v2.RandomHorizontalFlip()]
    if crop_padding:
        steps += [v2.Pad(crop_padding), v2.RandomCrop((height, width))]
    if erasing_probability:
        fill = [round(255 * channel) for channel in IMAGENET_MEAN]
        steps.append(v2.RandomErasing(p=erasing_probability, scale=(0.02, 0.4), ratio=(0.3, 3.33), value=fill))
    transform: ImageTransform = v2.Compose(steps)
    return transform


def evaluation_transform(image_size: Sequence[int]) -> ImageTransform:
    """Resize to (height, width) in pixels, nothing random."""
    transform: ImageTransform = v2.Resize(tuple(image_size), antialias=True)
    return transform


def normalize_images(images: Tensor) -> Tensor:
    """Turn uint8 ``[B, 3, H, W]`` into float32 with ImageNet mean and standard deviation, on the images' device.

    Runs on whole batches where the network is: a quarter of the bytes travel.
    """
    scale = 1 / (255 * torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1))
    shift = torch.tensor([-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)], device=images.device).view(3, 1, 1)
    # converted first: arithmetic between uint8 and float tensors takes a path ten times slower on a CPU
    return images.float().mul_(scale).add_(shift)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Run a block with torch's CPU generator seeded by ``key``, and give the generator back as it was.

    torchvision's random transforms take no generator of their own.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
    try:
        yield
    finally:
        torch.set_rng_state(state)
