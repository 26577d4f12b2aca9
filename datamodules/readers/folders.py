"""Finding a data set's folder and turning its file names into records; no image is opened."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from lightning_reid.datamodules.readers.ids import LARGEST
from lightning_reid.datamodules.readers.image_files import (
    IMAGE_SUFFIXES,
    holds_file,
    image_files,
    is_image,
    list_entries,
    tell_passed_over,
)
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, ImageRecord, TrackletRecord

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Layout:
    """What a data set's folder must hold.

    Attributes:
        name: Short name of the set.
        entries: Files and sub-folders that must be there, relative to the root.
        archive_names: Names, lower case, of the folder the official archive unpacks to: the root may be that folder or its parent.
        remedy: What to do where a part of it is missing.
    """

    name: str
    entries: tuple[str, ...]
    archive_names: tuple[str, ...] = ()
    remedy: str = "was the archive extracted to its end?"

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
    inside = [entry.name for entry in list_entries(base, Counter())]
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
        raise FileNotFoundError(f"{layout.name}: {found[0]} lacks {', '.join(missing)}; {layout.remedy}")
    return found[0]


def image_names(folder: Path) -> list[str]:
    """Sorted names of the images right in ``folder``; hidden ones are passed over, and told.

    Raises:
        NotADirectoryError: ``folder`` is a file.
        PermissionError: The folder may not be listed.
        NoRegularFileError: A pipe, socket or device has the name of an image.
    """
    passed_over: Counter[str] = Counter()
    images = [entry for entry in list_entries(folder, passed_over) if is_image(entry.name)]
    for entry in images:
        holds_file(entry)  # a link to nothing is an image that cannot be read
    tell_passed_over(folder, passed_over, f"{len(images)} images")
    return [entry.name for entry in images]


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
            f"{folder / first} does not parse{f', nor do {others} other names there' if others else ''}; expected names like"
            f" {naming.example}. Rename it, or move what is no part of the data set out of the folder; a folder of other names becomes a"
            " table by lightning-reid convert"
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


def path_below(folder: StrPath, name: str, where: str, *, outside: bool = False, remedy: str = "") -> str:
    """The path of a listed file, which lies in a folder or below it: a list from elsewhere must not choose among all files of a machine.

    Links within the folder are followed, as they are everywhere: whoever owns the folder made them. But not back: ``link/../a.jpg`` lies
    beside what the link leads to. Other names with ``..`` that stay within the folder come back without it, so that no image has two names.

    Args:
        folder: Where a relative ``name`` starts.
        name: As it is listed.
        where: The place of the name in its list, for the message.
        outside: Whether it may lie elsewhere.
        remedy: Besides that of moving or linking the files, for the message.

    Raises:
        ValueError: It leads out of the folder, by ``..`` or as it is absolute, or by ``..`` back from a link.
    """
    path = os.path.join(folder, name)  # noqa: PTH118  (MARS has 1.2 million frames, too many for Path objects)
    if outside or not (os.path.isabs(name) or ".." in name):  # noqa: PTH117
        return path
    bases = Path(folder).absolute(), Path(folder).resolve()
    plain = Path(os.path.normpath(bases[0] / name))
    base = next((base for base in bases if plain.is_relative_to(base)), None)
    if base is None:
        raise ValueError(f"{where}: {name!r} leads out of {folder}: put the files below it, or links to them{remedy}")
    if ".." not in Path(name).parts:
        return path
    if os.path.realpath(path) != os.path.realpath(plain):
        raise ValueError(f"{where}: {name!r} goes back by .. from a link, to where it leads: write the path of the file without ..{remedy}")
    return os.path.join(folder, plain.relative_to(base))  # noqa: PTH118


def require_files(paths: Iterable[str], listed_in: str) -> None:
    """Check that listed images are files, with one listing a folder rather than one look-up an image.

    Raises:
        FileNotFoundError: Some are not there; the first is named, the others are counted.
        NoRegularFileError: There is a folder, pipe, socket or device under the name of one.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, name = os.path.split(path)
        by_folder[folder].append(name)
    missing = []
    for folder, names in by_folder.items():
        with os.scandir(folder or ".") if os.path.isdir(folder or ".") else nullcontext(()) as scanned:  # noqa: PTH112
            present = {entry.name: entry for entry in scanned}
        for name in names:
            if name not in present or not holds_file(present[name]):
                missing.append(os.path.join(folder, name))  # noqa: PTH118
    if missing:
        others = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
        hint = ": put it there, or take it out of the list"
        if "\\" in missing[0] and os.sep == "/":
            absolute = re.search(r"[A-Za-z]:\\", missing[0])
            hint = ": write paths as they are on this machine, from the table's folder on" if absolute else ": write / between folders"
        raise FileNotFoundError(f"{missing[0]} is listed in {listed_in} but not there{others}{hint}")


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
