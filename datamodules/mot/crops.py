"""From tracked boxes to the crops of a re-identification set: zones as cameras, and runs of good boxes as tracklets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.mot.sequence import PEDESTRIAN, MotBox


@dataclass(frozen=True)
class Zone:
    """A part of the picture that plays a camera: whoever's foot point lies in it is seen by it.

    Attributes:
        camid: Camera number, from 1.
        x0: Left edge, in pixels; the foot point is the middle of a box's lower edge.
        y0: Upper edge, in pixels.
        x1: Right edge, in pixels, outside.
        y1: Lower edge, in pixels, outside.
    """

    camid: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class CropRules:
    """Which boxes become crops.

    Attributes:
        min_height: Lower boxes are left out, in pixels.
        min_visibility: Boxes of which less is visible are left out, in [0, 1]; the share is the annotation's, or else what the boxes of
            nearer people (a lower foot line) leave uncovered.
        min_frames: Runs of a track through a zone that last fewer frames are left out.
        every_n_frames: Of the good boxes of a run the first of every n is kept; ``None``: 4 for Market, 1 for MARS.
        max_per_tracklet: Market: at most that many are kept, evenly spread; MARS: longer runs are cut into equal tracklets of at most that
            many frames; ``None``: 12 for Market, 40 for MARS.
        max_gap: Frames from one box of a run to the next, at most: 1 ends it where a frame lacks the box.
    """

    min_height: int = 40
    min_visibility: float = 0.6
    min_frames: int = 8
    every_n_frames: int | None = None
    max_per_tracklet: int | None = None
    max_gap: int = 1


@dataclass(frozen=True, slots=True)
class Crop:
    """A box to cut out: corners in whole pixels within the picture, lower right outside."""

    frame: int
    mot_id: int
    pid: int
    camid: int
    x0: int
    y0: int
    x1: int
    y1: int
    visible: float


Tracklet = tuple[Crop, ...]
"""Crops of one track in one zone, in temporal order, at least one."""


def column_zones(width: int, height: int, num_zones: int = 3, blind_strip: float | None = None) -> tuple[Zone, ...]:
    """Equal columns of the picture, cameras 1 to ``num_zones`` from the left, with blind strips between them.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels; feet below the picture still count.
        num_zones: How many.
        blind_strip: Width of the strip between two columns, in pixels; a sixteenth of the picture when ``None``.

    Raises:
        ValueError: No column is left between the strips.
    """
    strip = width / 16 if blind_strip is None else blind_strip
    column = (width - strip * (num_zones - 1)) / num_zones if num_zones > 0 else 0.0
    if column <= 0 or strip < 0:
        raise ValueError(f"{num_zones} columns with strips of {strip} pixels do not fit into a width of {width}")
    starts = [number * (column + strip) for number in range(num_zones)]
    return tuple(Zone(camid, x0, 0, x0 + column, height + 1) for camid, x0 in enumerate(starts, start=1))


def require_disjoint(zones: Sequence[Zone]) -> None:
    """Check that every foot point has one camera at most.

    Raises:
        ValueError: There is no zone, a zone is empty or has a camera below 1, or two overlap.
    """
    if not zones:
        raise ValueError("at least one zone is needed")
    for zone in zones:
        if zone.x0 >= zone.x1 or zone.y0 >= zone.y1 or zone.camid < 1:
            raise ValueError(f"a zone needs x0 < x1, y0 < y1 and a camid from 1, got {zone}")
    for a, b in combinations(zones, 2):
        if a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1:
            raise ValueError(f"zones must not overlap: {a} and {b}")


def visible_shares(corners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each box that the boxes of nearer people, those with a lower foot line, leave uncovered.

    Args:
        corners: ``[N, 4]`` int, x0, y0, x1, y1 in pixels, the boxes of one frame.

    Returns:
        ``[N]`` float64 in [0, 1]; 0 for a box without area.
    """
    shares = np.zeros(len(corners))
    for index, (x0, y0, x1, y1) in enumerate(corners):
        if x0 >= x1 or y0 >= y1:
            continue
        uncovered = np.ones((y1 - y0, x1 - x0), dtype=bool)
        for a0, b0, a1, b1 in corners[corners[:, 3] > y1]:
            uncovered[max(b0 - y0, 0) : max(b1 - y0, 0), max(a0 - x0, 0) : max(a1 - x0, 0)] = False
        shares[index] = uncovered.mean()
    return shares


