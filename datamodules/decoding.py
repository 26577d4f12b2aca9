"""Decoding an image file: the one function that loads, and by which files are checked before. It needs no torch."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.claimed_size import MOST_PIXELS, claimed_size, is_jpeg, jpeg_head
from lightning_reid.records import DRAWN
from lightning_reid.regular_files import read_regular

_WAY_ON = "Restore the file, or leave it out with unreadable='skip' (of a command: --unreadable skip, or --data.unreadable skip)"


class CorruptImageError(RuntimeError):
    """A file that should hold an image does not."""


def image_pixels(path: str) -> NDArray[np.uint8]:
    """Decode an image file to its pixels.

    What is damaged within a JPEG, and not cut short, cannot be noticed: a wrong byte gives other or gray pixels, which are data like any.
    Of 300 JPEGs with a changed bit, a changed byte or up to 64 zeros among the pixels 298 came out with other pixels; Pillow raised for
    3 of them, torchvision for 4, and libjpeg warned of 109, on standard error alone, which threads share. Where copies may be damaged,
    compare their checksums with those of the originals. Of a PNG every part has a checksum, of other formats none has.

    Args:
        path: JPEG, PNG, BMP, WebP or anything else OpenCV reads; or the address of a generated person, who is drawn.

    Returns:
        ``[H, W, 3]`` uint8 RGB.

    Raises:
        CorruptImageError: The file is missing, empty, cut short, larger than ``MOST_PIXELS``, or no image; the message names it.
    """
    return _drawn(path) if path.startswith(DRAWN) else decoded(path, cv2.IMREAD_COLOR_RGB)


def _drawn(path: str) -> NDArray[np.uint8]:
    from lightning_reid.datamodules.generated.people_address import PeopleAddress  # with torch, which files need not wait for

    try:
        return PeopleAddress.of(path).draw()
    except ValueError as error:
        raise CorruptImageError(str(error)) from error


def decoded(path: str, flag: int, way_on: str = _WAY_ON) -> NDArray[np.uint8]:
    """The pixels ``[H, W, 3]`` of an image file in the order that OpenCV's ``flag`` says.

    Errors are those of ``image_pixels``, and end with ``way_on``.
    """
    return decoded_content(_content(path, way_on), path, flag, way_on)


def decoded_content(content: bytes, path: str, flag: int = cv2.IMREAD_COLOR_RGB, way_on: str = _WAY_ON) -> NDArray[np.uint8]:
    """The pixels ``[H, W, 3]`` of an image file that was read before; ``path`` is for messages, and the rest as of ``decoded``."""
    if is_jpeg(content):
        size, ends = jpeg_head(content)
        if not ends:  # OpenCV fills the missing part of such a JPEG with gray and says nothing
            raise CorruptImageError(f"cannot decode {path}: the JPEG is cut short. {way_on}")
        if size is None:  # OpenCV passes over what stands between the parts of a head, and might find any size
            raise CorruptImageError(f"cannot decode {path}: the head of the JPEG is damaged before its size. {way_on}")
    else:
        try:
            size = claimed_size(content)
        except ValueError as error:
            raise CorruptImageError(f"cannot decode {path}: {error}. {way_on}") from error
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
