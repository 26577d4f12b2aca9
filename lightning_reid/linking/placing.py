"""Cutting a person out of a frame and placing the picture in an image of the network's size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

SLIM_SHARE = 0.6
"""A box is slim when its width is less than this share of what its height and the aspect of the output image would give."""

MIDDLE = (0.25, 0.75)
"""A box is at a side of the frame when its center is outside these shares of the frame's width."""


class PlacedPerson(NamedTuple):
    """A frame with its person placed in it, and which part of it is picture.

    Attributes:
        image: ``[3, H, W]`` uint8 RGB, black where it is padded.
        picture: x0, y0, x1, y1 in pixels of ``image``: what is picture and not padding; x1 and y1 are exclusive.
    """

    image: Tensor
    picture: tuple[int, int, int, int]


def place_person(frame: Tensor, box: Tensor, image_size: tuple[int, int]) -> PlacedPerson:
    """Cut a box out of a frame and fit it into the image: stretched to it, or at its own aspect where the frame's edge has cut the person.

    A slim box (``SLIM_SHARE``: under 0.3 as wide as high for an image of 2:1) whose center is in the left quarter of the frame shows
    the right part of a person who stands half outside. It is resized to the image's height by its own aspect ratio and shifted to the
    right edge, where that part of a person would be, and the left is padded; at the right side the other way round. Every other box is
    resized to the whole image.

    Source: re-detect and link, section 2.5.1; the thresholds are ours, the text gives none.

    Args:
        frame: ``[3, h, w]`` uint8.
        box: ``[4]`` float x0, y0, x1, y1 in pixels within the frame, of positive area; the pixels that it touches are cut out.
        image_size: (H, W) in pixels.

    Raises:
        ValueError: The box is not within the frame or has no area, or ``image_size`` is not positive.
    """
    height, width = frame.shape[1:]
    x0, y0, x1, y1 = box.double().tolist()
    if min(image_size) < 1 or not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"expected a box within the frame of {width} x {height} pixels and a positive size, got {box.tolist()}, {image_size}"
        )
    cutting = cut_out(frame, box)
    side = side_of_slim_box(box, width, image_size)
    if side == 0:
        return PlacedPerson(_resized(cutting, *image_size), whole_picture(image_size))
    placed_width = min(image_size[1], max(1, round(image_size[0] * cutting.shape[2] / cutting.shape[1])))
    start = image_size[1] - placed_width if side < 0 else 0
    image = torch.zeros((3, *image_size), dtype=frame.dtype, device=frame.device)
    image[:, :, start : start + placed_width] = _resized(cutting, image_size[0], placed_width)
    return PlacedPerson(image, (start, 0, start + placed_width, image_size[0]))


def cut_out(frame: Tensor, box: Tensor) -> Tensor:
    """The pixels ``[3, y, x]`` of a frame ``[3, h, w]`` that a box ``[4]`` within it touches, a view."""
    x0, y0 = box[:2].floor().int().tolist()
    x1, y1 = box[2:].ceil().int().tolist()
    return frame[:, y0:y1, x0:x1]


def side_of_slim_box(box: Tensor, frame_width: int, image_size: tuple[int, int]) -> int:
    """-1 for a slim box at the left side of its frame, 1 for one at the right, 0 for any other; see ``place_person``."""
    x0, y0, x1, y1 = box.double().tolist()
    center = (x0 + x1) / 2 / frame_width
    if (x1 - x0) >= SLIM_SHARE * (y1 - y0) * image_size[1] / image_size[0]:
        return 0
    return -1 if center < MIDDLE[0] else int(center > MIDDLE[1])


def whole_frame(frame: Tensor, image_size: tuple[int, int]) -> PlacedPerson:
    """A frame ``[3, h, w]`` uint8 in which nobody was found, resized to the image without a loss."""
    return PlacedPerson(_resized(frame, *image_size), whole_picture(image_size))


def whole_picture(image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The picture box of an image (H, W) without padding."""
    return 0, 0, image_size[1], image_size[0]


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    resized: Tensor = functional.resize_image(image, [height, width], antialias=True)
    return resized
