"""Boxes that were there and boxes that were shown: what cannot be scored is refused where it is given."""

from __future__ import annotations

import pytest
import torch
from recordings import Row, camera, columns

from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes

ROWS = [Row(0, 0, 4, 0), Row(0, 50, 5, 1), Row(3, 0, 4, 0)]


def true_with(**changed):
    return TrueBoxes(**dict(zip(("frames", "boxes", "pids", "visits"), columns(ROWS))) | changed)


def shown_with(**changed):
    return ShownBoxes(**dict(zip(("frames", "boxes", "tracks", "identities"), columns(ROWS))) | changed)


def boxes(row, *values):
    changed = columns(ROWS)[1].clone()
    changed[row] = torch.tensor(values, dtype=torch.float64)
    return changed


NAN = float("nan")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": boxes(2, 0, NAN, 9, 9)}, "1 of 3 true boxes hold NaN or infinite numbers, the first is row 2, in frame 3: .*nan"),
        ({"boxes": boxes(1, 0, 0, float("inf"), 9)}, "1 of 3 true boxes hold NaN or infinite numbers, the first is row 1, in frame 0"),
        ({"boxes": boxes(1, 5, 0, 4, 9)}, r"1 of 3 true boxes end before they begin, .* row 1, in frame 0: \[5.0, 0.0, 4.0, 9.0\]"),
        ({"boxes": torch.zeros(3, 5)}, r"true boxes must be \[N, 4\] floating point, got \[3, 5\] torch.float32"),
        ({"boxes": torch.zeros(3, 4, dtype=torch.int64)}, r"floating point, got \[3, 4\] torch.int64"),
        ({"pids": torch.zeros(2, dtype=torch.int64)}, r"pids of 3 true boxes must be \[3\] integers, got \[2\] torch.int64"),
        ({"visits": torch.zeros(3)}, r"visits of 3 true boxes must be \[3\] integers, got \[3\] torch.float32"),
        ({"visits": torch.zeros(3, dtype=torch.bool)}, r"must be \[3\] integers, got \[3\] torch.bool"),
        ({"frames": torch.tensor([0, -1, 3])}, "frames of true boxes must be at least 0, got -1"),
        ({"pids": torch.tensor([4, -1, 4])}, "pids of true boxes must be at least 0, got -1"),
        ({"pids": torch.tensor([4, 4, 4])}, "a pid has one box a frame, pid 4 has 2 true boxes in frame 0"),
        ({"visits": torch.tensor([0, 0, 1])}, r"a visit is of one person, visit 0 is of pids \[4, 5\]"),
    ],
)
def test_true_boxes_that_cannot_be_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        true_with(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": boxes(0, NAN, 0, 9, 9)}, "1 of 3 shown boxes hold NaN or infinite numbers, the first is row 0, in frame 0"),
        ({"tracks": torch.tensor([4, 4, 4])}, "a track has one box a frame, track 4 has 2 shown boxes in frame 0"),
        ({"tracks": torch.tensor([-1, 4, 4])}, "tracks of shown boxes must be at least 0, got -1"),
        ({"identities": torch.tensor([0, -2, 0])}, "identities of shown boxes must be at least -1, got -2"),
    ],
)
def test_shown_boxes_that_cannot_be_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        shown_with(**changed)


def test_identities_that_a_frame_shows_more_than_once_are_told_and_none_at_all_is_no_identity():
    assert shown_with().repeated.tolist() == [[], [], []]
    assert shown_with(identities=torch.tensor([6, 6, 6])).repeated.tolist() == [[0], [6], [2]]
    assert shown_with(identities=torch.tensor([-1, -1, 6])).repeated.tolist() == [[], [], []]
    assert ShownBoxes(*columns([])).repeated.shape == (3, 0)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (torch.arange(4.0), r"camera hall: times must be \[F\] float64, got \[4\] torch.float32"),
        (torch.zeros(1, 4, dtype=torch.float64), r"times must be \[F\] float64, got \[1, 4\]"),
        (torch.tensor([0, 1, 1, 2], dtype=torch.float64), "camera hall: times must be finite and ascending, frame 2 is at 1.0 s"),
        (torch.tensor([0, 1, 0.5, 2], dtype=torch.float64), "finite and ascending, frame 2 is at 0.5 s"),
        (torch.tensor([0, 1, NAN, 2], dtype=torch.float64), "finite and ascending, frame 2 is at nan s"),
        (torch.tensor([0, 1, 2, float("inf")], dtype=torch.float64), "finite and ascending, frame 3 is at inf s"),
        (torch.tensor([NAN], dtype=torch.float64), "finite and ascending, frame 0 is at nan s"),
        (torch.arange(3, dtype=torch.float64), "camera hall has times for 3 frames, and true boxes in frame 3"),
    ],
)
def test_times_that_no_clock_shows_are_refused(times, message):
    with pytest.raises(ValueError, match=message):
        TrackedCamera("hall", times, true_with(), shown_with())


def test_a_name_is_a_word_and_a_camera_may_have_no_frames():
    with pytest.raises(ValueError, match="name must be a string, got 3"):
        camera(3, [], [], [])
    assert len(camera("hall", [], [], []).times) == 0
