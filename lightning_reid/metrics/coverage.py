"""Which box shows whom: the overlap of what was shown with who was there, a frame at a time."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_reid.metrics.tracked_camera import TrackedCamera

Whole = NDArray[np.int64]

LEAST_OVERLAP = 0.5
"""Intersection over union at which a box counts as showing a person, as everywhere in tracking."""


def tracking_engine() -> ModuleType:
    """The library whose scores are those of TrackEval to the last digit; it is asked for here alone.

    Raises:
        ImportError: The extra ``tracking`` is not installed.
    """
    try:
        from trackers import eval as engine
    except ImportError as error:
        raise ImportError("scores of tracking need trackers: pip install 'lightning-reid[tracking]'") from error
    return engine


class FrameOverlap(NamedTuple):
    """One frame of a camera.

    Attributes:
        true: ``[n]`` rows of the camera's true boxes.
        shown: ``[m]`` rows of its shown boxes.
        overlap: ``[n, m]`` float64, intersection over union, in [0, 1].
    """

    true: Whole
    shown: Whole
    overlap: NDArray[np.float64]


def frame_overlaps(camera: TrackedCamera) -> list[FrameOverlap]:
    """The overlap of all boxes in each of the camera's F frames, empty ones too."""
    box_iou = tracking_engine().box_iou
    true, shown = camera.true.boxes.double().cpu().numpy(), camera.shown.boxes.double().cpu().numpy()
    rows = zip(*(rows_by(part.frames.long().cpu().numpy(), len(camera.times)) for part in (camera.true, camera.shown)))
    return [FrameOverlap(ours, theirs, box_iou(true[ours], shown[theirs])) for ours, theirs in rows]


def rows_by(numbers: Whole, count: int) -> list[Whole]:
    """The rows that have the number 0, 1, up to ``count - 1``, each in ascending order."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))[:count]


def covered_rows(camera: TrackedCamera, frames: list[FrameOverlap]) -> Whole:
    """``[M]`` the row of the true box that each shown box covers, or -1: one to one in a frame, by the largest sum of overlaps.

    Args:
        camera: What was there and what was shown.
        frames: Its ``frame_overlaps``.
    """
    from scipy.optimize import linear_sum_assignment

    covered = np.full(len(camera.shown.frames), -1, dtype=np.int64)
    for frame in frames:
        allowed = np.where(frame.overlap >= LEAST_OVERLAP, frame.overlap, 0)
        rows, columns = linear_sum_assignment(allowed, maximize=True)
        real = allowed[rows, columns] > 0
        covered[frame.shown[columns[real]]] = frame.true[rows[real]]
    return covered
