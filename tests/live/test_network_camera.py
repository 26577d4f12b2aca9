"""Real RTSP sessions with cameras in other processes: one that stalls, and one that comes back with another size."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

from lightning_reid.detection import Detections
from lightning_reid.live import CameraParts, LiveCameras, VideoSource
from lightning_reid.tracking import CameraNode, CameraTracker, CameraTracks

pytestmark = pytest.mark.slow

CAMERA = """
import sys, time
import av, numpy as np
address, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print(time.monotonic(), flush=True)
while True:
    try:
        container = av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"})
        stream = container.add_stream("mpeg4", rate=20)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = height, width, "yuv420p", 5
        begun = time.monotonic()
        for number in range(100_000):
            picture = np.full((height, width, 3), number % 200, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
            time.sleep(max(begun + number / 20 - time.monotonic(), 0))
    except (av.error.FFmpegError, OSError):
        time.sleep(0.1)
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Watched:
    """The node of a camera that counts what it sees."""

    def __init__(self) -> None:
        self.address = f"rtsp://127.0.0.1:{free_port()}/door"
        self.sizes: dict[tuple[int, int], threading.Event] = {(48, 64): threading.Event(), (96, 128): threading.Event()}
        self.at: dict[tuple[int, int], float] = {}
        self.told: list = []

    def detect(self, stamp, picture) -> Detections:
        size = (picture.shape[1], picture.shape[2])
        self.at.setdefault(size, time.monotonic())
        self.sizes[size].set()
        return Detections(torch.zeros(0, 4), torch.zeros(0))

    def live(self) -> LiveCameras:
        # the reader listens, so that no server is needed
        options = {"rtsp_flags": "listen", "listen_timeout": "20"}
        source = VideoSource("door", self.address, timeout=(20.0, 2.0), options=options)
        node = CameraNode("door", CameraTracker(max_distance=0), lambda crops: torch.ones(len(crops), 1), model="none")
        return LiveCameras([CameraParts(source, self.detect, node)], self.told.append)

    def camera(self, height: int, width: int) -> subprocess.Popen:
        """A camera in another process, whose first line tells when it was there."""
        return subprocess.Popen([sys.executable, "-c", CAMERA, self.address, str(height), str(width)], stdout=subprocess.PIPE, text=True)


def end(*cameras: subprocess.Popen | None) -> None:
    for camera in cameras:
        if camera is not None:
            camera.kill()
            camera.communicate()


def state(live: LiveCameras) -> str:
    return live.pipelines["door"].health()[0].state


def wait_for(live: LiveCameras, wanted: str, seconds: float) -> float:
    """Seconds until a camera is in a state."""
    begun = time.monotonic()
    while state(live) != wanted:
        assert time.monotonic() - begun < seconds, f"the camera is {state(live)} after {seconds} s, not {wanted}"
        time.sleep(0.02)
    return time.monotonic() - begun


def test_a_camera_that_stalls_without_closing_is_gone_after_the_timeout_and_back_in_another_epoch():
    watched = Watched()
    first = watched.camera(48, 64)
    second = None
    try:
        with watched.live() as live:
            assert watched.sizes[48, 64].wait(30)
            first.send_signal(signal.SIGSTOP)  # the connection stays open, and nothing comes
            assert 1 < wait_for(live, "gone", 10) < 6
            first.kill()
            second = watched.camera(96, 128)
            assert watched.sizes[96, 128].wait(30)
            assert live.pipelines["door"].num_losses >= 1
    finally:
        end(first, second)
    frames = [one for one in watched.told if isinstance(one, CameraTracks)]
    assert {one.epoch for one in frames} == {0, 1}
    utc = [one.stamp.captured_utc for one in frames]
    assert utc == sorted(utc)


def test_a_camera_that_is_killed_is_back_within_two_seconds_of_its_return():
    watched = Watched()
    first = watched.camera(48, 64)
    second = None
    try:
        with watched.live() as live:
            assert watched.sizes[48, 64].wait(30)
            first.kill()
            assert wait_for(live, "gone", 10) < 5
            second = watched.camera(96, 128)
            returned = float(second.stdout.readline())
            assert watched.sizes[96, 128].wait(30)
            assert 0 < watched.at[96, 128] - returned < 2
            wait_for(live, "live", 1)
    finally:
        end(first, second)
