"""Sparse space-time tracklets (SSTT): tracklets of one camera so far apart that no two of them can show the same person.

Source: Li et al. 2018 (unsupervised person re-ID by deep tracklet association), used by the edge-device text, section 3. What
the texts leave open is decided so:

- Time: a camera is looked at in sampled instants, at least ``min_gap`` frames apart. ``min_gap`` should exceed the time people take to
  cross the view, so that whoever is seen in one instant has left before the next. The first instant is drawn from the frames with anybody
  in view within ``min_gap`` of the first such frame; each next one is the earliest frame with anybody in view that is far enough from its
  predecessor.
- Space: of the tracklets with a box in an instant, taken in random order, one is chosen if its box is at least ``min_distance`` from the
  boxes of all that were chosen before. The distance of two boxes is the gap between them, in pixels: 0 where they touch or overlap,
  otherwise the shortest line from one to the other. A positive distance thus never admits the two boxes of a twice-detected person.
- A tracklet is chosen once, for the first instant that admits it. One that is still in view at a later instant keeps its distance there
  too.
- Cameras do not constrain each other.

Benchmarks publish labels where they publish no boxes on a camera's clock. There ``one_tracklet_per_person`` and ``tracklets_of_images``
give what the sampling would ideally give, one tracklet of a person in a camera; they look at the labels for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_reid.records import ImageRecord, Record, TrackletRecord


@dataclass(frozen=True, eq=False)
class TrackedBoxes:
    """Where and when one tracklet was seen.

    Attributes:
        camid: Its camera.
        frames: ``[F]`` int64, ascending frame numbers on the camera's clock; gaps where the person was not found are fine.
        boxes: ``[F, 4]`` float, ``x0, y0, x1, y1`` in pixels of the camera's picture, one a frame.
    """

    camid: int
    frames: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]


class SparseTracklet(NamedTuple):
    """A chosen tracklet: its row in the input, its camera, and the sampled instant (frame number) it was chosen for."""

    row: int
    camid: int
    instant: int


def sparse_tracklets(
    tracklets: Sequence[TrackedBoxes], *, min_gap: int, min_distance: float, generator: np.random.Generator
) -> list[SparseTracklet]:
    """Choose tracklets of which no two of one camera can be the same person; see the module for every rule.

    For each two chosen tracklets of one camera, either their instants are equal and their boxes in it at least ``min_distance`` apart, or
    their instants are at least ``min_gap`` frames apart. At least one tracklet of every camera is chosen.

    Args:
        tracklets: Any number, of any cameras.
        min_gap: Frames between instants, at least 1; more than a person takes to cross the view.
        min_distance: Pixels between boxes of one instant, above 0.
        generator: Source of the draws; equal inputs and generators give equal choices.

    Returns:
        The chosen ones, by camera, then instant, then row.

    Raises:
        ValueError: A number is out of range; or a tracklet is empty, its frames do not ascend, or its boxes do not fit them, are not
            finite, or have no area. The tracklet is named by its row.
    """
    if min_gap < 1 or not 0 < min_distance < np.inf:
        raise ValueError(f"need min_gap >= 1 frame and a finite min_distance > 0 pixels, got {min_gap} and {min_distance}")
    rows_of: dict[int, list[int]] = {}
    for row, tracklet in enumerate(tracklets):
        _require_sound(row, tracklet)
        rows_of.setdefault(tracklet.camid, []).append(row)
    return [
        SparseTracklet(row, camid, instant)
        for camid in sorted(rows_of)
        for instant, row in _choose_in_camera(tracklets, rows_of[camid], min_gap, min_distance, generator)
    ]


def one_tracklet_per_person(tracklets: Iterable[TrackletRecord], generator: np.random.Generator) -> tuple[TrackletRecord, ...]:
    """One tracklet, drawn at random, of each person in each camera, by camera, then person; pid 0 and -1 are left out."""
    groups = _by_camera_and_person(tracklets)
    return tuple(groups[key][int(generator.integers(len(groups[key])))] for key in sorted(groups))


def tracklets_of_images(images: Iterable[ImageRecord]) -> tuple[TrackletRecord, ...]:
    """All images of a person in a camera as one tracklet, in the order of their frames; pid 0 and -1 are left out.

    Where the set tells no frame (-1) images keep the order they come in. By camera, then person; the domain is that of the first image.
    """
    groups = _by_camera_and_person(images)
    ordered = {key: sorted(groups[key], key=lambda image: image.frame) for key in sorted(groups)}
    return tuple(
        TrackletRecord(tuple(image.path for image in tracklet), pid, camid, tracklet[0].domain, tracklet[0].frame)
        for (camid, pid), tracklet in ordered.items()
    )


def box_gaps(box: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shortest distance in pixels from one box ``[4]`` (``x0, y0, x1, y1``) to each of ``[N, 4]``; 0 where they touch or overlap."""
    across = np.maximum(box[0] - others[:, 2], others[:, 0] - box[2]).clip(min=0)
    down = np.maximum(box[1] - others[:, 3], others[:, 1] - box[3]).clip(min=0)
    gaps: npt.NDArray[np.float64] = np.hypot(across, down)
    return gaps


