"""What was shown in a live run: counted, kept for the picture of the lanes, and written line by line."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from lightning_reid.live import Told
from lightning_reid.recipes.workshop.camera_recording import Shown
from lightning_reid.tracking import CameraTracks, Match, MatchUndone, TrackKey

logger = logging.getLogger(__name__)
LATENCIES = 100_000
"""Frames of a camera, the last ones, that its latency is told of."""


@dataclass
class Bar:
    """A track for as long as it bore one number.

    Attributes:
        camera: Name of the camera.
        identity: The number.
        since: When it was shown first with it, in seconds since 1970.
        until: When it was shown last with it.
    """

    camera: str
    identity: int
    since: float
    until: float


@dataclass
class Handover:
    """A match that was announced, and whether it still stands.

    Attributes:
        track: The one that asked.
        other: The one that was found.
        at: When, in seconds since 1970.
        stands: Whether it has not been undone.
    """

    track: TrackKey
    other: TrackKey
    at: float
    stands: bool = True


@dataclass
class CameraRecord:
    """What was shown of one camera.

    Attributes:
        frames: Frames that were matched.
        latencies: Seconds from capture until a frame's people had their numbers.
        begin: Number of the first frame of the epoch, counted over all epochs.
        last: Number of the last frame within its epoch; -1 before the first.
        epoch: Of the last frame.
    """

    frames: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    begin: int = 0
    last: int = -1
    epoch: int = 0


class RunRecord:
    """A listener of the matching that writes tracks in the MOTChallenge format, a file a camera, with the numbers that were shown.

    Rows are ``frame,id,x,y,width,height,score,-1,-1,-1``; frames count from 1, those that were dropped included, and go on where a camera
    comes back; ids are global numbers.

    Args:
        folder: Where the files go, which must not be there yet.
        cameras: Names of the cameras.
        realtime: Whether times are of the host's clock, so that there is a latency.
        keep: Whether all that was shown is kept, to be scored.
    """

    def __init__(self, folder: Path, cameras: Sequence[str], *, realtime: bool, keep: bool) -> None:
        self.cameras = {camera: CameraRecord() for camera in cameras}
        self.bars: dict[TrackKey, list[Bar]] = {}
        self.handovers: list[Handover] = []
        self.shown: list[Shown] = []
        self.refused: Counter[str] = Counter()
        self._realtime, self._keep = realtime, keep
        self._files: dict[str, TextIO] = {one: (folder / f"{one}.txt").open("x", encoding="utf-8") for one in cameras}

    def __call__(self, told: Told) -> None:
        """Take a message and what followed from it."""
        if told.refused is not None:
            camera = told.message.stamp.camera if isinstance(told.message, CameraTracks) else getattr(told.message, "camera", "")
            if not self.refused[camera]:
                logger.warning("a message is refused by the matcher: %s", told.refused)
            self.refused[camera] += 1
        elif isinstance(told.message, CameraTracks):
            self._frame(told.message, told.identities)
        for event in told.events:
            if isinstance(event, Match):
                self.handovers.append(Handover(event.track, event.other, event.at))
            elif isinstance(event, MatchUndone):
                self._undo(event)

    def close(self) -> None:
        """Finish the files of the tracks."""
        for file in self._files.values():
            file.close()

    @property
    def identities(self) -> set[int]:
        """The numbers that tracks bore when they were shown last."""
        return {bars[-1].identity for bars in tuple(self.bars.values())}  # a copy: the matching goes on meanwhile

    def of_camera(self, camera: str) -> list[list[Bar]]:
        """The bars of each track of a camera."""
        return [bars for key, bars in self.bars.items() if key.camera == camera]

    def latency(self, camera: str, percentile: float) -> float | None:
        """Seconds from capture until a frame's people had their numbers; ``None`` where times are those of a recording."""
        latencies = self.cameras[camera].latencies
        return float(np.percentile(latencies, percentile)) if latencies else None

    def _frame(self, tracks: CameraTracks, identities: tuple[int, ...]) -> None:
        camera, stamp = self.cameras[tracks.stamp.camera], tracks.stamp
        if tracks.epoch != camera.epoch:
            camera.begin, camera.epoch = camera.begin + camera.last + 1, tracks.epoch
        camera.frames, camera.last = camera.frames + 1, stamp.number
        if self._realtime:
            camera.latencies.append(time.time() - stamp.captured_utc)
        if self._keep:
            self.shown.append(Shown(stamp.number, tracks, identities))
        for key, identity in zip(tracks.keys, identities, strict=True):
            bar = Bar(key.camera, identity, stamp.captured_utc, stamp.captured_utc)
            bars = self.bars.setdefault(key, [bar])  # never an empty list: others look on meanwhile
            if bars[-1].identity != identity:
                bars.append(bar)
            bars[-1].until = stamp.captured_utc
        rows = zip(identities, tracks.boxes.tolist(), tracks.scores.tolist(), strict=True)
        number = camera.begin + stamp.number + 1
        self._files[stamp.camera].writelines(
            f"{number},{identity},{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},{score:.4f},-1,-1,-1\n"
            for identity, (x0, y0, x1, y1), score in rows
        )

    def _undo(self, undone: MatchUndone) -> None:
        for one in reversed(self.handovers):
            if one.stands and {one.track, one.other} == {undone.track, undone.other}:
                one.stands = False
                return
