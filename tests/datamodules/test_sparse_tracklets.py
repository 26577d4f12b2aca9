"""Chosen tracklets of one camera are far apart in space at one instant, or in time; proved by an independent check of every pair."""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_reid.datamodules.sparse_tracklets import (
    SparseTracklet,
    TrackedBoxes,
    box_gaps,
    one_tracklet_per_person,
    sparse_tracklets,
    tracklets_of_images,
)
from lightning_reid.records import ImageRecord, TrackletRecord

IN_ANY_TIME = settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def standing(camid: int, first: int, last: int, x: float, width: float = 10.0) -> TrackedBoxes:
    """Somebody who stands at x from the first to the last frame."""
    frames = np.arange(first, last + 1)
    return TrackedBoxes(camid, frames, np.tile([x, 0.0, x + width, 30.0], (len(frames), 1)))


def rows(chosen: list[SparseTracklet]) -> list[int]:
    return [tracklet.row for tracklet in chosen]


@st.composite
def scenes(draw) -> list[TrackedBoxes]:
    """People who walk through up to three cameras, with frames left out and boxes that overlap."""
    tracklets = []
    for _ in range(draw(st.integers(0, 14))):
        length = draw(st.integers(1, 30))
        steps = draw(st.lists(st.integers(1, 3), min_size=length, max_size=length))
        frames = draw(st.integers(-20, 60)) + np.cumsum(steps)
        x, y, speed = draw(st.integers(0, 90)), draw(st.integers(0, 60)), draw(st.floats(-3, 3))
        left, top = x + speed * np.arange(length), np.full(length, float(y))
        size = draw(st.integers(4, 30))
        tracklets.append(TrackedBoxes(draw(st.integers(1, 3)), frames, np.stack([left, top, left + size, top + 2 * size], axis=1)))
    return tracklets


def slow_gap(a, b) -> float:
    """The distance of two boxes, case by case."""
    across = a[0] - b[2] if a[0] > b[2] else b[0] - a[2] if b[0] > a[2] else 0.0
    down = a[1] - b[3] if a[1] > b[3] else b[1] - a[3] if b[1] > a[3] else 0.0
    return math.sqrt(across**2 + down**2)


@IN_ANY_TIME
@given(scene=scenes(), min_gap=st.integers(1, 40), min_distance=st.floats(0.5, 60), seed=st.integers(0, 2**32 - 1))
def test_two_chosen_of_one_camera_share_an_instant_far_apart_or_have_instants_a_gap_apart(scene, min_gap, min_distance, seed):
    chosen = sparse_tracklets(scene, min_gap=min_gap, min_distance=min_distance, generator=rng(seed))
    box_at = [{int(frame): box for frame, box in zip(tracklet.frames, tracklet.boxes)} for tracklet in scene]
    for a, b in itertools.combinations(chosen, 2):
        if a.camid != b.camid:
            continue
        if a.instant == b.instant:
            assert slow_gap(box_at[a.row][a.instant], box_at[b.row][b.instant]) >= min_distance - 1e-9
        else:
            assert abs(a.instant - b.instant) >= min_gap


@IN_ANY_TIME
@given(scene=scenes(), min_gap=st.integers(1, 40), min_distance=st.floats(0.5, 60), seed=st.integers(0, 2**32 - 1))
def test_each_is_chosen_once_for_an_instant_it_has_a_box_in_and_every_camera_has_one(scene, min_gap, min_distance, seed):
    chosen = sparse_tracklets(scene, min_gap=min_gap, min_distance=min_distance, generator=rng(seed))
    assert len(set(rows(chosen))) == len(chosen)
    assert all(tracklet.instant in scene[tracklet.row].frames for tracklet in chosen)
    assert {tracklet.camid for tracklet in chosen} == {tracklet.camid for tracklet in scene}
    assert all(tracklet.camid == scene[tracklet.row].camid for tracklet in chosen)
    assert chosen == sorted(chosen, key=lambda tracklet: (tracklet.camid, tracklet.instant, tracklet.row))


@IN_ANY_TIME
@given(scene=scenes(), seed=st.integers(0, 2**32 - 1))
def test_nobody_chosen_earlier_and_still_in_view_stands_too_near_to_one_chosen_later(scene, seed):
    chosen = sparse_tracklets(scene, min_gap=8, min_distance=5, generator=rng(seed))
    box_at = [{int(frame): box for frame, box in zip(tracklet.frames, tracklet.boxes)} for tracklet in scene]
    for earlier, later in itertools.permutations(chosen, 2):
        if earlier.camid == later.camid and earlier.instant < later.instant and later.instant in box_at[earlier.row]:
            assert slow_gap(box_at[earlier.row][later.instant], box_at[later.row][later.instant]) >= 5 - 1e-9


