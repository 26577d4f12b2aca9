"""A picture of some people, a row each, so that one sees whether names were understood."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lightning_reid.command_line.seen import NOBODY, Seen
from lightning_reid.datamodules.decoding import image_pixels
from lightning_reid.files import write_atomically

_PEOPLE, _PICTURES = 12, 8
"""Rows and columns."""
_HEIGHT, _WIDTH, _LABEL = 128, 64, 140
_GAP, _TEXT = 4, 14


def draw_sheet(images: Sequence[Seen], path: Path) -> Path:
    """Draw up to 12 people with up to 8 pictures each, of as many cameras as there are; who is not named is one row, nobody (0, -1) none.

    Args:
        images: Which can be read.
        path: ``.png`` file to write.
    """
    people: dict[str | None, list[Seen]] = defaultdict(list)
    for one in images:
        if one.person not in NOBODY:
            people[one.person].append(one)
    most = sorted(people, key=lambda person: (-len({one.camera for one in people[person]}), -len(people[person]), str(person)))[:_PEOPLE]
    size = (_LABEL + _PICTURES * (_WIDTH + _GAP), len(most) * (_HEIGHT + _TEXT + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, person in enumerate(most):
        top = row * (_HEIGHT + _TEXT + _GAP)
        draw.text((4, top + _HEIGHT // 2), "not named" if person is None else f"person {person}"[:20], fill="black")
        for column, one in enumerate(_different(people[person])):
            left = _LABEL + column * (_WIDTH + _GAP)
            sheet.paste(Image.fromarray(image_pixels(one.path)).resize((_WIDTH, _HEIGHT)), (left, top))
            draw.text((left, top + _HEIGHT), "" if one.camera is None else f"cam {one.camera}"[:11], fill="black")
    write_atomically(path, lambda draft: sheet.save(draft, format="PNG"))
    return path


def _different(images: Sequence[Seen]) -> list[Seen]:
    """Some of a person's images, each camera in turn."""
    cameras: dict[str | None, list[Seen]] = defaultdict(list)
    for one in images:
        cameras[one.camera].append(one)
    turns = [one for number in range(_PICTURES) for seen in cameras.values() for one in seen[number : number + 1]]
    return turns[:_PICTURES]
