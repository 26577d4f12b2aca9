"""Decoding an image file: the one function that loads, and by which files are checked before."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

MOST_PIXELS = 2**27
"""Of one image: a crop has thousands, a photograph tens of millions; a file of some kilobytes may claim billions."""
_SMALL_FILE = 2**18
"""Bytes that do not suffice for so many pixels, however well they are compressed: such a file's header need not be read by itself."""
_WAY_ON = "Restore the file, or leave it out with unreadable='skip'"
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers of a JPEG that no length follows."""


class CorruptImageError(RuntimeError):
    """A file that should hold an image does not."""


def load_image(path: str) -> Tensor:
    """Decode an image file to a tensor of its pixels.

    Args:
        path: JPEG, PNG, BMP, WebP or anything else OpenCV reads.

    Returns:
        ``[3, H, W]`` uint8 RGB.

    Raises:
        CorruptImageError: The file is missing, empty, cut short, larger than ``MOST_PIXELS``, or no image; the message names it.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise CorruptImageError(f"cannot read {path}: {error}. {_WAY_ON}") from error
    if encoded[:2].tobytes() == b"\xff\xd8" and not _jpeg_ends(encoded.tobytes()):
        # OpenCV fills the missing part of such a JPEG with gray and says nothing
        raise CorruptImageError(f"cannot decode {path}: the JPEG is cut short. {_WAY_ON}")
    if encoded.size > _SMALL_FILE:
        _require_size(path)
    try:
        pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    except cv2.error as error:
        raise CorruptImageError(f"cannot decode {path}: {error}. {_WAY_ON}") from error
    if pixels is None:
        raise CorruptImageError(f"cannot decode {path}: {'zero bytes' if not encoded.size else 'no image that OpenCV knows'}. {_WAY_ON}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _jpeg_ends(content: bytes) -> bool:
    """Whether a JPEG's own end marker is there; that of a thumbnail in its head does not count, and what follows it does not matter.

    Recorders pad files, and phones append a film.
    """
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xDA:  # the pixels begin; among them 0xFF is followed by 0, or by a marker
            return content.find(b"\xff\xd9", place) >= 0
        if marker == 0xFF:  # fill
            place += 1
        else:
            place += 2 if marker in _WITHOUT_LENGTH else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return content.find(b"\xff\xd9", place) >= 0


def _require_size(path: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours, below
            with Image.open(path) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise CorruptImageError(f"{path} claims too many pixels: {error}. {_WAY_ON}") from error
    except (OSError, SyntaxError, ValueError):
        return  # not of a format that Pillow knows: the decoder is to say what it is
    if width * height > MOST_PIXELS:
        raise CorruptImageError(f"{path} has {width}x{height} pixels, more than {MOST_PIXELS:,}: no image of a person. {_WAY_ON}")
