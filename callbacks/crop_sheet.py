"""Rows of crops in colored frames on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytorch_lightning as pl
from PIL import Image, ImageDraw

from lightning_reid.protocols import PicturedData

RIGHT, WRONG, NEUTRAL = (34, 160, 60), (200, 40, 40), (70, 70, 70)
FRAME, GAP, MARGIN, HEADER = 4, 6, 12, 10


class FramedCrop(NamedTuple):
    """A crop's file and the color of its frame."""

    file: str
    color: tuple[int, int, int]


def draw_crop_sheet(
    rows: Sequence[Sequence[FramedCrop]],
    headings: Sequence[str],
    *,
    cuts: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    height: int = 128,
    width: int = 64,
    open_crop: Callable[[str], Image.Image] = Image.open,
) -> Image.Image:
    """One row of crops below another; the first crop of a row stands a little apart.

    Args:
        rows: Of crops, at least one.
        headings: Above the columns.
        cuts: Of each row, the number of crops after which a dotted red line is drawn; 0, or all of them, for none.
        names: Of each row, written above it.
        height: Of a crop, in pixels.
        width: Of a crop, in pixels.
        open_crop: File of a crop to its picture.
    """
    columns, text = max(map(len, rows)), 14 if names else 0
    cell_width, cell_height = width + 2 * FRAME, height + 2 * FRAME + text
    size = (columns * (cell_width + GAP) + 2 * MARGIN + GAP, len(rows) * (cell_height + GAP) + 2 * MARGIN + 14)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    left = [MARGIN + column * (cell_width + GAP) + (GAP * 2 if column else 0) for column in range(columns)]
    for column, heading in zip(range(columns), headings):
        pen.text((left[column] + 2, 4), heading, fill="black")
    for number, row in enumerate(rows):
        y = MARGIN + HEADER + number * (cell_height + GAP) + text
        if names:
            pen.text((left[0] + 2, y - text), names[number], fill="black")
        for x, crop in zip(left, row):
            pen.rectangle((x, y, x + cell_width - 1, y + height + 2 * FRAME - 1), fill=crop.color)
            with open_crop(crop.file) as image:
                sheet.paste(image.convert("RGB").resize((width, height)), (x + FRAME, y + FRAME))
        cut = cuts[number] if cuts else 0
        if 0 < cut < len(row):
            x = left[cut] - GAP // 2 - 1
            for top in range(y, y + height + 2 * FRAME, 8):
                pen.line((x, top, x, top + 4), fill=WRONG, width=2)
    return sheet


def crops_of(trainer: pl.Trainer) -> Callable[[str], Image.Image]:
    """How the crops of a Trainer's data are opened: by its datamodule, where they need not be files."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, PicturedData):
        return Image.open
    return lambda path: Image.fromarray(data.picture(path).permute(1, 2, 0).numpy())
