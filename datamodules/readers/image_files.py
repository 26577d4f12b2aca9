"""Which files of a folder are images: one walk for all readers, which tells what it passes over."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

from lightning_reid.regular_files import require_regular

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""What counts as an image, upper case too; other files (``Thumbs.db``, notes, ``._`` twins of macOS) are no part of a set."""
HIDDEN = (".", "@", "__MACOSX")
"""How names begin that are no part of a set: what systems hide, thumbnails of network drives (``.thumbs``, ``@eaDir``), zips of macOS."""


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder says that it is no part of a set."""
    return name.startswith(HIDDEN)


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image which is not hidden."""
    return not is_hidden(name) and name.lower().endswith(IMAGE_SUFFIXES)


def image_files(folder: Path) -> list[str]:
    """Names of all images below a folder, relative to it, folder by folder in the order of their names.

    Links are followed, each folder once, so that a circle of links ends. Hidden files and folders are passed over. What is passed over is
    counted and told (``logging``): a warning where it may have been meant, a folder or a file with a name as images have it.

    Args:
        folder: To be walked through, at any depth.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: ``folder`` is a file.
        PermissionError: A folder may not be listed.
        NoRegularFileError: A pipe, socket or device has the name of an image.
    """
    found: list[str] = []
    passed_over: Counter[str] = Counter()
    seen: set[str] = set()
    open_folders = [(str(folder), "")]
    while open_folders:
        place, inner = open_folders.pop()
        if os.path.realpath(place) in seen:  # by another link
            continue
        seen.add(os.path.realpath(place))
        folders = []
        for entry in list_entries(place, passed_over):
            if entry.is_dir():
                folders.append((entry.path, f"{inner}{entry.name}/"))
            elif is_image(entry.name):
                holds_file(entry)  # a link to nothing is an image that cannot be read
                found.append(inner + entry.name)
            else:
                passed_over[_ending(entry.name)] += 1
        open_folders += folders[::-1]
    tell_passed_over(folder, passed_over, f"{len(found)} images")
    return sorted(found, key=lambda name: name.split("/"))


def list_entries(folder: str | Path, passed_over: Counter[str]) -> list[os.DirEntry[str]]:
    """What is right in a folder and not hidden, sorted by name.

    Args:
        folder: To be listed.
        passed_over: What is hidden is counted in it.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: ``folder`` is a file.
        PermissionError: It may not be listed.
    """
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no folder {folder}") from error
    except NotADirectoryError as error:
        raise NotADirectoryError(f"{folder} is a file where a folder of images was expected") from error
    except PermissionError as error:
        raise PermissionError(f"{folder} may not be listed by this user; grant read and execute permission on it") from error
    for entry in entries:
        if is_hidden(entry.name):
            passed_over[f"hidden folder {entry.name}" if entry.is_dir() else "hidden file"] += 1
    return [entry for entry in entries if not is_hidden(entry.name)]


def holds_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a file, or a link to one; not so if it is a link to nothing.

    Raises:
        NoRegularFileError: It is something else; the message names it.
    """
    if entry.is_file():  # without asking the file system again, for all but links
        return True
    try:
        require_regular(entry.path, entry.stat().st_mode)
    except FileNotFoundError:
        return False
    return True


def tell_passed_over(folder: str | Path, passed_over: Counter[str], found: str) -> None:
    """Log what of a folder was passed over; a warning where a hidden folder is among it.

    Args:
        folder: That was read.
        passed_over: How often what.
        found: What was not passed over, in words.
    """
    if not passed_over:
        return
    told = ", ".join(f"{count} x {what}" if count > 1 else what for what, count in sorted(passed_over.items())[:8])
    level = logging.WARNING if any(what.startswith("hidden folder") for what in passed_over) else logging.INFO
    logger.log(level, "%s: %s; passed over %s", folder, found, told)


def _ending(name: str) -> str:
    return f"*{Path(name).suffix.lower()}" if Path(name).suffix else name
