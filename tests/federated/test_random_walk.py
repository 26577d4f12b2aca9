"""Where a model walks, what becomes of visits that fail, and what crosses meanwhile."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

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


def reply(client: str, value: float) -> Reply:
    return Reply(client, {"network.weight": torch.tensor([value])}, 30)


def walk(strategy: RandomWalk, silent: dict[int, str] | None = None) -> tuple[ServerState, list[tuple[str, str]]]:
    """The whole walk, on which the rounds ``silent`` bring no reply; who was asked, and what the report says of it."""
    state, told = strategy.begin({"network.weight": torch.zeros(1)}, DEVICES), []
    while not strategy.finished(state, strategy.visits * len(DEVICES)):
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


def test_a_lap_in_which_nobody_is_reached_is_an_error_that_names_them():
    strategy = RandomWalk(visits=2, seed=4)
    order = walk_order(DEVICES, 2, 4)
    with pytest.raises(
        RuntimeError, match=f"nobody was reached for a whole lap: {order[0]}, {order[1]}, {order[2]} and {order[3]}, .* off"
    ):
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