def _by_camera_and_person(records: Iterable[Record]) -> dict[tuple[int, int], list[Record]]:
    groups: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        if record.pid > 0:
            groups.setdefault((record.camid, record.pid), []).append(record)
    return groups


def _choose_in_camera(
    tracklets: Sequence[TrackedBoxes], rows: list[int], min_gap: int, min_distance: float, generator: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """``(instant, row)`` of the chosen ones, ascending."""
    sizes = [len(tracklets[row].frames) for row in rows]
    frames = np.concatenate([tracklets[row].frames for row in rows])
    order = np.argsort(frames, kind="stable")
    frames, boxes = frames[order], np.concatenate([tracklets[row].boxes for row in rows])[order]
    owners = np.repeat(np.array(rows), sizes)[order]
    chosen: set[int] = set()
    for instant in _instants(frames, min_gap, generator):
        seen = slice(*np.searchsorted(frames, (instant, instant + 1)))
        added = _choose_in_instant(owners[seen], boxes[seen], chosen, min_distance, generator)
        chosen |= added
        yield from ((instant, row) for row in sorted(added))


def _instants(frames: npt.NDArray[np.int64], min_gap: int, generator: np.random.Generator) -> Iterator[int]:
    """Frames with somebody in view, at least ``min_gap`` apart; ``frames`` ascend and may repeat."""
    occupied = np.unique(frames)
    place = int(generator.integers(np.searchsorted(occupied, occupied[0] + min_gap)))
    while place < len(occupied):
        yield int(occupied[place])
        place = int(np.searchsorted(occupied, occupied[place] + min_gap))


def _choose_in_instant(
    rows: npt.NDArray[np.int64], boxes: npt.NDArray[np.float64], chosen: set[int], min_distance: float, generator: np.random.Generator
) -> set[int]:
    """Those of ``rows`` that come new to the chosen ones; ``chosen`` stays as it is."""
    is_chosen = np.isin(rows, list(chosen))
    taken = np.flatnonzero(is_chosen).tolist()
    added = set()
    for place in generator.permutation(np.flatnonzero(~is_chosen)).tolist():
        if (box_gaps(boxes[place], boxes[taken]) >= min_distance).all():
            taken.append(place)
            added.add(int(rows[place]))
    return added


def _require_sound(row: int, tracklet: TrackedBoxes) -> None:
    frames, boxes = tracklet.frames, tracklet.boxes
    where = f"tracklet {row} (camera {tracklet.camid})"
    if len(frames) == 0:
        raise ValueError(f"{where} has no frame; leave empty tracklets out")
    if boxes.shape != (len(frames), 4):
        raise ValueError(f"{where} has {len(frames)} frames, so boxes of shape ({len(frames)}, 4) were expected, got {boxes.shape}")
    if (np.diff(frames) <= 0).any():
        raise ValueError(
            f"{where}: frames must ascend without repetition; sort them, and cut a tracklet with two boxes in one frame in two"
        )
    bad = ~(np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"{where}, frame {frames[first]}: expected a finite box x0 < x1, y0 < y1, got {boxes[first].tolist()}; "
            f"{bad.sum() - 1} more are bad"
        )
