"""When frames were captured: by the host's clocks for cameras, by a video's own time for files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lightning_reid.tracking import FrameStamp

FARTHEST_DRIFT = 1.0
"""Seconds between the host's clock and its monotonic one since the epoch began; more is a clock that was set, or a host that slept."""
LONGEST_GAP = 60.0
"""Seconds between two frames of a video; more is a fault of its time stamps."""
LATEST_FRAME = 0.5
"""Seconds that a video may lag behind its own rate; then it goes on from there, so that its frames are not ever later."""

Size = tuple[int, ...]


class HostClock:
    """Stamps the frames of a camera when they come.

    The host's clock is taken once an epoch, and what the monotonic clock says has passed since is added: no correction of the host's clock
    makes times jump within an epoch. Where the two clocks part, or the pictures get another size, a new epoch begins, with frame 0.

    Args:
        camera: Name of the camera.
        monotonic: Seconds that never go back.
        utc: Seconds since 1970.
    """

    def __init__(self, camera: str, *, monotonic: Callable[[], float] = time.monotonic, utc: Callable[[], float] = time.time) -> None:
        self.camera, self._monotonic, self._utc = camera, monotonic, utc
        self._offset = 0.0
        self._size: Size | None = None
        self._number = 0

    def stamp(self, size: Size) -> FrameStamp:
        """The stamp of a frame that has come now."""
        now, utc = self._monotonic(), self._utc()
        if size != self._size or abs(utc - now - self._offset) > FARTHEST_DRIFT:
            self._offset, self._size, self._number = utc - now, size, 0
        self._number += 1
        return FrameStamp(self.camera, self._number - 1, now, now + self._offset)


class VideoClock:
    """Stamps the frames of a video by its own time, which begins at 0.

    Where its time goes back or leaps, or the pictures get another size, a new epoch begins, with frame 0; its time goes on.

    Args:
        camera: Name of the camera.
    """

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self._size: Size | None = None
        self._number = 0
        self._last: float | None = None
        self._shift, self._interval = 0.0, 0.04

    def restart(self) -> None:
        """The video begins again: its time goes on, in a new epoch."""
        self._size = None

    def stamp(self, seconds: float, size: Size) -> FrameStamp:
        """The stamp of a frame that is so many seconds from the video's own beginning."""
        at, last = seconds + self._shift, self._last
        if last is None:
            self._shift, at = -seconds, 0.0
        elif self._size is None or not 0 <= at - last <= LONGEST_GAP:  # it may have a single picture, whose time does not go back
            self._shift += last + self._interval - at
            self._size, at = None, last + self._interval
        elif at > last:
            self._interval = at - last
        if size != self._size:
            self._size, self._number = size, 0
        self._last = at
        self._number += 1
        return FrameStamp(self.camera, self._number - 1, at, at)


class Pace:
    """Lets the frames of a video come at its own rate, stamped as those of a camera that began when the first one came.

    Args:
        monotonic: Seconds that never go back.
        utc: Seconds since 1970.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic, utc: Callable[[], float] = time.time) -> None:
        self._monotonic, self._utc = monotonic, utc
        self._begin: float | None = None
        self._offset = 0.0

    def wait(self, stamp: FrameStamp, stop: threading.Event) -> FrameStamp:
        """Wait until a frame is due, or the end; its stamp by the host's clocks.

        Args:
            stamp: By the video's own time.
            stop: Ends the waiting.
        """
        now, seconds = self._monotonic(), stamp.captured_monotonic
        if self._begin is None:
            self._begin = now - seconds
        if stamp.number == 0:
            self._offset = self._utc() - now
        late = now - self._begin - seconds
        if late > LATEST_FRAME:
            self._begin += late
        elif late < 0:
            stop.wait(-late)
        captured = self._begin + seconds
        return FrameStamp(stamp.camera, stamp.number, captured, captured + self._offset)
