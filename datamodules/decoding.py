"""Decoding an image file: the one function that loads, and by which files are checked before."""

from __future__ import annotations

import io
import struct
import warnings

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_reid.datamodules.generated.people_data import PeopleAddress
from lightning_reid.records import DRAWN
from lightning_reid.regular_files import read_regular

MOST_PIXELS = 2**27
"""Of one image: a crop has thousands, a photograph tens of millions; a file of some kilobytes may claim billions."""
_WAY_ON = "Restore the file, or leave it out with unreadable='skip'"
_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG that its size follows."""
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers of a JPEG that no length follows."""


class CorruptImageError(RuntimeError):
    """A file that should hold an image does not."""


def load_image(path: str) -> Tensor:
    """Decode an image file to a tensor of its pixels.

    What is damaged within a JPEG, and not cut short, cannot be noticed: a wrong byte gives other or gray pixels, which are data like any.
    Of 300 JPEGs with a changed bit, a changed byte or up to 64 zeros among the pixels 298 came out with other pixels; Pillow raised for
    3 of them, torchvision for 4, and libjpeg warned of 109, on standard error alone, which threads share. Where copies may be damaged,
    compare their checksums with those of the originals. Of a PNG every part has a checksum, of other formats none has.

    Args:
        path: JPEG, PNG, BMP, WebP or anything else OpenCV reads; or the address of a generated person, who is drawn.

    Returns:
        ``[3, H, W]`` uint8 RGB.

    Raises:
        CorruptImageError: The file is missing, empty, cut short, larger than ``MOST_PIXELS``, or no image; the message names it.
    """
    pixels = _drawn(path) if path.startswith(DRAWN) else decoded(path, cv2.IMREAD_COLOR_RGB)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _drawn(path: str) -> NDArray[np.uint8]:
    try:
        return PeopleAddress.of(path).draw()
    except ValueError as error:
        raise CorruptImageError(str(error)) from error


def decoded(path: str, flag: int, way_on: str = _WAY_ON) -> NDArray[np.uint8]:
    """The pixels ``[H, W, 3]`` of an image file in the order that OpenCV's ``flag`` says.

    Errors are those of ``load_image``, and end with ``way_on``.
    """
    content = _content(path, way_on)
    if content[:2] == b"\xff\xd8":
        size, ends = _jpeg(content)
        if not ends:  # OpenCV fills the missing part of such a JPEG with gray and says nothing
            raise CorruptImageError(f"cannot decode {path}: the JPEG is cut short. {way_on}")
    else:
        size = _claimed_size(content)
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise CorruptImageError(f"{path} has {size[0]}x{size[1]} pixels, more than {MOST_PIXELS:,}: no image of a person. {way_on}")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flag) if content else None
    except cv2.error as error:
        raise CorruptImageError(f"cannot decode {path}: {error}. {way_on}") from error
    if pixels is None:
        raise CorruptImageError(f"cannot decode {path}: {'no image that OpenCV knows' if content else 'zero bytes'}. {way_on}")
    return np.asarray(pixels, dtype=np.uint8)


def _content(path: str, way_on: str) -> bytes:
    try:
        return read_regular(path)
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        raise CorruptImageError(f"cannot read {path!r}: {error}. {way_on}") from error


def _jpeg(content: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Width and height that a JPEG claims, and whether its own end marker is there.

    That of a thumbnail in its head does not count, and what follows the end does not matter: recorders pad files, and phones append a film.
    """
    place, size = 2, None
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xDA:  # the pixels begin; among them 0xFF is followed by 0, or by a marker
            break
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker in _SIZES and place + 9 <= len(content):
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            size = width, height
        place += 2 if marker in _WITHOUT_LENGTH else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return size, content.find(b"\xff\xd9", place) >= 0


def _claimed_size(content: bytes) -> tuple[int, int] | None:
    """Width and height that an image claims in its head; ``None`` where the decoder is to say what it is."""
    if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(io.BytesIO(content)) as image:
                return image.size
    except Image.DecompressionBombError:
        return MOST_PIXELS, 2
    except (OSError, SyntaxError, ValueError):
        return None
