"""Where a model walks, what becomes of visits that fail, and what crosses meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.federated import RandomWalk, walk_order
from lightning_reid.federated.strategies import Reply, ServerState
from lightning_reid.federated.traffic import Bytes, EdgeRun, bytes_by_kind, expected_at_hub, expected_traffic

DEVICES = ["a", "b", "c", "d"]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 99))
def test_a_lap_visits_everybody_once_and_nobody_twice_in_a_row(number, visits, seed):
    devices = [f"camera{place}" for place in range(number)]
    order = walk_order(devices, visits, seed)
    assert all(sorted(order[lap * number : (lap + 1) * number]) == devices for lap in range(visits))
    assert all(one != other for one, other in pairwise(order))
    assert walk_order(devices, visits + 1, seed)[: len(order)] == order  # what comes later changes nothing
    uniform = walk_order(devices, visits, seed, kind="uniform")
    assert len(uniform) == len(order)
    assert all(one != other for one, other in pairwise(uniform))


def test_walks_of_other_seeds_and_stages_are_others_and_shares_follow_the_images():
    assert len({tuple(walk_order(DEVICES, 3, seed, stage=stage)) for seed in range(4) for stage in (2, 4)}) == 8
    assert walk_order(DEVICES, 2, 0, kind="cyclic") == DEVICES * 2
    counts = Counter(walk_order(DEVICES, 1000, 0, kind="proportional", num_images={"a": 10, "b": 10, "c": 10, "d": 70}))
    assert counts["d"] / 4000 == pytest.approx(0.7, abs=0.03)
    for devices, options, message in (
        ([], {}, "each once"),
        (["a", "a"], {}, "each once"),
        (DEVICES, {"kind": "proportional", "num_images": {"a": 1}}, "the number of each"),
        (DEVICES, {"kind": "straight"}, "kind must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            walk_order(devices, 1, 0, **options)


KINDS = ("laps", "uniform", "proportional", "cyclic")
IMAGES = {"a": 10, "b": 20, "c": 30, "d": 40}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99), st.integers(0, 9))
def test_a_walk_is_the_beginning_of_every_longer_one(kind, number, visits, seed, stage):
    options = {"kind": kind, "stage": stage, "num_images": IMAGES}
    order = walk_order(DEVICES[:number], visits, seed, **options)
    assert len(order) == visits * number
    assert walk_order(DEVICES[:number], visits + 2, seed, **options)[: len(order)] == order
    if number == 1:
        assert order == ["a"] * visits


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(0, 99), st.integers(0, 9))
def test_a_lap_is_drawn_from_seed_stage_and_its_number_alone(number, visits, seed, stage):
    order = walk_order([f"{place}" for place in range(number)], visits, seed, stage=stage)
    for lap in range(visits):
        drawn = [f"{place}" for place in np.random.default_rng([seed, stage, lap]).permutation(number)]
        if lap and drawn[0] == order[lap * number - 1]:
            drawn[:2] = drawn[1::-1]
        assert order[lap * number : (lap + 1) * number] == drawn


def test_of_two_devices_the_model_goes_to_and_fro():
    for kind in ("laps", "uniform"):
        order = walk_order(["a", "b"], 5, 3, kind=kind)
        assert order in (["a", "b"] * 5, ["b", "a"] * 5)


def test_every_device_is_visited_as_often_as_its_kind_of_walk_says():
    visits = 4000
    for kind, shares in (("uniform", [0.25] * 4), ("proportional", [0.1, 0.2, 0.3, 0.4])):
        order = walk_order(DEVICES, visits // 4, 0, kind=kind, num_images=IMAGES)
        counts = Counter(order)
        assert [counts[device] / visits for device in DEVICES] == pytest.approx(shares, abs=0.03)
        steps = Counter(pairwise(order))
        for one, share in zip(DEVICES, shares):
            for other, next_share in zip(DEVICES, shares):
                expected = next_share if kind == "proportional" else (one != other) / 3
                assert steps[one, other] / counts[one] == pytest.approx(expected, abs=5 * (0.25 / (share * visits)) ** 0.5)
    firsts = Counter(walk_order(DEVICES, visits, 0)[::4])
    assert [firsts[device] / visits for device in DEVICES] == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("images", [{"a": 1, "b": 0}, {"a": 1, "b": -1}, {"a": 1, "b": float("nan")}, {"a": 1, "b": float("inf")}, None])
def test_numbers_of_images_that_give_no_shares_are_refused(images):
    with pytest.raises(ValueError, match="the number of each"):
        walk_order(["a", "b"], 1, 0, kind="proportional", num_images=images)


@pytest.mark.parametrize(("name", "value"), [("visits", 0), ("visits", 1.5), ("seed", -1), ("stage", -1), ("stage", 0.5), ("stage", True)])
def test_numbers_of_a_walk_that_are_none_are_refused_by_name(name, value):
    told = {"visits": 1, "seed": 0, "stage": 2} | {name: value}
    with pytest.raises(ValueError, match=name):
        walk_order(DEVICES, told["visits"], told["seed"], stage=told["stage"])
    with pytest.raises(ValueError, match=name):
        RandomWalk(**told)


def reply(client: str, value: float) -> Reply:
    return Reply(client, {"network.weight": torch.tensor([value])}, 30)


def walk(
    strategy: RandomWalk, silent: dict[int, str] | None = None, devices: Sequence[str] = DEVICES
) -> tuple[ServerState, list[tuple[str, str]]]:
    """The whole walk, on which the rounds ``silent`` bring no reply; who was asked, and what the report says of it."""
    state, told = strategy.begin({"network.weight": torch.zeros(1)}, devices), []
    while not strategy.finished(state, strategy.visits * len(devices)):
        (client,) = strategy.asked(state)
        number = state.round
        replies = [] if number in (silent or {}) else [reply(client, number + 1.0)]
        report = strategy.aggregate(state, replies, {client: (silent or {}).get(number, "")} if not replies else None)
        assert not report.repeat
        told.append((client, report.left_out.get(client, "")))
    return state, told


def test_the_one_reply_is_the_model_and_learning_rates_fall_after_two_thirds():
    strategy = RandomWalk(visits=3, seed=4)
    state, told = walk(strategy)
    assert [client for client, _ in told] == walk_order(DEVICES, 3, 4)
    assert state.tensors["network.weight"].item() == 12.0
    factors = [strategy.lr_factor(ServerState("RandomWalk", place, {}, DEVICES)) for place in range(12)]
    assert factors == [1.0] * 8 + [0.1] * 4


def test_a_visit_that_fails_is_owed_and_made_at_the_end_of_its_lap_once():
    strategy = RandomWalk(visits=2, seed=4)
    order = walk_order(DEVICES, 2, 4)
    state, told = walk(strategy, {1: "it is off", 4: "it is still off", 6: "it passed its deadline"})
    asked = [client for client, _ in told]
    assert asked == [*order[:4], order[1], *order[4:8], order[5]]
    assert told[1] == (order[1], "it is off; it is visited at the end of the lap")
    assert told[4] == (order[1], "it is still off; the visit is lost")
    assert told[6][1] == "it passed its deadline; it is visited at the end of the lap"
    assert told[-1] == (order[5], "")
    assert (state.round, state.retried, state.owed) == (10, 2, [])
    with pytest.raises(ValueError, match="walk of 8 visits is over"):
        strategy.asked(state)


AT_THE_END, LOST = "it is off; it is visited at the end of the lap", "it is off; the visit is lost"


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9), st.sets(st.integers(0, 14)))
def test_whatever_fails_each_visit_is_made_or_owed_once_and_told_when_it_is_lost(kind, number, visits, seed, off):
    devices = DEVICES[:number]
    strategy = RandomWalk(visits=visits, seed=seed, kind=kind, num_images=IMAGES)
    order, expected = walk_order(devices, visits, seed, kind=kind, num_images=IMAGES), []
    for lap in range(visits):
        owed = []
        for client in order[lap * number : (lap + 1) * number]:
            owed += [client] if len(expected) in off else []
            expected.append((client, AT_THE_END if len(expected) in off else ""))
        if len(owed) == number:
            with pytest.raises(RuntimeError, match="nobody was reached for a whole lap"):
                walk(strategy, dict.fromkeys(off, "it is off"), devices)
            return
        for client in owed:
            expected.append((client, LOST if len(expected) in off else ""))
    state, told = walk(strategy, dict.fromkeys(off, "it is off"), devices)
    assert told == expected
    arrived = max(place + 1.0 for place, (_, reason) in enumerate(expected) if not reason)
    assert state.tensors["network.weight"].item() == arrived
    assert (state.round, state.round - state.retried, state.owed) == (len(expected), visits * number, [])


def test_a_device_that_is_never_reached_loses_a_visit_a_lap_and_stops_nobody():
    strategy = RandomWalk(visits=3, seed=4)
    gone = walk_order(DEVICES, 3, 4)[0]
    state, told = strategy.begin({"network.weight": torch.zeros(1)}, DEVICES), []
    while not strategy.finished(state, 12):
        (client,) = strategy.asked(state)
        report = strategy.aggregate(state, [] if client == gone else [reply(client, 1.0)], {client: "it is off"})
        told += [report.left_out[client]] if client == gone else []
    assert told == [AT_THE_END, LOST] * 3
    assert (state.round, state.owed) == (15, [])


def test_the_only_device_there_is_is_not_waited_for():
    strategy = RandomWalk(visits=2)
    _, told = walk(strategy, devices=["a"])
    assert told == [("a", "")] * 2
    with pytest.raises(RuntimeError, match="for a whole lap: a; why the last of them was not: it is off"):
        walk(strategy, {1: "it is off"}, ["a"])


def test_a_lap_in_which_nobody_is_reached_is_an_error_that_names_them():
    strategy = RandomWalk(visits=2, seed=4)
    order = walk_order(DEVICES, 2, 4)
    with pytest.raises(RuntimeError, match=f"nobody was reached for a whole lap: {', '.join(order[:4])}; .* was not: it is off"):
        walk(strategy, dict.fromkeys(range(4), "it is off"))


def test_what_is_not_a_number_is_no_visit_and_a_stranger_is_refused():
    strategy = RandomWalk(visits=1)
    state = strategy.begin({"network.weight": torch.zeros(1)}, DEVICES)
    (client,) = strategy.asked(state)
    strategy.aggregate(state, [reply(client, float("nan"))])
    assert state.tensors["network.weight"].item() == 0.0
    assert state.owed == [client]
    with pytest.raises(ValueError, match="was not asked"):
        strategy.aggregate(state, [reply(client, 1.0)])


def test_bytes_are_those_of_a_walk_that_is_counted_message_by_message():
    memories, width, model, labels = {"a": 5, "b": 0, "c": 1, "d": 3}, 8, 1000, 6
    walks, learns = ["a", "d"], ["a", "c", "d"]
    run = EdgeRun(model, memories, walks, learns, 3, 2, labels, width, hub_device="d", style="statistics")
    traffic = expected_traffic(run)
    visits = walk_order(["a", "d"], 3, 0)
    assert traffic["model, stage 2"] == Bytes(model * (len(visits) - 1), 2 * model * len(visits))
    visits = walk_order(["a", "c", "d"], 2, 0, stage=4)
    head = labels * width * 4
    assert traffic["model, stage 4"] == Bytes(model * (len(visits) - 1), 2 * model * len(visits))
    assert traffic["classifier"] == Bytes(head * (len(visits) - 1), 2 * head * len(visits))
    assert traffic["memories"] == Bytes((5 + 0 + 1) * width * 4, 9 * width * 4)
    assert traffic["labels"] == Bytes(6 * 4, 9 * 4)
    assert traffic["style"] == Bytes(3 * 24, 4 * 24)
    assert traffic["model to all"] == Bytes(2 * 3 * model, 2 * 4 * model)
    for kind, size in traffic.items():
        assert size.hub == sum(one for crossing, one in expected_at_hub(run).items() if crossing.kind == kind)
    assert expected_at_hub(run)["memories", "d", "up"] == 3 * width * 4
    assert expected_at_hub(run)["style", "a", "up"] == expected_at_hub(run)["style", "b", "down"] == 24
    pairs = expected_traffic(EdgeRun(model, memories, walks, learns, 3, 2, labels, width, memory_bytes=2, pairwise=True))
    assert pairs["memories"].direct == (5 * 3 + 0 * 2 + 1 * 1) * width * 2
    with pytest.raises(ValueError, match=r"\['x'\] are none of them"):
        EdgeRun(model, memories, walks, learns, 3, 2, labels, width, hub_device="x")
    with pytest.raises(ValueError, match="2 or 4 bytes, got 8"):
        EdgeRun(model, memories, walks, learns, 3, 2, labels, width, memory_bytes=8)
    assert bytes_by_kind({"network.weight": torch.zeros(2, dtype=torch.float16)}) == {"model": 4, "classifier": 0}
