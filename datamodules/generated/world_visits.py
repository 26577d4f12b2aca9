"""Visits of a generated world: who stays in the view of which camera from when to when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST_ABSENCE = 1.0
"""Seconds; who is back at the same camera sooner has not left it."""


@dataclass(frozen=True)
class WorldVisit:
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


def find_visits(seen: NDArray[np.bool_], fps: float) -> tuple[tuple[WorldVisit, ...], NDArray[np.int32]]:
    """Number the stays of everybody in the views of all cameras.

    Args:
        seen: ``[num_cameras, num_people, num_frames]``, whether a camera sees a person in a frame.
        fps: Frames a second.

    Returns:
        The visits, number n at place n - 1; and the number of the visit wherever ``seen`` is true, of its shape, 0 elsewhere.
    """
    found: list[WorldVisit] = []
    table = np.zeros(seen.shape, np.int32)
    for camera, row in np.ndindex(*seen.shape[:2]):
        frames = np.flatnonzero(seen[camera, row])
        if not len(frames):
            continue
        left = np.flatnonzero(np.diff(frames) > 1 + LONGEST_ABSENCE * fps)
        for run in np.split(frames, left + 1):
            found.append(WorldVisit(len(found) + 1, row + 1, camera + 1, int(run[0]), int(run[-1])))
            table[camera, row, run] = len(found)
    return tuple(found), table
