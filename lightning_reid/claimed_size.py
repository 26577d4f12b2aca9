"""How large an image says it is: read off its head before a decoder makes its pixels."""

from __future__ import annotations

import io
import struct
import warnings

from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 2**27
"""Of one image: a crop has thousands, a photograph tens of millions; a file of some kilobytes may claim billions."""
_DECODED = ("AVIF", "BMP", "DIB", "GIF", "JPEG2000", "PNG", "PPM", "SUN", "TIFF", "WEBP")
"""Formats that OpenCV decodes, JPEG apart; what else Pillow knows is no image here."""
_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG that its size follows."""
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers of a JPEG that no length follows."""

Size = tuple[int, int]
"""Width and height, in pixels."""


def is_jpeg(content: bytes) -> bool:
    """Whether the bytes begin as a JPEG does."""
    return content[:2] == b"\xff\xd8"


def jpeg_head(content: bytes) -> tuple[Size | None, bool]:
    """Width and height that a JPEG claims, ``None`` where its head tells none or it is no JPEG, and whether its own end marker is there.

    That of a thumbnail in its head does not count, and what follows the end does not matter: recorders pad files, and phones append a film.
    """
    if not is_jpeg(content):
        return None, False
    place, size = 2, None
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in (0x00, 0xDA):  # no marker; or the pixels begin, among them 0xFF is followed by 0, or by a marker
            break
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker in _SIZES and place + 9 <= len(content):
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            size = width, height
        place += 2 if marker in _WITHOUT_LENGTH else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return size, content.find(b"\xff\xd9", place) >= 0


def claimed_size(content: bytes) -> Size | None:
    """Width and height that an image other than a JPEG claims in its head; ``None`` where the decoder is to say what it is.

    Raises:
        ValueError: The head is of a format that is decoded, and broken.
    """
    if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(io.BytesIO(content), formats=_known()) as image:
                return image.size
    except Image.DecompressionBombError:
        return MOST_PIXELS, 2
    except UnidentifiedImageError:
        return None
    except Exception as error:  # the readers of Pillow raise whatever the bytes make them
        raise ValueError(f"its head cannot be read ({type(error).__name__}: {error})") from error


def _known() -> list[str]:
    """Pillow before 11.3 has no AVIF, and a name that it does not know is a KeyError."""
    Image.init()
    return [name for name in _DECODED if name in Image.OPEN]
