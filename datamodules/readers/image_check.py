"""Finding files that are no readable image, before a training run finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from lightning_reid.datamodules.decoding import CorruptImageError, image_pixels
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.records import DRAWN, PACKED, ImageRecord
from lightning_reid.regular_files import open_regular

_FILES_A_TASK = 256


@dataclass(frozen=True)
class UnreadableImage:
    """A file that does not open as an image.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    path: str
    reason: str


def find_unreadable_images(records: Iterable[ImageRecord], *, decode: bool = False, num_threads: int = 8) -> list[UnreadableImage]:
    """Open the file of every record and list those that are no image, in the order of the records, each file once.

    Args:
        records: Whose files to check.
        decode: Decode all pixels, which also finds files cut short; otherwise only the header is read, some twenty times faster.
        num_threads: Files open at the same time.

    Example:
        >>> from lightning_reid.datamodules.readers import find_unreadable_images
        >>> from lightning_reid.records import ImageRecord
        >>> written = (folder / "broken.jpg").write_text("no image")
        >>> (unreadable,) = find_unreadable_images([ImageRecord(str(folder / "broken.jpg"), pid=1, camid=1)])
        >>> unreadable.path.endswith("broken.jpg")
        True
    """
    return find_unreadable_files([record.path for record in records], decode=decode, num_threads=num_threads)


def find_unreadable_files(
    paths: Iterable[str], *, decode: bool = False, num_threads: int = 8, progress: bool = False
) -> list[UnreadableImage]:
    """List the files that are no image, as ``find_unreadable_images`` does; MARS' 1.2 million take minutes, so a bar can be shown.

    Args:
        paths: Files to check.
        decode: Decode all pixels.
        num_threads: Files open at the same time.
        progress: Show a bar on standard error once it takes longer than two seconds.
    """
    files = list(dict.fromkeys(paths))
    tasks = [files[first : first + _FILES_A_TASK] for first in range(0, len(files), _FILES_A_TASK)]
    with ThreadPoolExecutor(num_threads) as pool:
        done = pool.map(partial(_unreadable_among, decode=decode), tasks)
        checked = late_progress(done, f"checking {len(files)} images", total=len(tasks), disable=not progress)
        return [image for images in checked for image in images]


def _unreadable_among(paths: Sequence[str], *, decode: bool) -> list[UnreadableImage]:
    reasons = ((path, _why_unreadable(path, decode=decode)) for path in paths)
    return [UnreadableImage(path, reason) for path, reason in reasons if reason]


def _why_unreadable(path: str, *, decode: bool) -> str:
    if path.startswith(PACKED):
        return ""  # decoded before it was packed, and compared with what was packed whenever it is read
    if path.startswith(DRAWN):
        return _why_no_address(path)
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return "zero bytes"
    if decode:  # by what loads it later, so that neither finds what the other lets through
        try:
            image_pixels(path)
        except CorruptImageError as error:
            return str(error)
        return ""
    try:
        with open_regular(path) as file, Image.open(file):
            pass
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises on damaged headers
        return f"{type(error).__name__}: {error}"
    return ""


def _why_no_address(path: str) -> str:
    from lightning_reid.datamodules.generated.people_address import PeopleAddress  # with torch, which files need not wait for

    try:
        PeopleAddress.of(path)
    except ValueError as error:
        return str(error)
    return ""
