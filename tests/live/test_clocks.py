"""When frames were captured, and where a new epoch begins."""

from __future__ import annotations

import threading

import pytest

from lightning_reid.live.clocks import HostClock, Pace, VideoClock
from lightning_reid.tracking import FrameStamp

SIZE = (48, 64, 3)


class Clocks:
    """A host's clocks, which go when they are told to."""

    def __init__(self, monotonic: float = 500.0, utc: float = 1_700_000_000.0) -> None:
        self.now, self.utc = monotonic, utc

    def go(self, seconds: float) -> None:
        self.now, self.utc = self.now + seconds, self.utc + seconds


def host_clock() -> tuple[Clocks, HostClock]:
    clocks = Clocks()
    return clocks, HostClock("door", monotonic=lambda: clocks.now, utc=lambda: clocks.utc)


def test_a_correction_of_the_hosts_clock_makes_no_time_jump_within_an_epoch():
    clocks, clock = host_clock()
    first = clock.stamp(SIZE)
    clocks.go(0.1)
    clocks.utc -= 0.4
    second = clock.stamp(SIZE)
    assert (second.number, second.captured_monotonic) == (1, 500.1)
    assert second.captured_utc == pytest.approx(first.captured_utc + 0.1, abs=1e-5)


@pytest.mark.parametrize("change", [-3600.0, 3600.0])
def test_a_clock_that_was_set_or_a_host_that_slept_begins_an_epoch_at_the_new_time(change):
    clocks, clock = host_clock()
    clock.stamp(SIZE)
    clocks.go(0.1)
    clocks.utc += change
    first = clock.stamp(SIZE)
    assert (first.number, first.captured_monotonic) == (0, 500.1)
    assert first.captured_utc == pytest.approx(1_700_000_000.1 + change, abs=1e-5)
    assert clock.stamp(SIZE).number == 1


def test_pictures_of_another_size_begin_an_epoch():
    _, clock = host_clock()
    assert [clock.stamp(size).number for size in (SIZE, SIZE, (96, 128, 3), (96, 128, 3))] == [0, 1, 0, 1]
    video = VideoClock("door")
    assert [video.stamp(seconds, size).number for seconds, size in ((0, SIZE), (1, SIZE), (2, (96, 128, 3)))] == [0, 1, 0]


def test_a_videos_own_time_begins_at_0():
    clock = VideoClock("door")
    assert [clock.stamp(seconds, SIZE).captured_utc for seconds in (7.0, 7.5, 8.5)] == [0.0, 0.5, 1.5]


@pytest.mark.parametrize("leap", [-5.0, 95_443.7])
def test_where_a_videos_time_goes_back_or_leaps_an_epoch_begins_and_its_time_goes_on(leap):
    clock = VideoClock("door")
    stamps = [clock.stamp(seconds, SIZE) for seconds in (0.0, 0.1, 0.2, leap, leap + 0.1)]
    assert [one.number for one in stamps] == [0, 1, 2, 0, 1]
    assert [one.captured_monotonic for one in stamps] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_video_that_begins_again_is_another_epoch_and_later():
    clock = VideoClock("door")
    first = [clock.stamp(number / 10, SIZE) for number in range(3)]
    clock.restart()
    again = [clock.stamp(number / 10, SIZE) for number in range(3)]
    assert [one.number for one in first + again] == [0, 1, 2, 0, 1, 2]
    assert [one.captured_utc for one in first + again] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_single_picture_that_is_shown_again_and_again_is_later_each_time():
    clock, shown = VideoClock("door"), []
    for _ in range(3):
        shown.append(clock.stamp(0.0, SIZE))
        clock.restart()
    assert [(one.number, one.captured_utc) for one in shown] == [(0, 0.0), (0, 0.04), (0, 0.08)]


def test_a_video_that_lags_goes_on_from_there_and_its_frames_are_not_ever_later():
    clocks, stop = Clocks(), threading.Event()
    stop.set()  # nobody waits
    pace = Pace(monotonic=lambda: clocks.now, utc=lambda: clocks.utc)
    begun = clocks.now
    late = []
    for number in range(20):
        stamp = pace.wait(FrameStamp("door", number, number / 10, number / 10), stop)
        late.append(clocks.now - stamp.captured_monotonic)
        assert stamp.captured_utc - stamp.captured_monotonic == pytest.approx(1_700_000_000 - begun)
        clocks.go(0.3)  # to decode what is shown for a tenth of a second
    assert max(late) < 0.75
    assert late[:3] == pytest.approx([0.0, 0.2, 0.4])
