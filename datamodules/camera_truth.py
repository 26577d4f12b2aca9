"""What is known of the pictures of several cameras: who is in them where, and who stays in whose view from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CameraTruth(NamedTuple):
    """Who is in a picture, one row each.

    Attributes:
        boxes: ``[N, 4]`` float64, x0, y0, x1, y1 in pixels: around the part of the person inside the picture, hidden or not.
        pids: ``[N]`` int64, from 1.
        visits: ``[N]`` int64, from 1, of all cameras; a person who comes back to a camera is a new visit.
        visible: ``[N]`` float64 in 0..1, share of the whole person that lies in the picture and that nobody nearer hides.
    """

    boxes: NDArray[np.float64]
    pids: NDArray[np.int64]
    visits: NDArray[np.int64]
    visible: NDArray[np.float64]


@dataclass(frozen=True)
class CameraVisit:
    """A stay of one person in the view of one camera.

    Attributes:
        number: From 1, of all cameras.
        pid: Who.
        camid: Where, from 1.
        first: Its first frame.
        last: Its last frame.
    """

    number: int
    pid: int
    camid: int
    first: int
    last: int


def stays_of(frames: NDArray[np.int64], longest_absence: float) -> list[NDArray[np.int64]]:
    """Cut the frames in which a camera sees somebody, ascending, into stays: who is away for no more frames than that has not left."""
    if not len(frames):
        return []
    return np.split(frames, np.flatnonzero(np.diff(frames) > 1 + longest_absence) + 1)
