"""Folders of which each holds the frames of one tracklet."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from lightning_reid.datamodules.readers.folders import Naming, image_names, parse_names
from lightning_reid.datamodules.readers.image_files import IMAGE_SUFFIXES, list_entries, tell_passed_over
from lightning_reid.records import TrackletRecord


def folder_names(parent: Path) -> list[str]:
    """Sorted names of the folders right in ``parent``, hidden ones left out.

    Raises:
        FileNotFoundError: There is no folder in it.
        NotADirectoryError: ``parent`` is a file.
        PermissionError: ``parent`` may not be listed.
    """
    passed_over: Counter[str] = Counter()
    names = [entry.name for entry in list_entries(parent, passed_over) if entry.is_dir()]
    tell_passed_over(parent, passed_over, f"{len(names)} folders")
    if not names:
        raise FileNotFoundError(f"{parent} holds no folder; was the archive extracted to its end?")
    return names


def read_frames(folder: Path, naming: Naming, pid: int, domain: str, camid: int | None = None, clock: str | None = None) -> TrackletRecord:
    """The images right in ``folder`` as one tracklet, ordered by the number of the frame in their names.

    Args:
        folder: Where the frames of one person in one camera lie.
        naming: What their names say: group ``frame``, their order; optionally ``pid``, ``camid`` and the group named by ``clock``.
        pid: Who is seen; names that tell it must agree.
        domain: Put into the record.
        camid: Which camera; ``None`` takes it from the names. Names that tell it must agree.
        clock: Group of the frame number in the camera's video, the record's ``frame``; ``None`` leaves it at -1.

    Raises:
        FileNotFoundError: The folder holds no image: an empty tracklet.
        ValueError: A name does not parse, or is of another person or camera than the folder.
    """
    names = image_names(folder)
    if not names:
        raise FileNotFoundError(
            f"{folder} is an empty tracklet, it holds no image ({', '.join(IMAGE_SUFFIXES)}); delete it or extract it again"
        )
    matches = parse_names(folder, names, naming)
    told = naming.pattern.groupindex
    camera = int(matches[0]["camid"]) if camid is None else camid
    for group, expected in (("pid", pid), ("camid", camera)):
        strange = [match.string for match in matches if group in told and int(match[group]) != expected]
        if strange:
            raise ValueError(
                f"{folder / strange[0]} is not of {group} {expected}, as the tracklet is; a folder holds one person in one camera"
            )
    matches.sort(key=lambda match: int(match["frame"]))
    paths = tuple(os.path.join(folder, match.string) for match in matches)  # noqa: PTH118
    return TrackletRecord(paths, pid, camera, domain, int(matches[0][clock]) if clock else -1)
