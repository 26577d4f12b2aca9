"""Cameras that run ahead of one another, told in the order of capture."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from lightning_reid.live.capture_order import AHEAD, CaptureOrder
from lightning_reid.tracking import CameraTracks, FrameStamp


def frame(camera: str, number: int) -> list[CameraTracks]:
    return [CameraTracks(FrameStamp(camera, number, number / 10, number / 10), 0, (), torch.zeros(0, 4), torch.zeros(0))]


def test_whoever_is_ahead_waits_no_longer_once_what_is_told_cannot_be_taken():
    def fail(messages: object) -> None:
        raise RuntimeError("no space left")

    order, waits = CaptureOrder(["door", "hall"], fail), threading.Event()

    def run_ahead() -> None:
        for number in range(AHEAD):
            order.tell("hall", frame("hall", number))
        waits.set()
        with pytest.raises(RuntimeError, match="no space left"):
            order.tell("hall", frame("hall", AHEAD))

    ahead = threading.Thread(target=run_ahead, daemon=True)
    ahead.start()
    assert waits.wait(5)
    time.sleep(0.1)  # it waits by now, with one frame more
    with pytest.raises(RuntimeError, match="no space left"):
        order.tell("door", frame("door", 0))
    with pytest.raises(RuntimeError, match="no space left"):
        order.close("door")
    ahead.join(5)
    assert not ahead.is_alive()
