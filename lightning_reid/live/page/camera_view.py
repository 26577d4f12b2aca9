"""What the page knows of one camera: its latest picture, how fresh that is, and how its stages do."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from lightning_reid.live.page.pictures import jpeg, rows_of, within
from lightning_reid.tracking import CameraTracks, StageHealth

MOST_STAGES = 16
RECENT = 256
"""Frames and latencies that rates and percentiles are of."""
RATE_SECONDS = 5.0
GONE_AFTER = 60.0
"""Seconds without a frame."""
HEALTH_GRACE = 0.5
"""Seconds by which the word that a stage stalls must be younger than the last frame: frames that still come are better evidence."""
LARGEST_PICTURE = (720, 960)
"""(height, width) that a browser is sent."""


class Shot(NamedTuple):
    """A picture, who is in it, and when it came, by this host's monotonic clock."""

    picture: Tensor
    tracks: CameraTracks
    arrived: float


class Encoded(NamedTuple):
    """A picture as JPEG, and the shot that it is of."""

    shot: Shot
    content: bytes
    at: float


class _Frame(NamedTuple):
    epoch: int
    number: int
    captured: float
    arrived: float


class CameraView:
    """One camera as it is watched. Its lock is the view's, but for the encoding, which has its own.

    Args:
        name: Of the camera.
        now: Seconds of this host's monotonic clock.
        stall_after: Seconds without a frame after which it has stalled; three times the usual gap between two, where that is more.
    """

    def __init__(self, name: str, now: float, stall_after: float) -> None:
        self.name, self.stall_after = name, stall_after
        self.heard = now
        self.shot: Shot | None = None
        self.tracks: CameraTracks | None = None
        self.processed = self.skipped = 0
        self._health: dict[str, tuple[StageHealth, float]] = {}
        self._frames: deque[_Frame] = deque(maxlen=RECENT)
        self._latencies: deque[float] = deque(maxlen=RECENT)
        self._last_frame: float | None = None
        self._gone_at: float | None = None
        self._farthest = (0.0, 0.0)
        self._encoding = threading.Lock()
        self._encoded: Encoded | None = None

    def take_picture(self, picture: Tensor, tracks: CameraTracks, now: float) -> None:
        """Keep a picture in place of the one before; it is not copied, so whoever gave it does not write into it."""
        self.shot, self.heard, self._last_frame = Shot(picture, tracks, now), now, now

    def take_tracks(self, tracks: CameraTracks, now: float, latency: float | None) -> None:
        """Note who is in a frame that was matched.

        Args:
            tracks: Of the frame.
            now: By the monotonic clock.
            latency: Seconds since it was captured; ``None`` where clocks do not tell.
        """
        frame = _Frame(tracks.epoch, tracks.stamp.number, tracks.stamp.captured_utc, now)
        if self._frames and self._frames[-1].epoch == frame.epoch:
            self.skipped += max(frame.number - self._frames[-1].number - 1, 0)
        elif self._frames:
            self._frames.clear()
        self._frames.append(frame)
        if latency is not None:
            self._latencies.append(latency)
        self.tracks, self.heard, self._last_frame = tracks, now, now
        self.processed += 1

    def take_health(self, health: StageHealth, now: float) -> None:
        """Note how a stage does."""
        if health.stage in self._health or len(self._health) < MOST_STAGES:
            self._health[health.stage] = (health, now)
        self.heard = now

    def take_gone(self, now: float) -> None:
        """Note that its node tells nothing of it, for now."""
        self._gone_at = self.heard = now

    def state(self, now: float) -> tuple[str, float]:
        """Whether it is ``"waiting"``, ``"live"``, ``"stalled"`` or ``"gone"``, and the seconds since its last frame."""
        last = self._last_frame
        told = {one.state for one, at in self._health.values() if last is None or at > last + (0 if one.state == "gone" else HEALTH_GRACE)}
        if self._gone_at is not None and (last is None or self._gone_at > last):
            told.add("gone")
        if last is None:
            return ("gone" if "gone" in told else "waiting"), now - self.heard
        age = now - last
        if "gone" in told or age > GONE_AFTER:
            return "gone", age
        return ("stalled" if "stalled" in told or age > self._patience() else "live"), age

    def fresh_shot(self, now: float) -> Shot | None:
        """The latest picture, unless it is too old to be shown as live: then there are boxes alone."""
        return self.shot if self.shot is not None and now - self.shot.arrived <= self._patience() else None

    def seen_last(self) -> CameraTracks | None:
        """Who was there, by the picture or the match, whichever is the newer."""
        told = [one for one in (self.tracks, self.shot and self.shot.tracks) if one is not None]
        return max(told, key=lambda one: (one.epoch, one.stamp.number), default=None)

    def encoded(self, shot: Shot, now: float, interval: float) -> Encoded:
        """A picture as JPEG, encoded once for all who watch, and at most once an interval: within it the one before is given again.

        Args:
            shot: The latest.
            now: By the monotonic clock.
            interval: Seconds.
        """
        with self._encoding:
            last = self._encoded
            if last is None or (last.shot is not shot and now - last.at >= interval) or last.shot.tracks.epoch != shot.tracks.epoch:
                picture = np.ascontiguousarray(rows_of(shot.picture))
                self._encoded = last = Encoded(shot, jpeg(within(picture, *LARGEST_PICTURE)), now)
            return last

    def extent(self) -> tuple[float, float]:
        """Width and height of its pictures in pixels; without a picture what its boxes have reached so far."""
        if self.shot is not None:
            return float(self.shot.picture.shape[2]), float(self.shot.picture.shape[1])
        if self.tracks is not None and len(self.tracks.boxes):
            reached = self.tracks.boxes[:, 2:].max(0).values.tolist()
            self._farthest = max(self._farthest[0], reached[0]), max(self._farthest[1], reached[1])
        return self._farthest

    def rates(self, now: float) -> dict[str, float]:
        """Frames a second of the last seconds: captured, processed, and skipped between them."""
        recent = [one for one in self._frames if now - one.arrived <= RATE_SECONDS]
        if len(recent) < 2:
            return {"captured": 0.0, "processed": 0.0, "skipped": 0.0}
        seconds = max(recent[-1].captured - recent[0].captured, 1e-9)
        captured, processed = (recent[-1].number - recent[0].number) / seconds, (len(recent) - 1) / seconds
        return {"captured": captured, "processed": processed, "skipped": captured - processed}

    def latency(self, quantile: float) -> float | None:
        """Seconds from capture to identity, a quantile of the last frames; ``None`` where there are none."""
        return quantile_of(self._latencies, quantile)

    def stages(self) -> list[StageHealth]:
        """What each stage told last, by name."""
        return [self._health[name][0] for name in sorted(self._health)]

    def told(self, now: float) -> dict[str, Any]:
        """What a browser is told of it, but for its boxes."""
        state, age = self.state(now)
        rates, latency, last = self.rates(now), self.latency(0.95), self.seen_last()
        return {
            "name": self.name,
            "state": state,
            "age": round(age, 1),
            "at": None if last is None else round(last.stamp.captured_utc, 2),
            "epoch": None if last is None else last.epoch,
            "fps": round(rates["processed"], 1),
            "skipped": self.skipped,
            "latency": None if latency is None else round(latency, 3),
            "size": [round(side) for side in self.extent()],
        }

    def _patience(self) -> float:
        recent = list(self._frames)[-10:]
        gap = (recent[-1].arrived - recent[0].arrived) / (len(recent) - 1) if len(recent) > 1 else 0.0
        return max(self.stall_after, min(3 * gap, GONE_AFTER / 4))


def quantile_of(values: deque[float], quantile: float) -> float | None:
    """The quantile of the last values; ``None`` of nothing."""
    return float(np.quantile(np.array(values), quantile)) if values else None