def whole_corners(boxes: Sequence[MotBox], size: tuple[int, int]) -> NDArray[np.int64]:
    """Corners ``[N, 4]`` of boxes, x0, y0, x1, y1 in whole pixels within the picture, lower right outside; some may have no area.

    Args:
        boxes: At least one.
        size: Width and height of the picture, in pixels.
    """
    limits = np.array([size[0], size[1], size[0], size[1]])
    edges = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes])
    corners: NDArray[np.int64] = np.rint(edges).clip(0, limits).astype(np.int64)
    return corners


def find_tracklets(
    boxes: Iterable[MotBox], size: tuple[int, int], zones: Sequence[Zone], rules: CropRules, pid_of: Callable[[int], int]
) -> tuple[list[Tracklet], Counter[str]]:
    """Runs of frames of one track in one zone, each reduced to its good boxes, and why how many boxes were left out.

    Args:
        boxes: All rows of the annotation: those not considered hide others all the same.
        size: Width and height of a picture, in pixels.
        zones: Disjoint.
        rules: ``min_height``, ``min_visibility``, ``min_frames`` and ``max_gap`` are heeded here.
        pid_of: From track number to person number.

    Raises:
        ValueError: Two tracks of one person are in the same frame.
    """
    left_out: Counter[str] = Counter()
    tracks: dict[int, list[Crop]] = defaultdict(list)
    by_frame: dict[int, list[MotBox]] = defaultdict(list)
    for box in boxes:
        by_frame[box.frame].append(box)
    for frame in sorted(by_frame):
        for crop in _crops_of_frame(by_frame[frame], size, zones, pid_of, left_out):
            tracks[crop.mot_id].append(crop)
    tracklets = []
    for _, track in sorted(tracks.items()):
        for run in _runs(track, rules.max_gap):
            if len(run) < rules.min_frames:
                left_out["in a short run"] += len(run)
                continue
            tall = [crop for crop in run if crop.y1 - crop.y0 >= rules.min_height]
            good = tuple(crop for crop in tall if crop.visible >= rules.min_visibility)
            left_out["too low"] += len(run) - len(tall)
            left_out["hidden"] += len(tall) - len(good)
            if good:
                tracklets.append(good)
    return tracklets, left_out


def _crops_of_frame(
    boxes: list[MotBox], size: tuple[int, int], zones: Sequence[Zone], pid_of: Callable[[int], int], left_out: Counter[str]
) -> list[Crop]:
    corners = whole_corners(boxes, size)
    shares = visible_shares(corners)
    crops: dict[int, Crop] = {}
    for box, (x0, y0, x1, y1), share in zip(boxes, corners.tolist(), shares.tolist()):
        foot_x, foot_y = box.x + box.width / 2, box.y + box.height
        zone = next((zone for zone in zones if zone.x0 <= foot_x < zone.x1 and zone.y0 <= foot_y < zone.y1), None)
        if not box.considered or box.category != PEDESTRIAN:
            left_out["not considered"] += 1
        elif zone is None or x0 >= x1 or y0 >= y1:
            left_out["in no zone"] += 1
        else:
            pid = pid_of(box.mot_id)
            if pid in crops:
                raise ValueError(f"tracks {crops[pid].mot_id} and {box.mot_id} are both person {pid}, but both in frame {box.frame}")
            crops[pid] = Crop(box.frame, box.mot_id, pid, zone.camid, x0, y0, x1, y1, share if box.visible is None else box.visible)
    return list(crops.values())


def _runs(track: list[Crop], max_gap: int) -> list[list[Crop]]:
    runs = [[track[0]]]
    for before, crop in pairwise(track):
        if crop.frame - before.frame <= max_gap and crop.camid == before.camid:
            runs[-1].append(crop)
        else:
            runs.append([crop])
    return runs
