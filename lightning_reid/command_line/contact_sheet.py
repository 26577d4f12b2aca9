"""A picture of some people, a row each, so that one sees whether names were understood."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.seen import NOBODY, Seen
from lightning_reid.datamodules.decoding import CorruptImageError, image_pixels
from lightning_reid.files import write_atomically

PEOPLE, PICTURES = 12, 8
"""Rows and columns."""
_HEIGHT, _WIDTH, _LABEL = 128, 64, 140
_GAP, _TEXT = 4, 14


def draw_sheet(images: Sequence[Seen], path: Path) -> str | None:
    """Draw up to 12 people with up to 8 pictures each, of as many cameras as there are; who is not named is one row, nobody (0, -1) none.

    Args:
        images: Those that cannot be read are left out.
        path: ``.png`` file to write.

    Returns:
        The file; ``None`` where there is nobody to draw.

    Raises:
        OSError: It cannot be written.
    """
    people: dict[str | None, list[Seen]] = defaultdict(list)
    for one in images:
        if one.person not in NOBODY:
            people[one.person].append(one)
    most = sorted(people, key=lambda person: (-len({one.camera for one in people[person]}), -len(people[person]), str(person)))
    rows = [(person, pictures) for person in most[:PEOPLE] if (pictures := _pictures(people[person]))]
    if not rows:
        return None
    sheet = Image.new("RGB", (_LABEL + PICTURES * (_WIDTH + _GAP), len(rows) * (_HEIGHT + _TEXT + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.font = _font()
    for row, (person, pictures) in enumerate(rows):
        top = row * (_HEIGHT + _TEXT + _GAP)
        draw.text((4, top + _HEIGHT // 2), "not named" if person is None else printable(person)[:20], fill="black")
        for column, (camera, picture) in enumerate(pictures):
            left = _LABEL + column * (_WIDTH + _GAP)
            sheet.paste(picture, (left, top))
            draw.text((left, top + _HEIGHT), "" if camera is None else printable(camera)[:11], fill="black")
    write_atomically(path, lambda draft: sheet.save(draft, format="PNG"))
    return str(path)


def _font() -> ImageFont.FreeTypeFont:
    """One that has letters beyond ASCII, as Pillow's own has not: matplotlib's, found without the second that importing it takes."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the font of a contact sheet is matplotlib's, which is not installed: pip install matplotlib")
    return ImageFont.truetype(str(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"), 10)


def _pictures(images: Sequence[Seen]) -> list[tuple[str | None, Image.Image]]:
    """Of some of a person's images that can be read, with their cameras."""
    found = list[tuple[str | None, Image.Image]]()
    for one in _different(images):
        try:
            pixels = image_pixels(one.path)
        except (CorruptImageError, OSError):
            continue  # told by whoever opens all files
        found.append((one.camera, Image.fromarray(pixels).resize((_WIDTH, _HEIGHT))))
    return found


def _different(images: Sequence[Seen]) -> list[Seen]:
    """Some of a person's images, each camera in turn."""
    cameras: dict[str | None, list[Seen]] = defaultdict(list)
    for one in images:
        cameras[one.camera].append(one)
    turns = [one for number in range(PICTURES) for seen in cameras.values() for one in seen[number : number + 1]]
    return turns[:PICTURES]
