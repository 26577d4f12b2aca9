"""How pixels become what networks take: ImageNet's mean and standard deviation, in one place."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LARGEST_NORMALIZED = 16.0
"""Normalized pixels lie within 2.7 of 0; what lies farther off than this was never divided by 255."""


def normalize_images(images: Tensor) -> Tensor:
    """Turn pixels in 0..255 ``[..., 3, H, W]``, uint8 or float, into float32 with ImageNet mean and standard deviation.

    Runs on whole batches, on the device where the network is: a quarter of the bytes travel.
    """
    scale, shift = scale_and_shift(images.device)
    # converted first: arithmetic between uint8 and float tensors takes a path ten times slower on a CPU
    return images.to(torch.float32, copy=True).mul_(scale).add_(shift)


def scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """``[3, 1, 1]`` float32 each: pixels in 0..255 times the one, plus the other, have ImageNet's mean and standard deviation."""
    shifts = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    # float32 is said: under a Trainer of another precision it is not the default
    std, shift = (torch.tensor(row, dtype=torch.float32, device=device).view(3, 1, 1) for row in (IMAGENET_STD, shifts))
    return 1 / (255 * std), shift


def as_network_input(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images as a network takes them whose weights are of ``dtype``: uint8 pixels are normalized, floats are taken to be so.

    Args:
        images: ``[..., 3, H, W]``, uint8 in 0..255, as loaders give them, or normalized floats.
        dtype: Of the weights.

    Raises:
        ValueError: Integers of another kind, or uint8 without three channels before height and width.
    """
    if images.dtype == torch.uint8:
        if images.ndim < 4 or images.shape[-3] != 3:
            raise ValueError(f"pixels must be a batch [..., 3, H, W], channels before height and width, got uint8 {list(images.shape)}")
        images = normalize_images(images)
    if not images.is_floating_point():
        raise ValueError(f"a network takes uint8 pixels in 0..255, or ImageNet-normalized floats, got {images.dtype}")
    return images.to(dtype)


def require_normalized(images: Tensor) -> None:
    """Refuse floats that are still pixels in 0..255, and warn of those in 0..1: a network would embed them, as something else.

    Of normalized pixels none is below 0 and none above 1 only where all are of a medium gray or so, from 124 to 182 of 255 in red: no
    batch of pictures is. A network that starts from nothing can learn from pixels in 0..1 too, hence the warning.

    Reads every value, and waits for the device: of the first batch of an epoch, not of every one.

    Raises:
        ValueError: A value lies where no normalized pixel does.
    """
    if images.is_floating_point() and images.numel():
        lowest, highest = torch.stack(images.aminmax()).tolist()
        way_on = "give uint8 pixels, which the network normalizes itself, or normalize them (lightning_reid.normalization.normalize_images"
        if max(-lowest, highest) > LARGEST_NORMALIZED:
            raise ValueError(
                f"images are floats as large as {max(-lowest, highest):.4g}, but ImageNet-normalized pixels lie within 2.7 of 0: {way_on})"
            )
        if 0 <= lowest < highest <= 1:
            warnings.warn(
                f"images are floats from {lowest:.4g} to {highest:.4g}, as pixels divided by 255 are, but of ImageNet-normalized ones about"
                f" half are negative: {way_on}, which takes 0..255)",
                stacklevel=2,
            )
