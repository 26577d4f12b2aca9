"""A picture of tracklets before and after they were re-detected and linked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

SHOWN_HEIGHT = 96
"""Pixels of a drawn frame; its width follows from the image size."""
_GAP = 8


def draw_before_and_after(tracklets: Sequence[tuple[Sequence[Tensor], Tensor]], *, max_frames: int = 12) -> Image.Image:
    """Two strips a tracklet: its original frames, stretched to one size, and the processed ones below them.

    Args:
        tracklets: At least one; original frames ``[3, h, w]`` uint8 RGB of any sizes, and the same frames processed, ``[F, 3, H, W]``.
        max_frames: Frames a strip; of longer tracklets as many at equal distances.

    Raises:
        ValueError: There is no tracklet.
    """
    if not tracklets:
        raise ValueError("there is no tracklet to draw")
    height, width = SHOWN_HEIGHT, max(1, round(SHOWN_HEIGHT * tracklets[0][1].shape[3] / tracklets[0][1].shape[2]))
    columns = max(min(len(before), max_frames) for before, _ in tracklets)
    sheet = torch.full((3, len(tracklets) * (2 * height + _GAP) - _GAP, columns * width), 255, dtype=torch.uint8)
    for row, (before, after) in enumerate(tracklets):
        chosen = torch.linspace(0, len(before) - 1, min(len(before), max_frames)).round().long().tolist()
        for strip, frames in enumerate((before, list(after))):
            top = row * (2 * height + _GAP) + strip * height
            for column, frame in enumerate(frames[index] for index in chosen):
                shown = functional.resize_image(frame, [height, width], antialias=True)
                sheet[:, top : top + height, column * width : (column + 1) * width] = shown
    return Image.fromarray(sheet.permute(1, 2, 0).numpy())
