"""Scores of tracking in a camera and across cameras: worked by hand, and against definitions that try every assignment."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from math import isnan, sqrt

import pytest
import slow_tracking as slow
import torch
from recordings import Row, camera, drawn_recording, rows_of, walk

from lightning_reid.metrics import camera_scores, cross_camera_scores
from lightning_reid.metrics.multi_camera import CrossCameraScores, IdentityScores

SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cameras_scores_are_those_of_the_definitions(seed):
    for one in drawn_recording(seed):
        frames = slow.frames_of(one, lambda row: row.second, lambda row: row.number)
        scores = camera_scores(one)
        assert scores.idf1 == pytest.approx(slow.idf1(frames), abs=1e-12)
        assert scores.hota == pytest.approx(slow.hota(frames), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_across_cameras_are_those_of_the_definitions_and_so_are_their_references(seed):
    cameras = drawn_recording(seed)
    scores = cross_camera_scores(cameras)
    oracles = {one.name: slow.oracle(one) for one in cameras}
    labels = {
        "shown": lambda one, row: row.second if row.second >= 0 else (one.name, row.number),
        "no_matching": lambda one, row: (one.name, row.number),
        "oracle": lambda one, row: oracles[one.name][row],
    }
    for name, label in labels.items():
        frames = [frame for one in cameras for frame in slow.frames_of(one, lambda row: row.number, partial(label, one))]
        assert getattr(scores, name) == pytest.approx((slow.idf1(frames), slow.hota(frames)), abs=1e-12), name
    low, got, high = scores.no_matching.idf1, scores.shown.idf1, scores.oracle.idf1
    assert scores.gap_closed.idf1 == pytest.approx((got - low) / (high - low), abs=1e-9)


def test_the_order_of_rows_and_of_cameras_changes_nothing():
    cameras = drawn_recording(3)
    again = [camera(one.name, one.times.tolist(), sorted(rows_of(one.true)), sorted(rows_of(one.shown))) for one in reversed(cameras)]
    scores, others = cross_camera_scores(cameras), cross_camera_scores(again)
    for name in ("shown", "no_matching", "oracle"):
        assert getattr(scores, name) == pytest.approx(getattr(others, name), abs=1e-12)


def test_a_track_that_is_lost_once_gives_the_values_worked_by_hand():
    scores = camera_scores(camera("hall", range(4), [Row(t, 0, 5, 2) for t in range(4)], [Row(t, 0, int(t == 3), 0) for t in range(4)]))
    # best naming: three of four boxes; association (3 * 3/4 + 1 * 1/4) / 4 = 0.625; one switch in four boxes
    assert (scores.idf1, scores.mota, scores.switches) == (0.75, 0.75, 1)
    assert scores.hota == pytest.approx(sqrt(0.625), abs=1e-12)


def test_two_people_whose_tracks_are_swapped_half_way_have_half_of_their_boxes_right():
    true = [Row(t, 50 * pid, pid, pid) for t in range(4) for pid in range(2)]
    shown = [Row(t, 50 * pid, pid if t < 2 else 1 - pid, pid) for t in range(4) for pid in range(2)]
    scores = camera_scores(camera("hall", range(4), true, shown))
    # matches are one to one: each track covers each person in 2 of 4 frames; association 2 / (4 + 4 - 2) = 1/3; two switches in 8 boxes
    assert (scores.idf1, scores.mota, scores.switches) == (0.5, 0.75, 2)
    assert scores.hota == pytest.approx(sqrt(1 / 3), abs=1e-12)


def test_who_comes_back_is_a_new_visit_to_the_tracker_and_the_same_person_across_cameras():
    there = (0, 1, 8, 9)
    true, shown = [Row(t, 0, 4, int(t > 4)) for t in there], [Row(t, 0, int(t > 4), int(t > 4)) for t in there]
    one = camera("hall", range(10), true, shown)
    assert camera_scores(one).idf1 == 1
    scores = cross_camera_scores([one])
    assert (scores.shown.idf1, scores.no_matching.idf1, scores.oracle.idf1, scores.gap_closed.idf1) == (0.5, 0.5, 1, 0)


def test_frames_that_were_dropped_are_misses():
    true = [Row(t, 0, 0, 0) for t in range(4)]
    scores = camera_scores(camera("hall", range(4), true, [Row(t, 0, 0, 0) for t in (0, 3)]))
    # two right, two missed: IDF1 2 * 2 / (4 + 2)
    assert (scores.idf1, scores.mota, scores.switches) == (pytest.approx(2 / 3), 0.5, 0)


def test_a_box_shows_a_person_from_an_overlap_of_one_half_on():
    def score(x):
        return camera_scores(camera("hall", [0.0], [Row(0, 0, 0, 0)], [Row(0, x, 0, 0)])).idf1

    assert (score(10 / 3 - 1e-6), score(10 / 3 + 1e-6)) == (1, 0)  # shifted by a third: 2/3 / (2 - 2/3)


NOBODY = (float("nan"),) * 3
ONE = [Row(1, 0, 0, 0)]


@pytest.mark.parametrize(
    ("times", "true", "shown", "expected"),
    [
        pytest.param([], [], [], NOBODY, id="a camera that never came"),
        pytest.param([0.0, 1.0], [], [], NOBODY, id="nobody for all the time"),
        pytest.param([0.0, 1.0], ONE, [], (0, 0, 0), id="nothing shown"),
        pytest.param([0.0, 1.0], [], ONE, (0, 0, float("nan")), id="shown what is not there"),
        pytest.param([0.0, 1.0], ONE, ONE, (1, 1, 1), id="a frame without anybody"),
    ],
)
def test_without_people_a_score_is_what_its_formula_gives_or_nan(times, true, shown, expected):
    one = camera("hall", times, true, shown)
    scores = camera_scores(one)
    assert (scores.idf1, scores.hota, scores.mota) == pytest.approx(expected, nan_ok=True)
    across = cross_camera_scores([one])
    for part in (across.shown, across.no_matching, across.oracle):
        assert part == pytest.approx(expected[:2], nan_ok=True)
    assert all(map(isnan, across.gap_closed))


def test_an_empty_camera_beside_others_changes_nothing():
    cameras = drawn_recording(1)
    assert cross_camera_scores([*cameras, camera("dead", [], [], [])]).shown == cross_camera_scores(cameras).shown


def test_the_share_of_the_gap_is_one_for_right_matches_and_below_zero_for_wrong_ones():
    def across(*identities):
        people = zip(("hall", "door", "yard"), (0, 9, 20), (0, 1, 0), identities)
        return cross_camera_scores([walk(name, begin, [identity] * 4, pid=pid) for name, begin, pid, identity in people])

    assert across(1, 2, 1).gap_closed == (1, 1)
    assert across(1, 2, 3).gap_closed == (0, 0)
    wrong = across(1, 1, 2)  # the wrong two joined: as many boxes right as without, 8 of 12, yet boxes of two people are joined
    assert wrong.shown.idf1 == wrong.no_matching.idf1 == pytest.approx(2 / 3)
    # association: 4 * 4/12 + 4 * 4/8 + 4 * 4/8, over 12; against 4 * 4/8 twice and 4 * 4/4
    assert wrong.shown.hota == pytest.approx(sqrt(4 / 9), abs=1e-12)
    assert wrong.no_matching.hota == pytest.approx(sqrt(2 / 3), abs=1e-12)
    assert wrong.gap_closed == pytest.approx((0, (sqrt(4 / 9) - sqrt(2 / 3)) / (1 - sqrt(2 / 3))))


def test_references_that_differ_by_rounding_alone_leave_no_gap_to_close():
    same = IdentityScores(idf1=0.5, hota=0.5)
    scores = CrossCameraScores(shown=same, no_matching=same, oracle=IdentityScores(idf1=0.6, hota=0.5 + 2**-52))
    assert scores.oracle.hota > same.hota  # as happens: sums in another order
    assert scores.gap_closed == pytest.approx((0, float("nan")), nan_ok=True)


def test_a_track_of_two_people_goes_to_the_one_it_covers_longer_and_of_equally_long_to_the_lower_pid():
    def oracle(first):
        true = [Row(t, 0, 8 if t < first else 3, t >= first) for t in range(6)]
        return [
            camera("hall", range(6), true, [Row(t, 0, 0, 0) for t in range(6)]),
            walk("door", 9, [1] * 6, pid=8),
        ]

    assert cross_camera_scores(oracle(4)).oracle.idf1 == pytest.approx(10 / 12)  # pid 8 has 6 + 4 boxes
    assert cross_camera_scores(oracle(3)).oracle.idf1 == pytest.approx(9 / 12)  # pid 3 has its 3, pid 8 the 6 at the door
    assert cross_camera_scores(oracle(2)).oracle.idf1 == pytest.approx(10 / 12)


def test_the_oracle_shows_a_person_once_in_a_camera_at_a_time():
    true = [Row(t, 0, 0, 0) for t in range(6)]
    # track 0 covers the person and stays, drifted, where track 1 takes over for one frame before it ends
    shown = [*(Row(t, 0, 0, 0) for t in range(3)), Row(3, 4, 0, 0), *(Row(t, 0, 1, 1) for t in range(3, 6))]
    scores = cross_camera_scores([camera("hall", range(6), true, shown)])
    assert scores.oracle.idf1 == pytest.approx(2 * 6 / (6 + 7))  # all six boxes on the person are theirs, the seventh is nobody's


def test_track_numbers_beyond_what_a_float_holds_stay_apart():
    shown = [Row(t, 0, 2**60 + t // 2, 2**60 + t // 2) for t in range(4)]
    one = camera("hall", range(4), [Row(t, 0, 0, 0) for t in range(4)], shown)
    assert camera_scores(one).switches == 1
    assert cross_camera_scores([one]).shown.idf1 == 0.5


@pytest.mark.parametrize("whole", [torch.int16, torch.int32, torch.uint8], ids=str)
def test_boxes_of_any_precision_and_numbers_of_any_width_score_as_others(whole):
    one = walk("hall", 0, [1, 1, 2])
    true = replace(one.true, boxes=one.true.boxes.half(), pids=one.true.pids.to(whole), visits=one.true.visits.to(whole))
    shown = replace(one.shown, boxes=one.shown.boxes.float(), frames=one.shown.frames.to(whole), tracks=one.shown.tracks.to(whole))
    other = replace(one, true=true, shown=replace(shown, identities=shown.identities.to(whole)))
    assert cross_camera_scores([one]) == cross_camera_scores([other])
    assert camera_scores(one) == camera_scores(other)


def test_an_identity_twice_in_a_frame_has_no_score_across_cameras():
    twice = camera("door", range(3), [], [Row(1, 0, 0, 7), Row(1, 50, 1, 7), Row(2, 0, 0, 7)])
    with pytest.raises(ValueError, match="camera door shows identity 7 2 times in frame 1: one person is in one place"):
        cross_camera_scores([walk("hall", 0, [7]), twice])
    unnamed = camera("door", range(3), [], [Row(1, 0, 0, -1), Row(1, 50, 1, -1)])
    assert cross_camera_scores([walk("hall", 0, [7]), unnamed]).shown.idf1 == pytest.approx(2 / 4)


def test_no_camera_and_a_camera_twice_are_refused():
    with pytest.raises(ValueError, match=r"one or more cameras of different names, got \[\]"):
        cross_camera_scores([])
    with pytest.raises(ValueError, match=r"different names, got \['hall', 'hall'\]"):
        cross_camera_scores([walk("hall", 0, [1]), walk("hall", 5, [1])])


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ImportError, match=r"pip install 'lightning-reid\[tracking\]'"):
        camera_scores(walk("hall", 0, [1]))
