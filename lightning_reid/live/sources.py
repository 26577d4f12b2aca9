"""Where the frames of a camera come from: what a source must do, and a source of pictures that somebody else makes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.arguments import require_number, require_switch, require_text
from lightning_reid.live.clocks import Pace, VideoClock
from lightning_reid.tracking import FrameStamp

Frame = tuple[FrameStamp, Tensor]
"""When it was captured, and the picture ``[3, H, W]`` uint8 RGB. A number 0 begins an epoch."""


class SourceLostError(OSError):
    """A camera does not answer, has hung up, or has stalled; a video cannot be read.

    Example:
        >>> import threading
        >>> from lightning_reid.live import SourceLostError, VideoSource
        >>> camera = VideoSource("door", "rtsp://127.0.0.1:9/stream")
        >>> try:
        ...     next(camera.frames(threading.Event()))
        ... except SourceLostError as error:
        ...     print(error)
        camera 'door': rtsp://127.0.0.1:9/stream is lost: Connection refused
    """


class FrameSource(Protocol):
    """Where the frames of a camera come from.

    Attributes:
        camera: Name of the camera.
        realtime: Whether frames come at their own time; otherwise each waits until it is taken, and none is dropped.
        endless: Whether an end is a fault, after which it is opened again, as with a camera.
        num_corrupt: Packets and pictures that were damaged, and skipped, since it was made.

    Example:
        >>> import threading
        >>> import torch
        >>> from lightning_reid.live import FrameSource
        >>> from lightning_reid.tracking import FrameStamp
        >>> class Twice:  # any class will do
        ...     camera, realtime, endless, num_corrupt = "door", False, False, 0
        ...     def frames(self, stop):
        ...         for number in range(2):
        ...             yield FrameStamp(self.camera, number, number / 10, number / 10), torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> source: FrameSource = Twice()
        >>> [stamp.number for stamp, picture in source.frames(threading.Event())]
        [0, 1]
    """

    camera: str
    realtime: bool
    endless: bool
    num_corrupt: int

    def frames(self, stop: threading.Event) -> Generator[Frame]:
        """Open it, and let frames come until it ends.

        Args:
            stop: Set when no more are wanted; whoever waits for a frame's time stops waiting.

        Raises:
            SourceLostError: It cannot be opened, or gives no more frames although it should.
        """


class PictureSource:
    """Pictures that are made or read one by one, as the frames of a camera.

    Args:
        camera: Name of the camera.
        pictures: Called to begin; gives ``[H, W, 3]`` uint8 RGB.
        fps: Pictures a second.
        realtime: Whether they come at that rate; otherwise as fast as they are taken, at times from 0 on.
        loop: Whether they begin again after the last, in a new epoch.

    Attributes:
        num_corrupt: Always 0.

    Raises:
        ValueError: An argument is not as described.

    Example:
        >>> import threading
        >>> import numpy as np
        >>> from lightning_reid.live import PictureSource
        >>> source = PictureSource("door", lambda: (np.zeros((4, 6, 3), np.uint8) for _ in range(3)), fps=2.0, realtime=False)
        >>> [(stamp.number, stamp.captured_utc, tuple(picture.shape)) for stamp, picture in source.frames(threading.Event())]
        [(0, 0.0, (3, 4, 6)), (1, 0.5, (3, 4, 6)), (2, 1.0, (3, 4, 6))]
    """

    endless = False
    num_corrupt = 0

    def __init__(
        self,
        camera: str,
        pictures: Callable[[], Iterable[NDArray[np.uint8]]],
        *,
        fps: float,
        realtime: bool = True,
        loop: bool = False,
    ) -> None:
        require_text("camera", camera)
        require_number("fps", fps, above=0, high=1000)
        require_switch("realtime", realtime)
        require_switch("loop", loop)
        self.camera, self.realtime, self.fps, self.loop = camera, realtime, fps, loop
        self._pictures = pictures

    def frames(self, stop: threading.Event) -> Generator[Frame]:
        """Let the pictures come, with their stamps."""
        yield from video_frames(self.camera, self._timed, stop, realtime=self.realtime, loop=self.loop)

    def _timed(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for number, picture in enumerate(self._pictures()):
            yield number / self.fps, picture


def video_frames(
    camera: str,
    timed: Callable[[], Iterable[tuple[float, NDArray[np.uint8]]]],
    stop: threading.Event,
    *,
    realtime: bool,
    loop: bool,
) -> Iterator[Frame]:
    """Stamp the frames of a video, and let them come at its rate.

    Args:
        camera: Name of the camera.
        timed: Begins the video: seconds in it, and the picture ``[H, W, 3]`` uint8 RGB.
        stop: Ends the waiting.
        realtime: Whether they come at the video's rate; otherwise as fast as they are taken, stamped by the video's own time from 0 on.
        loop: Whether it begins again after its end.
    """
    clock, pace = VideoClock(camera), Pace()
    while True:
        empty = True
        for seconds, picture in timed():
            stamp = clock.stamp(seconds, picture.shape)
            if realtime:
                stamp = pace.wait(stamp, stop)
            if stop.is_set():
                return
            yield stamp, as_tensor(picture)
            empty = False
        if not loop or empty:
            return
        clock.restart()


def as_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """A picture ``[H, W, 3]`` as a tensor ``[3, H, W]`` on the same memory."""
    return torch.from_numpy(picture).permute(2, 0, 1)
