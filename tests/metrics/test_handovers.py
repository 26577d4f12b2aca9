"""Handovers from camera to camera: worked by hand, and against a slow reading of the definition."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import pytest
import slow_tracking as slow
from recordings import Row, camera, drawn_recording, walk

from lightning_reid.metrics import handover_scores
from lightning_reid.metrics.handovers import HandoverScores


@pytest.mark.parametrize("seed", range(12))
def test_handovers_are_those_of_the_definition(seed):
    cameras = drawn_recording(seed)
    expected, scores = slow.handovers(cameras), handover_scores(cameras)
    delays = [one for one in expected["delays"] if one is not None]
    assert (scores.num_handovers, scores.num_found) == (len(expected["delays"]), len(delays))
    assert (scores.num_links, scores.num_right) == (len(expected["links"]), sum(expected["links"]))
    assert scores.mean_delay == pytest.approx(sum(delays) / len(delays) if delays else float("nan"), nan_ok=True)


def test_the_recordings_that_are_drawn_hold_every_outcome():
    found = [handover_scores(drawn_recording(seed)) for seed in range(12)]
    assert any(0 < one.num_found < one.num_handovers for one in found)
    assert sum(one.num_right for one in found) > 10
    assert sum(one.num_links - one.num_right for one in found) > 10


def test_a_person_known_again_after_two_seconds_is_one_handover_found_and_one_right_link():
    scores = handover_scores([walk("hall", 0, [1, 1, 1]), walk("door", 10, [None, 2, 1, 1])])
    assert scores == HandoverScores(1, 1, mean_delay=2.0, num_links=1, num_right=1, num_duplicates=0, hours=13 / 3600)
    assert (scores.precision, scores.recall, scores.false_links_per_hour) == (1, 1, 0)


def test_a_stranger_taken_for_somebody_is_a_false_link_and_no_handover():
    scores = handover_scores([walk("hall", 0, [1, 1], pid=0), walk("door", 1799, [1, 1], pid=5)])
    assert (scores.num_handovers, scores.num_links, scores.num_right) == (0, 1, 0)
    assert (scores.precision, scores.false_links_per_hour) == (0, 2)  # one in half an hour
    assert isnan(scores.recall)


def test_a_track_that_covers_nobody_makes_a_false_link():
    ghost = camera("door", [10.0], [Row(0, 0, 0, 0)], [Row(0, 50, 0, 1)])
    scores = handover_scores([walk("hall", 0, [1]), ghost])
    assert (scores.num_handovers, scores.num_found, scores.num_links, scores.num_right) == (1, 0, 1, 0)
    ghosts = [camera(name, [time], [], [Row(0, 0, 0, 1)]) for name, time in (("hall", 0.0), ("door", 9.0))]
    assert (handover_scores(ghosts).num_links, handover_scores(ghosts).num_right) == (1, 0)  # nobody is not the same person as nobody


@pytest.mark.parametrize("cameras", [1, 2])
def test_people_who_are_seen_in_one_camera_only_make_no_handover(cameras):
    scores = handover_scores([walk("hall", 0, [1, 1], pid=0), walk("door", 1, [2, 2], pid=1)][:cameras])
    assert (scores.num_handovers, scores.num_links, scores.num_duplicates) == (0, 0, 0)
    assert all(map(isnan, (scores.recall, scores.precision, scores.mean_delay)))
    assert scores.false_links_per_hour == 0


def test_a_recording_without_frames_has_no_rates():
    scores = handover_scores([camera("hall", [], [], []), camera("door", [], [], [])])
    assert scores.hours == 0
    assert all(map(isnan, (scores.recall, scores.precision, scores.mean_delay, scores.false_links_per_hour)))


def test_who_comes_back_into_the_same_camera_was_not_handed_over():
    true, shown = [Row(0, 0, 3, 0), Row(9, 0, 3, 1)], [Row(0, 0, 0, 1), Row(9, 0, 1, 1)]
    back = camera("hall", range(10), true, shown)
    assert (handover_scores([back]).num_handovers, handover_scores([back]).num_links) == (0, 0)
    # from the hall to the door and back: two handovers, the second not found
    scores = handover_scores([replace(back, shown=walk("hall", 0, [1]).shown), walk("door", 4, [1], pid=3)])
    assert (scores.num_handovers, scores.num_found, scores.num_links) == (2, 1, 1)


def test_where_views_overlap_either_camera_may_take_the_identity_of_the_other():
    later_takes = [walk("hall", 0, [1, 1, 1, 1]), walk("door", 1, [2, 2, 1])]
    earlier_takes = [walk("hall", 0, [1, 1, 1, 2]), walk("door", 1, [2, 2, 2])]
    for cameras in (later_takes, earlier_takes):
        scores = handover_scores(cameras)
        assert (scores.num_found, scores.num_right, scores.num_links, scores.mean_delay) == (1, 1, 1, 2.0)


def test_two_cameras_that_exchange_their_identities_at_one_moment_do_not_agree():
    scores = handover_scores([walk("hall", 0, [1, 2]), walk("door", 0, [2, 1])])
    assert (scores.num_handovers, scores.num_found) == (1, 0)


def test_of_frames_of_one_time_the_first_camera_comes_first():
    scores = handover_scores([walk("hall", 0, [5]), walk("door", 0, [5])])
    assert (scores.num_links, scores.num_right, scores.num_found, scores.mean_delay) == (1, 1, 1, 0)


def test_an_identity_that_is_hidden_for_a_while_is_not_taken_anew_and_one_that_changes_to_and_fro_is():
    hidden = handover_scores([walk("hall", 0, [1]), walk("door", 5, [1, -1, None, 1])])
    to_and_fro = handover_scores([walk("hall", 0, [1]), walk("door", 5, [1, 2, 1])])
    assert (hidden.num_links, to_and_fro.num_links) == (1, 2)


def test_a_link_is_judged_by_the_camera_that_showed_the_identity_last():
    cameras = [walk("hall", 0, [1], pid=0), walk("door", 5, [1], pid=7), walk("yard", 9, [1], pid=0)]
    scores = handover_scores(cameras)
    # 7 was taken for 0, then 0 for 7; the viewer at the door and in the yard saw two people under one number
    assert (scores.num_links, scores.num_right) == (2, 0)
    assert (scores.num_handovers, scores.num_found) == (1, 1)


def test_of_two_cameras_that_showed_the_identity_last_at_one_time_the_first_is_asked():
    hall, door, yard = walk("hall", 1, [1], pid=0), walk("door", 0, [1, 1], pid=7), walk("yard", 5, [1], pid=0)
    # the hall's link to the door is false; the yard's is to the hall, or else to the door
    assert [handover_scores(cameras).num_right for cameras in ((hall, door, yard), (door, hall, yard))] == [1, 0]


def test_whom_a_track_shows_while_it_covers_nobody_is_whom_it_showed_last_or_will_show_first():
    def score(pids):
        true = [Row(t, 0, pid, pid) for t, pid in enumerate(pids) if pid is not None]
        door = camera("door", range(10, 13), true, [Row(t, 0, 0, identity) for t, identity in enumerate((2, 1, 1))])
        return handover_scores([walk("hall", 0, [1], pid=0), door]).num_right

    assert [score(pids) for pids in ((0, None, 4), (4, None, 0), (None, None, 0), (None, None, 4))] == [1, 0, 1, 0]


def test_an_identity_twice_in_a_camera_at_a_time_is_counted():
    twice = camera("door", range(3), [], [Row(t, 50 * track, track, 7) for t in range(2) for track in range(3)])
    assert handover_scores([walk("hall", 0, [7]), twice]).num_duplicates == 4


def test_no_camera_is_refused():
    with pytest.raises(ValueError, match="need one or more cameras"):
        handover_scores([])
