"""Which files of a folder are images: one walk for all readers, which tells what it passes over."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""What counts as an image, upper case too; other files (``Thumbs.db``, notes, ``._`` twins of macOS) are no part of a set."""
HIDDEN = (".", "@")
"""How names begin that are no part of a set: what systems hide, and thumbnails of network drives (``.thumbs``, ``@eaDir``)."""


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image which is not hidden."""
    return not name.startswith(HIDDEN) and name.lower().endswith(IMAGE_SUFFIXES)


def image_files(folder: Path) -> list[str]:
    """Names of all images below a folder, relative to it, folder by folder in the order of their names.

    Links are followed, each folder once, so that a circle of links ends. Hidden files and folders are passed over. What is passed over is
    counted and told (``logging``): a warning where it may have been meant, a folder or a file with a name as images have it.

    Args:
        folder: To be walked through, at any depth.

    Raises:
        NotADirectoryError: ``folder`` is a file.
        PermissionError: A folder may not be listed.
    """
    found: list[str] = []
    passed_over: Counter[str] = Counter()
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        if os.path.realpath(place) in seen:  # by another link
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        inner = os.path.relpath(place, folder).replace(os.sep, "/")
        passed_over.update(f"hidden folder {name}" for name in folders if name.startswith(HIDDEN))
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        found += [name if inner == "." else f"{inner}/{name}" for name in files if is_image(name)]
        passed_over.update("hidden file" if name.startswith(HIDDEN) else _ending(name) for name in files if not is_image(name))
    if passed_over:
        told = ", ".join(f"{count} x {what}" if count > 1 else what for what, count in sorted(passed_over.items())[:8])
        level = logging.WARNING if any(what.startswith("hidden folder") for what in passed_over) else logging.INFO
        logger.log(level, "%s: %d images; passed over %s", folder, len(found), told)
    return sorted(found, key=lambda name: name.split("/"))


def _ending(name: str) -> str:
    return f"*{Path(name).suffix.lower()}" if Path(name).suffix else name


def _refuse(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(f"there is no folder {error.filename}") from error
    if isinstance(error, NotADirectoryError):
        raise NotADirectoryError(f"{error.filename} is a file where a folder of images was expected") from error
    raise PermissionError(f"{error.filename} may not be listed by this user; grant read and execute permission on it") from error
