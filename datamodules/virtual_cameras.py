"""Parts of the pictures of a MOTChallenge sequence as cameras, with blind strips between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_reid.arguments import LARGEST, require_count, require_number, shown
from lightning_reid.datamodules.camera_truth import CameraTruth, CameraVisit, stays_of
from lightning_reid.datamodules.mot.crops import Zone, column_zones, require_disjoint, visible_shares
from lightning_reid.datamodules.mot.people import PeopleRules
from lightning_reid.datamodules.mot.sequence import PEDESTRIAN, MotBox, MotSequence, open_sequence, read_annotation, stream_frames
from lightning_reid.datamodules.readers.folders import StrPath

Corners = tuple[int, int, int, int]
"""Left, top, right and bottom in whole pixels, right and bottom outside."""


@dataclass(frozen=True)
class _Row:
    """What a camera sees of a track in a frame: its box in pixels of the window, and the visible share of the person."""

    track: int
    pid: int
    box: tuple[float, float, float, float]
    visible: float


class VirtualCameras:
    """Cuts windows out of a sequence of pictures and out of its annotation: one real camera, several that see nothing of each other.

    Somebody who walks from window to window is out of sight between them, as between cameras. Frame k of the annotation is number k - 1
    here, as frames of a ``GeneratedWorld`` are counted. Rows of the annotation that are not to be considered, or are no pedestrians, hide
    others but are nobody.

    Args:
        sequence: As ``open_sequence`` takes it.
        zones: The windows, disjoint, one a camera, cut to what lies in the picture; a number n stands for n
            equal columns with blind strips of a sixteenth of the picture's width: 2 cuts 768 pixels into x < 360 and x >= 408.
        annotation: The ``gt.txt``, where it is not to be looked for in the folder.
        pid_map: Track number to person number (from 1), where one person has several tracks; ``None``: each track is a person of its own.
        least_inside: Share of a box that a window must hold for its camera to see the person, above 0 to 1.
        longest_absence: Frames; a track that is back in a window sooner has not left it, and later is a new visit. ``None``: a track is
            one visit of a camera however long it was away.

    Attributes:
        source: Where the sequence lies.
        windows: By camera, the part of the picture in whole pixels.
        num_frames: Up to the last that the annotation tells of.
        visits: Every stay of a track in a window; visit number n is at place n - 1.

    Raises:
        FileNotFoundError: A part of the sequence is missing.
        ValueError: The annotation does not parse, an argument is out of its range, ``pid_map`` lacks a track, two tracks of one person are
            in one frame, or a window lies outside the picture.
    """

    def __init__(
        self,
        sequence: StrPath,
        zones: int | Sequence[Zone] = 2,
        *,
        annotation: StrPath | None = None,
        pid_map: Mapping[int, int] | None = None,
        least_inside: float = 0.3,
        longest_absence: int | None = 10,
    ) -> None:
        require_number("least_inside", least_inside, above=0, high=1)
        require_count("longest_absence", longest_absence, low=0, optional=True)
        self.source = open_sequence(sequence, annotation)
        self.windows = _windows_of(self.source, zones)
        boxes = read_annotation(self.source.annotation)
        self.num_frames = max(box.frame for box in boxes)
        people = PeopleRules(pid_map=None if pid_map is None else dict(pid_map))
        self._rows = _rows_of(boxes, self.windows, people, least_inside)
        self.visits, self._visit_of = _visits_of(self._rows, LARGEST if longest_absence is None else longest_absence)

    def frames(self) -> Iterator[tuple[int, dict[int, NDArray[np.uint8]]]]:
        """Read the sequence once, and cut every picture.

        Yields:
            The number of the frame, from 0, and by camera its picture ``[H, W, 3]`` uint8 RGB.

        Raises:
            FileNotFoundError: A picture is missing.
            ValueError: A picture or the video does not decode, or the video ends before the annotation.
        """
        for frame, picture in stream_frames(self.source.frames, range(1, self.num_frames + 1)):
            yield frame - 1, {camid: picture[y0:y1, x0:x1, ::-1].copy() for camid, (x0, y0, x1, y1) in self.windows.items()}

    def truth(self, camid: int, number: int) -> CameraTruth:
        """Look up who is in a picture, in pixels of the camera's window, by pid.

        Args:
            camid: Camera, as in ``windows``.
            number: Of the frame, from 0.

        Raises:
            ValueError: There is no such camera or frame.
        """
        if camid not in self.windows:
            raise ValueError(f"camid must be one of {', '.join(map(str, self.windows))}, got {shown(camid)}")
        require_count("number", number, low=0, high=self.num_frames - 1)
        rows = sorted(self._rows.get((camid, number), []), key=lambda row: row.pid)
        return CameraTruth(
            boxes=np.array([row.box for row in rows], np.float64).reshape(-1, 4),
            pids=np.array([row.pid for row in rows], np.int64),
            visits=np.array([self._visit_of[camid, row.track, number] for row in rows], np.int64),
            visible=np.array([row.visible for row in rows], np.float64),
        )


def _windows_of(source: MotSequence, zones: int | Sequence[Zone]) -> dict[int, Corners]:
    cut = column_zones(source.width, source.height, zones) if isinstance(zones, int) else tuple(zones)
    require_disjoint(cut)
    windows: dict[int, Corners] = {}
    for zone in cut:
        left, right = (min(max(round(side), 0), source.width) for side in (zone.x0, zone.x1))
        top, bottom = (min(max(round(side), 0), source.height) for side in (zone.y0, zone.y1))
        if left >= right or top >= bottom:
            raise ValueError(f"the pictures of {source.frames} are {source.width}x{source.height} pixels: nothing of them lies in {zone}")
        if zone.camid in windows:
            raise ValueError(f"each camera has one window, but camera {zone.camid} has two zones")
        windows[zone.camid] = (left, top, right, bottom)
    return windows


def _rows_of(
    boxes: Sequence[MotBox], windows: Mapping[int, Corners], people: PeopleRules, least_inside: float
) -> dict[tuple[int, int], list[_Row]]:
    """What is to be seen, by camera and number of the frame."""
    by_frame: dict[int, list[MotBox]] = defaultdict(list)
    for box in boxes:
        by_frame[box.frame].append(box)
    rows: dict[tuple[int, int], list[_Row]] = {}
    for frame, boxes_then in sorted(by_frame.items()):
        pids = _pids_of(boxes_then, people)
        for camid, window in windows.items():
            rows[camid, frame - 1] = _seen_in(boxes_then, pids, window, least_inside)
    return rows


def _pids_of(boxes: Sequence[MotBox], people: PeopleRules) -> list[int | None]:
    """Who each box of one frame is, ``None`` for those that are nobody."""
    pids = [people.pid_of(box.mot_id) if box.considered and box.category == PEDESTRIAN else None for box in boxes]
    tracks: dict[int, int] = {}
    for box, pid in zip(boxes, pids, strict=True):
        if pid in tracks:
            raise ValueError(f"tracks {tracks[pid]} and {box.mot_id} are both person {pid}, but both in frame {box.frame}")
        if pid is not None:
            tracks[pid] = box.mot_id
    return pids


def _seen_in(boxes: Sequence[MotBox], pids: Sequence[int | None], window: Corners, least_inside: float) -> list[_Row]:
    corner, limits = np.tile(window[:2], 2), np.tile(np.subtract(window[2:], window[:2]), 2)
    whole = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes]) - corner
    clipped = np.clip(whole, 0, limits)
    uncovered = visible_shares(np.rint(clipped).astype(np.int64))
    rows = []
    for box, pid, (x0, y0, x1, y1), free in zip(boxes, pids, clipped.tolist(), uncovered.tolist(), strict=True):
        area = box.width * box.height
        inside = (x1 - x0) * (y1 - y0) / area if area > 0 else 0.0
        if pid is not None and inside >= least_inside:
            rows.append(_Row(box.mot_id, pid, (x0, y0, x1, y1), inside * (free if box.visible is None else box.visible)))
    return rows


def _visits_of(
    rows: Mapping[tuple[int, int], Sequence[_Row]], longest_absence: float
) -> tuple[tuple[CameraVisit, ...], dict[tuple[int, int, int], int]]:
    """The visits, and the number of the visit by camera, track and frame."""
    frames: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for (camid, number), seen in rows.items():
        for row in seen:
            frames[camid, row.track, row.pid].append(number)
    visits: list[CameraVisit] = []
    visit_of = {}
    for (camid, track, pid), numbers in sorted(frames.items()):
        for stay in stays_of(np.array(numbers, np.int64), longest_absence):
            visits.append(CameraVisit(len(visits) + 1, pid, camid, int(stay[0]), int(stay[-1])))
            visit_of.update(dict.fromkeys(((camid, track, number) for number in stay.tolist()), len(visits)))
    return tuple(visits), visit_of
