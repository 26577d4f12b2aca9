"""Finding a data set's folder and turning its file names into records; no image is opened."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from lightning_reid.datamodules.readers.ids import LARGEST
from lightning_reid.datamodules.readers.image_files import IMAGE_SUFFIXES, image_files, is_image
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, ImageRecord, TrackletRecord

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Layout:
    """What a data set's folder must hold.

    Attributes:
        name: Short name of the set.
        entries: Files and sub-folders that must be there, relative to the root.
        archive_names: Names, lower case, of the folder the official archive unpacks to: the root may be that folder or its parent.
    """

    name: str
    entries: tuple[str, ...]
    archive_names: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        return f"a folder with {', '.join(self.entries)}"


@dataclass(frozen=True)
class Naming:
    """How one file name tells who is seen where and when.

    Attributes:
        pattern: Matched at the start of the name; group ``pid``, optionally ``camid`` and ``frame``.
        example: A name of that form, for error messages.
        pid_offset: Added to the number in the name: 1 for sets that count people from 0, because pid 0 means distractor.
    """

    pattern: re.Pattern[str]
    example: str
    pid_offset: int = 0


def find_root(root: StrPath, layout: Layout) -> Path:
    """The folder of the data set: ``root`` itself, or the one folder in it that bears the archive's name.

    Raises:
        FileNotFoundError: There is no such folder, it holds nothing of the layout, or only a part of it.
        PermissionError: The folder may not be listed.
        ValueError: Both ``root`` and a folder in it, or several folders in it, fit.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise FileNotFoundError(f"{layout.name}: there is no folder {base}; expected {layout}")
    inside = _entry_names(base)
    candidates = [base, *(base / name for name in inside if name.lower() in layout.archive_names)]
    found = [folder for folder in candidates if any((folder / entry).exists() for entry in layout.entries)]
    if not found:
        raise FileNotFoundError(
            f"{layout.name}: {base} has another layout; expected {layout}, found {', '.join(inside[:6]) or 'nothing'}"
            f"{f' and {len(inside) - 6} more' if len(inside) > 6 else ''}"
        )
    if len(found) > 1:
        raise ValueError(f"{layout.name}: {', '.join(map(str, found))} all look like the data set; give the one that is meant as root")
    missing = [entry for entry in layout.entries if not (found[0] / entry).exists()]
    if missing:
        raise FileNotFoundError(f"{layout.name}: {found[0]} lacks {', '.join(missing)}; was the archive extracted to its end?")
    return found[0]


def image_names(folder: Path) -> list[str]:
    """Sorted names of the images right in ``folder``.

    Raises:
        PermissionError: The folder may not be listed.
    """
    return [name for name in _entry_names(folder) if is_image(name)]


def parse_names(folder: Path, names: Sequence[str], naming: Naming) -> list[re.Match[str]]:
    """Match every name, or say which one does not.

    Raises:
        ValueError: A name does not parse; the first is named, the others are counted.
    """
    matches = [naming.pattern.match(name) for name in names]
    parsed = [match for match in matches if match is not None]
    for match in parsed:
        large = [digits for digits in match.groupdict().values() if digits and digits.isdecimal() and int(digits) > LARGEST]
        if large:
            raise ValueError(
                f"{folder / match.string} has the number {large[0]}, of more than 63 bits: number people, cameras and frames"
                " smaller, or list the images in a table, whose ids may be of any size"
            )
    if len(parsed) < len(names):
        first = next(name for name, match in zip(names, matches) if match is None)
        others = len(names) - len(parsed) - 1
        raise ValueError(
            f"{folder / first} does not parse, nor do {others} other names there; expected names like {naming.example}. "
            "Move what is no part of the data set out of the folder"
        )
    return parsed


def read_folder(
    folder: Path,
    naming: Naming,
    domain: str,
    *,
    camid: int | Callable[[re.Match[str]], int] | None = None,
    allow_empty: bool = False,
) -> tuple[ImageRecord, ...]:
    """One record for each image below ``folder``, folders by person say, in the order of ``image_files``.

    Args:
        folder: Where the images lie; what is passed over is told, see ``image_files``.
        naming: What their names say.
        domain: Put into every record.
        camid: The camera of all of them, or how to tell it from the match; ``None`` takes the group ``camid``.
        allow_empty: Return nothing, rather than raise, where there is no image.

    Raises:
        FileNotFoundError: The folder holds no image.
        ValueError: A name does not parse.
    """
    names = image_files(folder)
    if not names and not allow_empty:
        raise FileNotFoundError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); was the archive extracted to its end?")
    has_frame = "frame" in naming.pattern.groupindex
    records = []
    for name, match in zip(names, parse_names(folder, [name.rpartition("/")[2] for name in names], naming)):
        camera = int(match["camid"]) if camid is None else camid if isinstance(camid, int) else camid(match)
        frame = int(match["frame"]) if has_frame and match["frame"] else -1
        records.append(ImageRecord(os.path.join(folder, name), int(match["pid"]) + naming.pid_offset, camera, domain, frame))  # noqa: PTH118
    return tuple(records)


def require_files(paths: Iterable[str], listed_in: str) -> None:
    """Check that listed images exist, with one listing a folder rather than one look-up an image.

    Raises:
        FileNotFoundError: Some do not; the first is named, the others are counted.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, name = os.path.split(path)
        by_folder[folder].append(name)
    missing = []
    for folder, names in by_folder.items():
        present = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH112, PTH208
        missing += [os.path.join(folder, name) for name in names if name not in present]  # noqa: PTH118
    if missing:
        raise FileNotFoundError(f"{missing[0]} is listed in {listed_in} but not there, nor are {len(missing) - 1} others")


def require_identified(query: Iterable[ImageRecord | TrackletRecord]) -> None:
    """Check that every query shows somebody.

    Raises:
        ValueError: A query has the identity of a distractor (0) or of junk (-1).
    """
    nobody = [record for record in query if record.pid <= 0]
    if nobody:
        first = nobody[0]
        name = f"the query tracklet that begins with {first.paths[0]}" if isinstance(first, TrackletRecord) else f"query {first.path}"
        raise ValueError(
            f"{name} has pid {first.pid}, as have {len(nobody) - 1} others with pid 0 or less: "
            "0 means distractor and -1 junk, which only a gallery may hold. Number people from 1"
        )


def unlabeled_notes(train: Sequence[ImageRecord | TrackletRecord]) -> tuple[str, ...]:
    """What becomes of training records of nobody: those of a table that numbers people from 0 are lost, and somebody is to know."""
    zero, junk = (sum(record.pid == pid for record in train) for pid in (DISTRACTOR_PID, JUNK_PID))
    if not zero + junk:
        return ()
    told = f"{zero + junk} of {len(train)} training records show nobody (pid 0 or -1) and train no identity"
    return (told + (": if people are numbered from 0, number them from 1" if zero else ""),)


def _entry_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except PermissionError as error:
        raise PermissionError(f"{folder} may not be listed by this user; grant read and execute permission on it") from error
    except NotADirectoryError as error:
        raise NotADirectoryError(f"{folder} is a file where a folder of images was expected") from error
