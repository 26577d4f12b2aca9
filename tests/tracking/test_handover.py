"""Who asks when, whom they may be as far as time tells, and who gets whom."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import direction, key

from lightning_reid.tracking import MatchingRules, TrackMemory, TransitGates, assign_one_to_one
from lightning_reid.tracking.handover import admissible

HUNDREDTHS = st.integers(-100, 100).map(lambda one: one / 100)


def gain(similarity: float, threshold: float) -> float:
    return max(similarity - threshold, 0.0)


@settings(max_examples=40)
@given(data=st.data(), queries=st.integers(0, 4), columns=st.integers(0, 4), threshold=HUNDREDTHS)
def test_an_assignment_gains_as_much_as_the_best_of_all(data, queries, columns, threshold):
    values = [[data.draw(HUNDREDTHS | st.just(-math.inf)) for _ in range(columns)] for _ in range(queries)]
    assigned = assign_one_to_one(torch.tensor(values, dtype=torch.float64).reshape(queries, columns), threshold=threshold).tolist()
    taken = [(row, column) for row, column in enumerate(assigned) if column >= 0]
    assert len({column for _, column in taken}) == len(taken)
    assert all(values[row][column] > threshold for row, column in taken)
    places = [*range(columns), *[None] * queries]
    every = (
        sum(gain(values[row][one], threshold) for row, one in enumerate(order) if one is not None)
        for order in permutations(places, queries)
    )
    assert sum(gain(values[row][column], threshold) for row, column in taken) == pytest.approx(max(every), abs=1e-9)


@settings(max_examples=40)
@given(data=st.data(), columns=st.integers(1, 4), margin=st.sampled_from([0.0, 0.05, 0.2]))
def test_who_holds_a_column_leaves_it_only_for_one_that_is_better_by_the_margin(data, columns, margin):
    values = [[data.draw(HUNDREDTHS) for _ in range(columns)] for _ in range(2)]
    held = data.draw(st.integers(0, columns - 1))
    similarities = torch.tensor(values, dtype=torch.float64)
    own, other = assign_one_to_one(similarities, threshold=0.3, held=torch.tensor([held, -1]), margin=margin).tolist()
    if own not in (held, -1):
        assert values[0][own] > values[0][held] + margin - 1e-9
    if own != held and other == held and own == -1:
        assert gain(values[1][held], 0.3) + 1e-9 >= gain(values[0][held], 0.3) + margin


def test_who_loses_a_column_waits_rather_than_take_one_that_is_hardly_better():
    similarities, held = torch.tensor([[0.50, 0.55], [0.90, 0.10]]), torch.tensor([0, -1])
    assert assign_one_to_one(similarities, threshold=0.3, held=held, margin=0.1).tolist() == [-1, 0]
    assert assign_one_to_one(similarities, threshold=0.3, held=held, margin=0.01).tolist() == [1, 0]


def test_at_the_threshold_is_not_above_it():
    assert assign_one_to_one(torch.tensor([[0.5]], dtype=torch.float64), threshold=0.5).tolist() == [-1]


def test_equal_similarities_are_decided_the_same_way_each_time():
    similarities = torch.full((3, 3), 0.9)
    first = assign_one_to_one(similarities, threshold=0.5).tolist()
    assert sorted(first) == [0, 1, 2]
    assert all(assign_one_to_one(similarities, threshold=0.5).tolist() == first for _ in range(5))


@pytest.mark.parametrize(
    ("similarities", "options", "told"),
    [
        ([[torch.nan]], {}, "must not be NaN"),
        ([[torch.inf]], {}, "must not be NaN or plus infinity"),
        ([[0.5]], {"held": torch.tensor([1])}, "held must name a column below 1, or -1"),
        ([[0.5]], {"held": torch.tensor([0, 0])}, "for each of 1 queries"),
        ([[0.5]], {"threshold": 2}, "threshold must be"),
        ([[0.5]], {"margin": -1}, "margin must be"),
    ],
)
def test_an_assignment_of_what_cannot_be_is_refused(similarities, options, told):
    with pytest.raises(ValueError, match=told):
        assign_one_to_one(torch.tensor(similarities), **{"threshold": 0.4} | options)


@settings(max_examples=40)
@given(
    data=st.data(),
    mode=st.sampled_from(["left", "live"]),
    overlapping=st.sampled_from([(), (("a", "b"),)]),
    slack=st.sampled_from([0.0, 3.0]),
    table=st.sampled_from([{}, {("b", "a"): (2.0, 5.0)}, {("b", "a"): (-4.0, 5.0)}]),
)
def test_whom_time_allows_equals_asking_for_every_pair(data, mode, overlapping, slack, table):
    rules, gates = MatchingRules(0.5, memory=mode, overlapping=overlapping, clock_slack=slack), TransitGates(table)
    memory, feature, tracks = TrackMemory(2, capacity=6), direction(1, 0), []
    for number in range(data.draw(st.integers(0, 5))):
        camera, left, ended = data.draw(st.sampled_from("abc")), float(data.draw(st.integers(0, 12))), data.draw(st.booleans())
        memory.put(key(camera, number), feature, entered=0.0, seen_until=left, ended=ended)
        tracks.append((camera, left, ended))
    queries = [(key(camera, 9), float(data.draw(st.integers(0, 12)))) for camera in "ac"]

    def allowed(camera: str, entered: float, other: str, left: float, ended: bool) -> bool:
        transit = entered - left
        least, most = table.get((other, camera), (-math.inf, math.inf))
        shares = mode == "live" or {camera, other} in [{*pair} for pair in overlapping]
        in_order = transit >= 0 if camera == other else shares or transit >= -slack  # a camera's own clock agrees with itself
        return in_order and transit >= least and (transit <= most or not ended)

    expected = [[allowed(query.camera, entered, *track) for track in tracks] + [False] * (6 - len(tracks)) for query, entered in queries]
    assert admissible(memory, [one for one, _ in queries], [entered for _, entered in queries], rules, gates).tolist() == expected


def test_a_query_is_due_by_frames_or_by_seconds_of_capture():
    assert MatchingRules(0.5).waited(40, 0.1) == 1.0
    assert MatchingRules(0.5, every_n_frames=None, every_seconds=2.0).waited(1, 3.0) == 1.5


def test_cameras_compete_for_a_person_unless_they_may_share_them():
    left = MatchingRules(0.5, overlapping=(("a", "b"),))
    assert [left.rivals(camera) for camera in "abcd"] == ["a", "b", "", ""]
    live = MatchingRules(0.5, memory="live")
    assert [live.rivals(camera) for camera in "ab"] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": float("nan")}, "threshold must be"),
        ({"margin": -0.1}, "margin must be"),
        ({"memory": "all"}, "memory must be one of 'left', 'live'"),
        ({"every_n_frames": None}, "give every_n_frames or every_seconds"),
        ({"every_seconds": 1.0}, "give every_n_frames or every_seconds"),
        ({"overlapping": (("a", "a"),)}, "pairs of two different cameras, got \\('a', 'a'\\)"),
        ({"overlapping": ("ab",)}, "pairs of two different cameras, got 'ab'"),
        ({"clock_slack": -1}, "clock_slack must be"),
        ({"min_features": 0}, "min_features must be"),
        ({"num_candidates": 0}, "num_candidates must be"),
        ({"own_camera": 1}, "own_camera must be"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(options, told):
    with pytest.raises(ValueError, match=told):
        MatchingRules(**{"threshold": 0.5} | options)


def test_a_gate_is_learned_from_enough_transits_and_holds_nearly_all_of_them():
    gates = TransitGates(learn=True, min_matches=20)
    transits = torch.empty(100).normal_(30, 4, generator=torch.Generator().manual_seed(0)).tolist()
    for seconds in transits[:19]:
        gates.learn("door", "hall", seconds)
    assert gates.bounds("door", "hall") == (-math.inf, math.inf)
    for seconds in transits[19:]:
        gates.learn("door", "hall", seconds)
    low, high = gates.bounds("door", "hall")
    assert sum(low <= seconds <= high for seconds in transits) >= 99
    assert high - low < 40
    assert gates.bounds("hall", "door") == (-math.inf, math.inf)


def test_a_given_gate_is_not_relearned_and_gates_that_do_not_learn_stay_open():
    given_ones, others = TransitGates({("door", "hall"): (5, 60)}, learn=True, min_matches=2), TransitGates(min_matches=2)
    for gates in (given_ones, others):
        for _ in range(5):
            gates.learn("door", "hall", 100.0)
    assert given_ones.bounds("door", "hall") == (5, 60)
    assert others.bounds("door", "hall") == (-math.inf, math.inf)


def test_equal_transits_leave_a_second_to_each_side_and_more():
    gates = TransitGates(learn=True, min_matches=2, widen=1.5)
    gates.learn("door", "hall", 30.0)
    gates.learn("door", "hall", 30.0)
    assert gates.bounds("door", "hall") == (28.5, 31.5)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({("door", "door"): (1, 2)}, "two different cameras, got \\('door', 'door'\\)"),
        ({"door": (1, 2)}, "two different cameras, got 'door'"),
        ({("door", "hall"): 3}, "'door' to 'hall' must be two numbers of seconds, got 3"),
        ({("door", "hall"): (3, 2)}, "the largest transit time 'door' to 'hall' must be a number in \\[3, "),
        ({("door", "hall"): (float("nan"), 2)}, "the least transit time 'door' to 'hall'"),
    ],
)
def test_a_transit_table_that_cannot_be_is_refused_by_its_row(table, told):
    with pytest.raises(ValueError, match=told):
        TransitGates(table)
