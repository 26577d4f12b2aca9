"""One matcher, fed from several threads."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
import torch

from lightning_reid.live import MatchingThread, Told
from lightning_reid.tracking import CameraTracks, FrameStamp, IdentityEvent, MatchingRules, OnlineMatcher, StageHealth, TrackEnded

BOX = torch.tensor([[8.0, 4, 24, 60]])


def matcher():
    return OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18")


def frame(camera: str, number: int) -> CameraTracks:
    return CameraTracks(FrameStamp(camera, number, number / 10, number / 10), 0, (7,), BOX, torch.ones(1))


def test_what_several_threads_tell_is_matched_in_the_order_of_each():
    told: list[Told] = []
    with MatchingThread(matcher(), [told.append], clock=None, capacity=3) as matching:
        threads = [
            threading.Thread(target=lambda name=name: [matching.put(frame(name, number)) for number in range(50)])
            for name in ("door", "hall")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 100
    assert not any(one.refused for one in told)
    assert sum(isinstance(event, IdentityEvent) for one in told for event in one.events) == 2
    for name in ("door", "hall"):
        of_camera = [one for one in told if one.message.stamp.camera == name]
        assert [one.message.stamp.number for one in of_camera] == list(range(50))
        assert len({one.identities for one in of_camera}) == 1


def test_a_message_that_is_refused_is_told_with_the_reason_and_the_next_one_is_matched():
    told: list[Told] = []
    with MatchingThread(matcher(), [told.append], clock=None) as matching:
        for number in (5, 4, 6):
            matching.put(frame("door", number))
    assert [one.refused is None for one in told] == [True, False, True]
    assert "door" in told[1].refused


def test_health_is_told_and_not_matched():
    told: list[Told] = []
    health = StageHealth("door", "decode", at=9.5, state="stalled", processed=95, dropped=0, queued=1, latency=0.02)
    with MatchingThread(matcher(), [told.append]) as matching:
        matching.put(health)
    assert [one.message for one in told] == [health]


def test_with_a_clock_a_camera_whose_time_is_far_ahead_is_refused():
    told: list[Told] = []
    with MatchingThread(matcher(), [told.append], clock=lambda: 100.0) as matching:
        matching.put(frame("door", 1000))
        matching.put(frame("hall", 5000))
    assert [one.received for one in told] == [100.0, 100.0]
    assert [one.refused is None for one in told] == [True, False]


def test_a_listener_that_fails_ends_the_matching_aloud_and_nobody_waits_for_ever():
    def fail(told: Told) -> None:
        raise OSError("no space left")

    matching = MatchingThread(matcher(), [fail], clock=None, capacity=1)
    with pytest.raises(RuntimeError, match="a listener failed") as failure:
        any(matching.put(frame("door", number)) for number in range(1000))
    assert "no space left" in str(failure.value.__cause__)
    with pytest.raises(RuntimeError, match="a listener failed"):
        matching.close()


def test_a_closed_matching_takes_nothing_more():
    matching = MatchingThread(matcher(), [], clock=None)
    matching.close()
    with pytest.raises(RuntimeError, match="closed"):
        matching.put(TrackEnded("door", 0, 7, seen_until=1.0))


def test_what_is_taken_while_the_matching_is_closed_is_matched():
    for _ in range(5):
        told, taken = [], []
        matching = MatchingThread(matcher(), [told.append], clock=None, capacity=1)

        def put(camera: str, matching: MatchingThread = matching, taken: list = taken) -> None:
            with suppress(RuntimeError):  # it is closed
                for number in range(1_000_000):
                    matching.put(StageHealth(camera, "decode", 0.0, "live", number, 0, 0, 0.0))
                    taken.append(number)

        threads = [threading.Thread(target=put, args=(name,), daemon=True) for name in ("door", "hall", "yard", "gate")]
        for thread in threads:
            thread.start()
        while len(taken) < 20:
            pass
        matching.close()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
        assert len(told) == len(taken)
