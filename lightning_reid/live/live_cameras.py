"""All cameras of a host: started together, watched over, ended together."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import cv2

from lightning_reid.live.camera_pipeline import CameraParts, CameraPipeline, OnPicture
from lightning_reid.live.capture_order import CaptureOrder
from lightning_reid.tracking import StageHealth
from lightning_reid.tracking.records import FromCameras

HEALTH_INTERVAL = 1.0
"""Seconds from one report of a stage's health to the next."""


class LiveCameras:
    """Runs the pipelines of several cameras within a ``with`` block, and tells how their stages fare, once a second.

    A camera that is lost is tried again, and others lose no frame by it. What any of them raises otherwise ends all, and is told by
    ``wait`` and at the end of the block. Where frames wait to be taken (``realtime=False``), all cameras' messages come in the order of
    capture, as from a recording; otherwise each camera's come in its own order.

    Args:
        cameras: Their parts.
        put: Takes each message, from any thread, as ``MatchingThread.put`` does.
        on_picture: Gets each picture that was tracked; ``None`` for nobody.

    Attributes:
        pipelines: One a camera, by name.

    Raises:
        ValueError: There is no camera, two have one name, a node bears another name than its source, or some wait and others do not.

    Example:
        >>> import numpy as np, torch
        >>> from lightning_reid.detection import Detections
        >>> from lightning_reid.live import CameraParts, LiveCameras, PictureSource
        >>> from lightning_reid.tracking import CameraNode, CameraTracker
        >>> source = PictureSource("door", lambda: (np.zeros((96, 64, 3), np.uint8) for _ in range(3)), fps=10.0, realtime=False)
        >>> node = CameraNode("door", CameraTracker(max_distance=0), lambda crops: torch.ones(len(crops), 1), model="none")
        >>> nobody, told = Detections(torch.zeros(0, 4), torch.zeros(0)), []
        >>> with LiveCameras([CameraParts(source, lambda stamp, picture: nobody, node)], told.append) as live:
        ...     live.wait()
        True
        >>> [one.stamp.number for one in told if type(one).__name__ == "CameraTracks"]
        [0, 1, 2]
    """

    def __init__(
        self, cameras: Sequence[CameraParts], put: Callable[[FromCameras | StageHealth], object], *, on_picture: OnPicture | None = None
    ) -> None:
        names = [parts.source.camera for parts in cameras]
        _check(cameras, names)
        self._put = put
        self._stop, self._over = threading.Event(), threading.Event()
        self._failure: tuple[str, Exception] | None = None
        self._lock = threading.Lock()
        self._open = set(names)
        self._order = None if cameras[0].source.realtime else CaptureOrder(names, self._tell)
        self.pipelines = {name: self._pipeline(parts, on_picture) for name, parts in zip(names, cameras)}
        self._watcher = threading.Thread(target=self._watch, name="health", daemon=True)

    def __enter__(self) -> LiveCameras:
        self._cv2_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # of the whole process, there is no other way
        for pipeline in self.pipelines.values():
            pipeline.start()
        self._watcher.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        for pipeline in self.pipelines.values():
            pipeline.join()
        self._watcher.join()
        cv2.setNumThreads(self._cv2_threads)
        if kind is None:
            self._raise_failure()

    def stop(self) -> None:
        """End all cameras; what was decoded by then is still told."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all cameras are over, but not longer than so many seconds.

        Returns:
            Whether they are over.

        Raises:
            RuntimeError: A camera has failed; the cause is what it raised.
        """
        over = self._over.wait(seconds)
        self._raise_failure()
        return over

    def _pipeline(self, parts: CameraParts, on_picture: OnPicture | None) -> CameraPipeline:
        name, order = parts.source.camera, self._order
        return CameraPipeline(
            parts,
            self._tell if order is None else lambda messages: order.tell(name, messages),
            stop=self._stop,
            failed=lambda stage, error: self._failed(f"camera {name!r} has failed to {stage}", error),
            over=lambda: self._is_over(name),
            on_picture=on_picture,
        )

    def _tell(self, messages: Sequence[FromCameras]) -> None:
        for message in messages:
            self._put(message)

    def _failed(self, what: str, error: Exception) -> None:
        with self._lock:
            self._failure = self._failure or (what, error)
        self._stop.set()
        self._over.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            what, error = self._failure
            raise RuntimeError(f"{what}: {error}") from error

    def _is_over(self, camera: str) -> None:
        try:
            if self._order is not None:
                self._order.close(camera)
        except Exception as error:  # of who takes what the others have told since
            self._failed(f"what follows on the end of camera {camera!r} cannot be told", error)
        with self._lock:
            self._open.discard(camera)
            if not self._open:
                self._over.set()

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            try:
                for pipeline in self.pipelines.values():
                    for health in pipeline.health():
                        self._put(health)
            except Exception as error:
                self._failed("the health of the cameras cannot be told", error)
            due += HEALTH_INTERVAL
            self._over.wait(max(due - time.monotonic(), 0.0))


def _check(cameras: Sequence[CameraParts], names: Sequence[str]) -> None:
    if not cameras:
        raise ValueError("there is no camera to watch: give at least one")
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(f"two cameras bear the name {twice[0]!r}: give each a name of its own")
    for parts in cameras:
        if parts.node.camera != parts.source.camera:
            raise ValueError(f"the node of camera {parts.node.camera!r} would get the frames of {parts.source.camera!r}")
        if parts.source.realtime != cameras[0].source.realtime:
            raise ValueError(
                f"the frames of {parts.source.camera!r} and {names[0]!r} would not keep step: either all cameras wait for the tracker"
                " (realtime=False) or none does"
            )
