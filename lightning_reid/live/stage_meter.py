"""What a stage has done so far, and whether it still does."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

from lightning_reid.tracking import StageHealth

STALLED_AFTER = 2.0
"""Seconds without a frame, or with work that waits and is not done."""
_LATENCIES = 200


class StageMeter:
    """Counts the work of one stage of a camera; its methods may be called by any thread.

    Args:
        camera: Name of the camera.
        stage: Name of the stage.

    Attributes:
        processed: Items done.
        dropped: Items dropped before they were done.
        cpu_seconds: Processor time of the stage's thread.
    """

    def __init__(self, camera: str, stage: str) -> None:
        self.camera, self.stage = camera, stage
        self.processed = self.dropped = 0
        self.cpu_seconds = 0.0
        self._first: float | None = None
        self._latest = time.monotonic()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._lock = threading.Lock()

    def done(self, items: int, since: float) -> None:
        """Tell, in the stage's thread, that items are done that were captured at ``since``, by the monotonic clock."""
        with self._lock:
            self.cpu_seconds = time.thread_time()
            self._latest = time.monotonic()
            self._first = self._latest if self._first is None else self._first
            self.processed += items
            if items:
                self._latencies.append(max(self._latest - since, 0.0))

    @property
    def rate(self) -> float:
        """Items a second, from the first that was done to the last; 0 before the second."""
        with self._lock:
            passed = 0.0 if self._first is None else self._latest - self._first
            return (self.processed - 1) / passed if passed > 0 else 0.0

    def drop(self, items: int) -> None:
        """Tell that items are dropped."""
        with self._lock:
            self.dropped += items

    def health(self, *, queued: int, gone: bool, idle: bool) -> StageHealth:
        """How the stage fares.

        Args:
            queued: Items that wait.
            gone: Whether its camera is.
            idle: Whether it has nothing to do, which is no fault.
        """
        with self._lock:
            stalled = not idle and time.monotonic() - self._latest > STALLED_AFTER
            state = "gone" if gone else "stalled" if stalled else "live"
            found = sorted(self._latencies)
            latency = found[math.ceil(0.95 * len(found)) - 1] if found else 0.0
            return StageHealth(self.camera, self.stage, time.time(), state, self.processed, self.dropped, queued, latency)