@IN_ANY_TIME
@given(scene=scenes(), seed=st.integers(0, 2**32 - 1))
def test_nobody_who_stands_free_in_a_sampled_instant_is_left_out(scene, seed):
    chosen = sparse_tracklets(scene, min_gap=10, min_distance=5, generator=rng(seed))
    box_at = [{int(frame): box for frame, box in zip(tracklet.frames, tracklet.boxes)} for tracklet in scene]
    for camid, instant in {(tracklet.camid, tracklet.instant) for tracklet in chosen}:
        by_then = [tracklet.row for tracklet in chosen if tracklet.camid == camid and tracklet.instant <= instant]
        there = [box_at[row][instant] for row in by_then if instant in box_at[row]]
        for row, tracklet in enumerate(scene):
            if tracklet.camid == camid and instant in box_at[row] and row not in by_then:
                assert min(slow_gap(box_at[row][instant], box) for box in there) < 5 + 1e-9


def test_people_side_by_side_at_one_instant_are_chosen_together_and_overlapping_ones_are_not():
    apart = [standing(1, 0, 9, x=0), standing(1, 0, 9, x=15)]
    overlapping = [standing(1, 0, 9, x=0), standing(1, 0, 9, x=8)]
    assert rows(sparse_tracklets(apart, min_gap=100, min_distance=5, generator=rng())) == [0, 1]
    assert len(sparse_tracklets(apart, min_gap=100, min_distance=5.01, generator=rng())) == 1
    assert len(sparse_tracklets(overlapping, min_gap=100, min_distance=0.01, generator=rng())) == 1


def test_one_who_comes_a_gap_later_is_chosen_and_one_who_comes_earlier_is_not():
    def chosen(second: int) -> int:
        one_frame_each = [standing(1, 0, 0, x=0), standing(1, second, second, x=500)]
        return len(sparse_tracklets(one_frame_each, min_gap=50, min_distance=5, generator=rng()))

    assert [chosen(49), chosen(50), chosen(0)] == [1, 2, 2]


def test_a_fragment_of_somebody_still_in_view_is_not_chosen_at_a_later_instant():
    scene = [standing(1, 0, 120, x=0), standing(1, 60, 120, x=2)]  # the second is another box of the first person
    for seed in range(20):
        assert len(sparse_tracklets(scene, min_gap=50, min_distance=5, generator=rng(seed))) == 1


def test_cameras_do_not_constrain_each_other():
    scene = [standing(camid, 0, 9, x=0) for camid in (4, 2, 9)]
    assert sparse_tracklets(scene, min_gap=100, min_distance=50, generator=rng())[0].camid == 2
    assert rows(sparse_tracklets(scene, min_gap=100, min_distance=50, generator=rng())) == [1, 0, 2]


def test_the_first_instant_is_drawn_from_the_first_gap():
    scene = [standing(1, 100, 400, x=0)]
    instants = {sparse_tracklets(scene, min_gap=5, min_distance=1, generator=rng(seed))[0].instant for seed in range(60)}
    assert instants == {100, 101, 102, 103, 104}


