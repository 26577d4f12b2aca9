"""Files, webcams and network cameras, decoded by PyAV."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lightning_reid.arguments import require_number, require_switch, require_text
from lightning_reid.live.clocks import HostClock
from lightning_reid.live.sources import Frame, SourceLostError, as_tensor, video_frames

DEVICE = "/dev/video"
OPEN_SECONDS, READ_SECONDS = 5.0, 2.0
_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}}
"""By scheme: over UDP lost packets are lost pictures."""


class VideoSource:
    """A video as a camera: a file, a webcam (``/dev/video0`` or ``0``, by v4l2) or an address (``rtsp://...``, ``http://...``).

    A camera that hangs up or stalls is a ``SourceLostError``, after which ``frames`` may be called again: that is a new epoch. What is
    damaged is skipped and counted. Passwords and keys in an address are not told in any message.

    Args:
        camera: Name of the camera.
        address: Where it is.
        live: Whether it is a camera: its frames come when they come, and its end is a fault. ``None``: all but files are.
        realtime: Whether a file is played at its own rate; otherwise as fast as it is taken, and no frame is dropped.
        loop: Whether a file begins again after its end.
        timeout: Seconds that opening and reading may take.
        options: For FFmpeg's opening, such as ``{"rtsp_transport": "udp"}``.

    Attributes:
        num_corrupt: Packets and pictures that were damaged, and skipped, since it was made.

    Raises:
        ModuleNotFoundError: ``av`` is not installed.
        FileNotFoundError: There is no such file.
        ValueError: An argument is not as described, or a camera is to be looped or slowed down.

    Example:
        >>> from lightning_reid.live import VideoSource
        >>> source = VideoSource("door", "rtsp://admin:secret@192.168.0.7/stream")
        >>> source.shown, source.endless
        ('rtsp://192.168.0.7/stream', True)
    """

    def __init__(
        self,
        camera: str,
        address: str | Path,
        *,
        live: bool | None = None,
        realtime: bool = True,
        loop: bool = False,
        timeout: tuple[float, float] = (OPEN_SECONDS, READ_SECONDS),
        options: Mapping[str, str] | None = None,
    ) -> None:
        require_text("camera", camera)
        require_switch("realtime", realtime)
        require_switch("loop", loop)
        for name, seconds in zip(("open", "read"), timeout, strict=True):
            require_number(f"the {name} timeout", seconds, above=0, high=3600)
        try:
            self._av: Any = import_module("av")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("VideoSource needs PyAV: pip install 'lightning-reid[tracking]'", name="av") from error
        told = str(address)
        self.camera, self.address = camera, f"{DEVICE}{told}" if told.isdecimal() else told
        is_file = is_on_disk(self.address)
        self.endless = not is_file if live is None else live
        self.shown = address_without_secrets(self.address)
        if self.endless and (loop or not realtime):
            raise ValueError(f"camera {camera!r}: {self.shown} is a camera, which can be neither looped nor slowed down (realtime=False)")
        if not self.endless and is_file and not Path(self.address).is_file():
            raise FileNotFoundError(f"camera {camera!r}: there is no video at {self.shown}")
        self.realtime, self.loop, self.num_corrupt = realtime, loop, 0
        self._timeout, self._options = timeout, {**_OPTIONS.get(urlsplit(self.address).scheme, {}), **(options or {})}

    def frames(self, stop: threading.Event) -> Generator[Frame]:
        """Open the video, and let its frames come; see ``FrameSource``."""
        if not self.endless:
            yield from video_frames(self.camera, self._timed, stop, realtime=self.realtime, loop=self.loop)
            return
        clock = HostClock(self.camera)
        with closing(self._timed()) as timed:
            for _, picture in timed:
                yield clock.stamp(picture.shape), as_tensor(picture)
                if stop.is_set():
                    return

    def _timed(self) -> Generator[tuple[float, NDArray[np.uint8]]]:
        """Seconds in the video, and the picture, from its beginning."""
        try:
            with self._open() as container:
                yield from self._pictures(container)
        except self._av.error.ExitError as error:  # "Immediate exit requested"
            opening, reading = self._timeout
            why = f"it has not answered within {opening:g} s, or has been silent for {reading:g} s"
            raise self._lost(why) from OSError(error.errno, error.strerror)
        except self._av.error.FFmpegError as error:
            # FFmpeg's own error tells the whole address
            raise self._lost(error.strerror or type(error).__name__) from OSError(error.errno, error.strerror)

    def _open(self) -> Any:
        form = "v4l2" if self.address.startswith(DEVICE) else None
        return self._av.open(self.address, format=form, timeout=self._timeout, options=self._options, metadata_errors="replace")

    def _pictures(self, container: Any) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        if not container.streams.video:
            raise self._lost("it has no pictures")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        number, rate, latest = 0, float(stream.average_rate or 25), time.monotonic()
        for packet in container.demux(stream):
            for frame in self._decoded(packet):
                seconds = number / rate if frame.time is None else frame.time
                latest, number = time.monotonic(), number + 1
                yield seconds, _upright(frame)
            if self.endless and time.monotonic() - latest > self._timeout[1]:
                raise self._lost(f"nothing in it could be decoded for {self._timeout[1]:g} seconds")

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames = packet.decode()
        except self._av.error.InvalidDataError:
            self.num_corrupt += 1
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        self.num_corrupt += len(frames) - len(whole)
        return whole

    def _lost(self, why: str) -> SourceLostError:
        return SourceLostError(f"camera {self.camera!r}: {self.shown} {'is lost' if self.endless else 'cannot be read'}: {why}")


def is_on_disk(address: str) -> bool:
    """Whether an address of a video is a file's or a folder's, not a webcam's (``/dev/video0`` or ``0``) and not of a network."""
    return not (address.isdecimal() or address.startswith(DEVICE) or urlsplit(address).netloc)


def address_without_secrets(address: str) -> str:
    """An address as it may be told: without user, password and query, in which cameras take keys."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else address


def _upright(frame: Any) -> NDArray[np.uint8]:
    """The picture ``[H, W, 3]`` RGB, turned as its file says: telephones write pictures that lie on their side."""
    picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
