"""Crops and maps as small pictures within the page."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from lightning_reid.command_line.report_page.markup import Markup
from lightning_reid.command_line.report_page.names import Names
from lightning_reid.datamodules.loading import load_image
from lightning_reid.records import IdNames, PictureSource

QUALITIES = (80, 60, 40, 20, 8)
"""Of JPEG, the first by which a picture takes no more bytes than it may."""
LIST_HEIGHT, LIST_BYTES = 128, 4000
MAP_HEIGHT, MAP_BYTES = 96, 1800
"""In pixels, and the bytes of a JPEG; the page takes 4/3 of them."""
WIDEST = 2.0
"""Width to height of a picture on the page; vehicles are wide."""


class Pictures:
    """The crops of a data set, as the page shows them: in the shape that the network sees.

    Args:
        pictures: Loads those that are no files, see ``Splits.pictures``.
        image_size: (height, width) in pixels that the network takes.
        names: Of the people and cameras in them.
    """

    def __init__(self, pictures: PictureSource | None, image_size: tuple[int, int], names: IdNames) -> None:
        self.load = pictures or load_image
        self.image_size = image_size
        self.names = Names(names)
        self.wide = min(WIDEST, image_size[1] / image_size[0])

    def size(self, height: int) -> tuple[int, int]:
        """(width, height) in pixels of a picture that is so high."""
        return max(16, round(height * self.wide)), height

    def crop(self, path: str, height: int, most_bytes: int) -> Markup:
        """A crop as the address of an image.

        Raises:
            CorruptImageError: It cannot be decoded.
        """
        return address(self.picture(path, height), most_bytes)

    def picture(self, path: str, height: int) -> Image.Image:
        """A crop that is so high."""
        return Image.fromarray(self.load(path).permute(1, 2, 0).numpy()).convert("RGB").resize(self.size(height))


def overlaid(picture: Image.Image, strength: Tensor) -> Image.Image:
    """A picture under a map ``[h, w]`` in [0, 1], from blue, weak, to yellow, strong."""
    heat = Image.fromarray((strength.clamp(0, 1).numpy() * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    colors = (colormaps["viridis"](np.asarray(heat))[..., :3] * 255).astype(np.uint8)
    return Image.blend(picture, Image.fromarray(colors), 0.6)


def address(picture: Image.Image, most_bytes: int) -> Markup:
    """A picture as a ``data:`` address of a JPEG of no more than so many bytes, at least 800: of lower quality, or in the end coarser."""
    content = next((found for quality in QUALITIES if len(found := _jpeg(picture, quality)) <= most_bytes), None)
    if content is None:
        return address(picture.resize((max(1, picture.width // 2), max(1, picture.height // 2))), most_bytes)
    return Markup(f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}")


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    picture.save(file, format="JPEG", quality=quality, optimize=True)
    return file.getvalue()


def network_input(picture: Tensor, image_size: tuple[int, int]) -> Tensor:
    """A crop ``[3, h, w]`` uint8 as the network takes it, ``[3, H, W]`` uint8."""
    from lightning_reid.datamodules.transforms import EvaluationTransform

    resized: Tensor = EvaluationTransform(image_size)(picture)
    return resized.to(torch.uint8)
