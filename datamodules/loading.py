"""Image files as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.datamodules.decoding import image_pixels


def load_image(path: str) -> Tensor:
    """The pixels of an image file, or of a generated person, ``[3, H, W]`` uint8 RGB; errors as of ``image_pixels``."""
    return torch.from_numpy(image_pixels(path)).permute(2, 0, 1).contiguous()