def test_the_choice_depends_on_the_generator_alone():
    scene = [standing(1, start, start + 20, x=start % 7 * 9) for start in range(0, 200, 3)]
    once, again, other = (sparse_tracklets(scene, min_gap=30, min_distance=5, generator=rng(seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_no_tracklets_give_no_choice():
    assert sparse_tracklets([], min_gap=10, min_distance=1, generator=rng()) == []


def test_the_gap_between_boxes_is_worked_by_hand():
    others = np.array([[13.0, 0, 20, 10], [13.0, 14, 20, 20], [5.0, 5, 20, 20], [10.0, 0, 20, 10], [-9.0, -9, -6, -8]])
    # beside: 3; 3 across and 4 down: 5; overlapping and touching: 0; 6 across and 8 down: 10
    assert box_gaps(np.array([0.0, 0, 10, 10]), others).tolist() == [3, 5, 0, 0, 10]


@pytest.mark.parametrize(("min_gap", "min_distance"), [(0, 1.0), (10, 0.0), (10, -1.0), (10, math.nan), (10, math.inf)])
def test_a_gap_or_distance_out_of_range_is_named(min_gap, min_distance):
    with pytest.raises(ValueError, match=rf"need min_gap >= 1 frame .*, got {min_gap} and {min_distance}"):
        sparse_tracklets([], min_gap=min_gap, min_distance=min_distance, generator=rng())


BOX = [0.0, 0.0, 5.0, 9.0]


@pytest.mark.parametrize(
    ("frames", "boxes", "message"),
    [
        ([], np.empty((0, 4)), r"tracklet 1 \(camera 3\) has no frame; leave empty tracklets out"),
        ([1, 2], np.array([BOX]), r"has 2 frames, so boxes of shape \(2, 4\) were expected, got \(1, 4\)"),
        ([2, 1], np.array([BOX, BOX]), "frames must ascend without repetition"),
        ([1, 1], np.array([BOX, BOX]), "cut a tracklet with two boxes in one frame in two"),
        ([7, 8], np.array([BOX, [0, 0, np.nan, 9]]), r"frame 8: expected a finite box .*nan.*; 0 more are bad"),
        ([7, 8], np.array([[5.0, 0, 5, 9], [9.0, 0, 5, 9]]), r"frame 7: .*got \[5.0, 0.0, 5.0, 9.0\]; 1 more are bad"),
    ],
)
def test_a_tracklet_that_is_not_sound_is_named(frames, boxes, message):
    tracklets = [standing(1, 0, 3, x=0), TrackedBoxes(3, np.array(frames, dtype=np.int64), boxes)]
    with pytest.raises(ValueError, match=message):
        sparse_tracklets(tracklets, min_gap=10, min_distance=1, generator=rng())


def test_one_tracklet_of_each_person_in_each_camera_is_drawn():
    people = [(1, 2), (1, 1), (1, 2), (5, 1), (0, 1), (-1, 2), (1, 2)]
    records = [TrackletRecord((f"{place}.jpg",), pid, camid) for place, (pid, camid) in enumerate(people)]
    draws = [one_tracklet_per_person(records, rng(seed)) for seed in range(30)]
    assert all([(record.camid, record.pid) for record in drawn] == [(1, 1), (1, 5), (2, 1)] for drawn in draws)
    assert {drawn[2] for drawn in draws} == {records[0], records[2], records[6]}
    assert one_tracklet_per_person(records, rng(4)) == draws[4]


def test_all_images_of_a_person_in_a_camera_make_one_tracklet_in_the_order_of_their_frames():
    images = [ImageRecord("b", 3, 1, "set", 9), ImageRecord("a", 3, 1, "set", 2), ImageRecord("c", 3, 2, "set", 5), ImageRecord("d", -1, 1)]
    assert tracklets_of_images(images) == (TrackletRecord(("a", "b"), 3, 1, "set", 2), TrackletRecord(("c",), 3, 2, "set", 5))
    unordered = [ImageRecord("z", 3, 1), ImageRecord("y", 3, 1)]
    assert tracklets_of_images(unordered) == (TrackletRecord(("z", "y"), 3, 1),)
    assert tracklets_of_images([]) == ()


def test_no_two_real_pets_tracklets_chosen_for_one_instant_show_one_person():
    if "REID_TEST_DATA" not in os.environ:
        pytest.skip("set REID_TEST_DATA to the folder that holds pets-reid")
    frames = defaultdict(list)
    with (Path(os.environ["REID_TEST_DATA"]) / "pets-reid" / "info" / "frames.csv").open() as lines:
        for row in csv.DictReader(lines):
            frames[row["file"].partition("F")[0]].append({name: float(row[name]) for name in row if name not in ("split", "file")})
    scene = [
        TrackedBoxes(
            int(rows[0]["cam"]),
            np.array([int(row["video_frame"]) for row in rows]),
            np.array([[row[side] for side in ("x0", "y0", "x1", "y1")] for row in rows]),
        )
        for rows in frames.values()
    ]
    people = [rows[0]["person"] for rows in frames.values()]
    pairs = 0
    for seed in range(20):
        chosen = sparse_tracklets(scene, min_gap=100, min_distance=10, generator=rng(seed))
        for a, b in itertools.combinations(chosen, 2):
            if (a.camid, a.instant) == (b.camid, b.instant):
                pairs += 1
                assert people[a.row] != people[b.row]
    assert pairs > 100
