"""Cameras that are played faster than they were captured, each at its own speed, told in the order of capture all the same."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from lightning_reid.tracking import CameraTracks
from lightning_reid.tracking.records import FromCameras

AHEAD = 4
"""Frames that a camera may be ahead of what has been told."""


class CaptureOrder:
    """Merges what cameras tell: frame by frame by its time of capture, and by the order of the cameras where that is the same.

    A frame is told once no camera can come with an earlier one, so whoever is ahead waits. What follows from a frame comes along with it,
    and what follows from a camera's end comes after all frames of the time of its last one.

    Args:
        cameras: Their names, in order.
        tell: Takes the messages of a frame; called by one thread at a time.
    """

    def __init__(self, cameras: Sequence[str], tell: Callable[[Sequence[FromCameras]], None]) -> None:
        self._tell = tell
        self._places = {camera: place for place, camera in enumerate(cameras)}
        self._waiting: dict[str, deque[tuple[tuple[float, bool, int], Sequence[FromCameras]]]] = {one: deque() for one in cameras}
        self._latest = dict.fromkeys(cameras, 0.0)
        self._open = set(cameras)
        self._failed = False
        self._changed = threading.Condition()

    def tell(self, camera: str, messages: Sequence[FromCameras]) -> None:
        """Take what a camera tells of its next frame, or of its end; waits while it is too far ahead of the others.

        Args:
            camera: Its name.
            messages: Begin with the ``CameraTracks`` of a frame, if they are of one.

        Raises:
            Exception: What whoever takes the messages raised; from then on nobody waits, whichever camera is ahead.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failed or len(self._waiting[camera]) < AHEAD)
            of_frame = bool(messages) and isinstance(messages[0], CameraTracks)
            if messages and isinstance(messages[0], CameraTracks):
                self._latest[camera] = messages[0].stamp.captured_utc
            self._waiting[camera].append(((self._latest[camera], not of_frame, self._places[camera]), messages))
            self._release()

    def close(self, camera: str) -> None:
        """Tell that a camera is over: nobody waits for it any longer."""
        with self._changed:
            self._open.discard(camera)
            self._release()

    def _release(self) -> None:
        while all(self._waiting[camera] for camera in self._open):
            ready = [(waiting[0][0], camera) for camera, waiting in self._waiting.items() if waiting]
            if not ready:
                break
            _, messages = self._waiting[min(ready)[1]].popleft()
            try:
                self._tell(messages)
            except BaseException:
                self._failed = True
                self._changed.notify_all()
                raise
        self._changed.notify_all()
