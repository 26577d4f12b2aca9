"""A matcher that is restored goes on as the first would have."""

from __future__ import annotations

import json
import random
from collections import deque
from enum import Enum

import pytest
import torch
from tracked import MODEL, direction, ended, frame, looks

from lightning_reid.tracking import ForgetIdentity, MatchingRules, OnlineMatcher, TransitGates, UndoMatch, matcher_state, restore_matcher
from lightning_reid.tracking.matcher import Input


def matcher(memory: str = "left", *, threshold: float = 0.6, capacity: int = 40) -> OnlineMatcher:
    rules = MatchingRules(threshold, memory=memory, every_n_frames=5)
    gates = TransitGates({("door", "hall"): (-50.0, 50.0)}, learn=True, min_matches=2)
    return OnlineMatcher(rules, feature_size=4, model=MODEL, gates=gates, capacity=capacity, keep_for=30.0)


def walks(seed: int, num_frames: int = 260) -> list[Input]:
    """People who come to three cameras and go, some of them undone or forgotten by hand; what no matcher takes is among it."""
    draw, told = random.Random(seed), list[Input]()
    there: dict[tuple[str, int], int] = {}
    ids, counts = 0, dict[tuple[str, int], int]()
    people = [direction(*(draw.gauss(0, 1) for _ in range(4))) for _ in range(5)]
    for number in range(num_frames):
        for camera in ("door", "hall", "yard"):
            for key in [key for key in there if key[0] == camera and draw.random() < 0.1]:
                told.append(ended(camera, key[1], number - 1))
                del there[key]
            if draw.random() < 0.12:
                there[camera, ids], ids = number, ids + 1
            told.append(frame(camera, number, *(key[1] for key in there if key[0] == camera)))
            for key, since in there.items():
                if key[0] == camera and draw.random() < 0.3:
                    counts[key] = counts.get(key, 0) + 1
                    noise = torch.tensor([draw.gauss(0, 0.2) for _ in range(4)])
                    seen = torch.nn.functional.normalize(people[key[1] % 5] + noise, dim=0)
                    told.append(looks(camera, key[1], seen, since, number, count=counts[key]))
        if draw.random() < 0.05:
            told.append(ForgetIdentity(draw.randrange(20)))
        if draw.random() < 0.05 and len(there) > 1:
            told.append(UndoMatch(*(frame(camera, 0, one).keys[0] for camera, one in draw.sample(sorted(there), 2))))
    return told


def feed(one: OnlineMatcher, messages: list[Input]) -> list[object]:
    """What it announces, and what it refuses."""
    told: list[object] = []
    for message in messages:
        try:
            told += one.feed(message)
        except ValueError as error:
            told.append(str(error))
    return told


def inner(value: object) -> object:
    """All that an object holds, as plain values that can be compared."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.flatten().tolist()
    if isinstance(value, dict):
        return sorted((repr(inner(key)), repr(inner(one))) for key, one in value.items())
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple | deque):
        return [inner(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool | Enum | torch.dtype) or callable(value):
        return repr(value).split(" at ")[0].split(" of ")[0]
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())] or vars(value)
    return [(name, inner(getattr(value, name))) for name in names]


@pytest.mark.parametrize("memory", ["left", "live"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_restored_matcher_holds_and_announces_all_that_the_unbroken_one_does(memory, seed):
    messages = walks(seed)
    unbroken, restored = matcher(memory), matcher(memory)
    assert feed(unbroken, messages[: len(messages) // 2])
    restore_matcher(restored, matcher_state(unbroken))
    unbroken.memory.entered[unbroken.memory.cameras < 0] = unbroken.memory.seen_until[unbroken.memory.cameras < 0] = 0.0  # of free places
    unbroken.memory.ended[unbroken.memory.cameras < 0] = False
    assert inner(restored) == inner(unbroken)
    assert list(restored._live) == list(unbroken._live)  # in whose order tracks end
    later = [feed(one, messages[len(messages) // 2 :]) for one in (unbroken, restored)]
    assert later[0] == later[1]
    assert {"Match", "MatchUndone", "str"} <= {type(event).__name__ for event in later[0]}
    assert matcher_state(restored) == matcher_state(unbroken)


def test_a_state_of_other_rules_is_refused_by_their_name():
    content = matcher_state(matcher())
    with pytest.raises(ValueError, match=r"made with threshold 0\.6, this one has 0\.7"):
        restore_matcher(matcher(threshold=0.7), content)
    with pytest.raises(ValueError, match="made with capacity 40, this one has 30"):
        restore_matcher(matcher(capacity=30), content)


def test_a_matcher_that_was_fed_is_not_restored():
    used = matcher()
    used.feed(frame("door", 1, 7))
    with pytest.raises(ValueError, match="fed before"):
        restore_matcher(used, matcher_state(matcher()))


def refusal(content: bytes) -> str | None:
    try:
        restore_matcher(matcher(), content)
    except ValueError as error:
        return str(error)
    return None


def test_a_damaged_state_is_refused_and_never_another_error():
    one = matcher()
    feed(one, walks(0, 60))
    content, draw = matcher_state(one), random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        cut = draw.choice([None, draw.randrange(len(damaged))])
        told = refusal(bytes(damaged[:cut]))
        assert told is None or "matcher's state" in told
        refused += told is not None
    assert refused > 75
    with pytest.raises(ValueError, match="another version"):
        restore_matcher(matcher(), b"\x02\x00\x00\x00\x00\x00\x00\x00" + json.dumps({}).encode())
