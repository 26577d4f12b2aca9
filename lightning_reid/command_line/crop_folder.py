"""Tracklets of several cameras as a folder: crops in the layout of MARS, a table of frames, a table of images, a contact sheet."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning_reid.command_line.contact_sheet import PEOPLE as SHEET_ROWS
from lightning_reid.command_line.contact_sheet import PICTURES as SHEET_PICTURES
from lightning_reid.command_line.contact_sheet import draw_sheet
from lightning_reid.command_line.filming import cut_out
from lightning_reid.command_line.seen import ALL, Seen
from lightning_reid.datamodules.mot.crops import Crop, Tracklet
from lightning_reid.datamodules.mot.layouts import SetPlan, evenly_spread, plan_mars
from lightning_reid.datamodules.mot.writing import make_folders, write_lists
from lightning_reid.datamodules.readers.table import IMAGES_TABLE
from lightning_reid.live.sources import FrameSource
from lightning_reid.records import JUNK_PID

TRACKLETS_TABLE = "tracklets.csv"
SHEET = "sheet.png"


@dataclass(frozen=True)
class Camera:
    """A video and what it shows.

    Attributes:
        name: Of the camera.
        source: Of its frames.
        times: Seconds from the video's start, by the number of a frame.
        start: When the video begins; ``None`` where nobody says.
    """

    name: str
    source: FrameSource
    times: Mapping[int, float]
    start: datetime | None


def write_crop_folder(
    folder: Path,
    cameras: Mapping[int, Camera],
    tracklets: Sequence[Tracklet],
    *,
    max_frames: int,
    images_per_tracklet: int,
    jpeg_quality: int,
    progress: bool,
) -> dict[str, list[Crop]]:
    """Write crops, lists, tables and the contact sheet into an empty folder.

    Args:
        folder: Empty.
        cameras: By the number that crops have.
        tracklets: Of all cameras, of pid -1.
        max_frames: Longer ones are cut into equal parts of at most that many, up to 999.
        images_per_tracklet: At most that many of each part are listed as images, evenly spread.
        jpeg_quality: 1 to 100.
        progress: Show bars on standard error.

    Returns:
        What was written: crops by the name of their tracklet.

    Raises:
        OSError: A video cannot be read, or the folder not be written.
        ValueError: A video has changed, or there are more cameras than a MARS name has room for.
    """
    plan = plan_mars(tracklets, frozenset(), max_frames, "first")
    make_folders(plan, folder)
    for camid, camera in cameras.items():
        wanted = {crop: folder / file for crop, file in plan.files.items() if crop.camid == camid}
        cut_out(camera.source, wanted, jpeg_quality, progress=progress)
    write_lists(plan, folder)
    named: dict[str, list[Crop]] = defaultdict(list)
    for crop, file in plan.files.items():
        named[_tracklet_of(file)].append(crop)
    _write_table(folder / TRACKLETS_TABLE, plan, named, cameras)
    thinned = {name: evenly_spread(tuple(crops), images_per_tracklet) for name, crops in named.items()}
    _write_table(folder / IMAGES_TABLE, plan, thinned, cameras)
    draw_sheet(_shown(folder, plan, named, cameras), folder / SHEET)
    return named


def _tracklet_of(file: str) -> str:
    """``c1t0002`` of ``bbox_train/00-1/00-1C1T0002F001.jpg``."""
    return Path(file).stem.rpartition("F")[0].removeprefix("00-1").lower()


def _write_table(path: Path, plan: SetPlan, tracklets: Mapping[str, Iterable[Crop]], cameras: Mapping[int, Camera]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, _COLUMNS)
        rows.writeheader()
        rows.writerows(_row(plan.files[crop], crop, name, cameras[crop.camid]) for name, crops in tracklets.items() for crop in crops)


_COLUMNS = ("path", "pid", "camid", "tracklet", "split", "frame", "camera", "time", "clock", "x0", "y0", "x1", "y1", "visible")


def _row(file: str, crop: Crop, tracklet: str, camera: Camera) -> dict[str, Any]:
    seconds = camera.times[crop.frame]
    clock = "" if camera.start is None else (camera.start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    told = (file, JUNK_PID, crop.camid, tracklet, "train", crop.frame, camera.name, f"{seconds:.3f}", clock)
    return dict(zip(_COLUMNS, (*told, crop.x0, crop.y0, crop.x1, crop.y1, f"{crop.visible:.2f}"), strict=True))


def _shown(folder: Path, plan: SetPlan, tracklets: Mapping[str, Sequence[Crop]], cameras: Mapping[int, Camera]) -> list[Seen]:
    """Pictures of the longest tracklets, each camera in turn, evenly spread and labeled by their time."""
    of_camera: dict[int, list[str]] = defaultdict(list)
    for name in sorted(tracklets, key=lambda one: -len(tracklets[one])):
        of_camera[tracklets[name][0].camid].append(name)
    turns = [name for names in zip_longest(*of_camera.values()) for name in names if name is not None]
    return [
        Seen(str(folder / plan.files[crop]), ALL, name, f"{cameras[crop.camid].times[crop.frame]:.1f} s")
        for name in turns[:SHEET_ROWS]
        for crop in evenly_spread(tuple(tracklets[name]), SHEET_PICTURES)
    ]
