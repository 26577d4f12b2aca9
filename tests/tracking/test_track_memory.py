"""The memory of tracks: whom a search finds, whom it cannot, and that it never grows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import direction, key

from lightning_reid.tracking import TrackKey, TrackMemory

EAST, NORTH = direction(1, 0), direction(0, 1)


def remembered(*tracks: tuple[TrackKey, torch.Tensor, bool], capacity: int = 8) -> TrackMemory:
    memory = TrackMemory(2, capacity)
    for one, feature, has_ended in tracks:
        memory.put(one, feature, entered=0.0, seen_until=1.0, ended=has_ended)
    return memory


def keys_found(memory: TrackMemory, query: TrackKey, **options) -> list[TrackKey]:
    return [one.key for one in memory.search(EAST[None], [query], **options)[0]]


def test_the_mode_left_finds_those_who_left_other_cameras_and_live_the_others_too():
    memory = remembered((key("door", 1), NORTH, True), (key("yard", 2), EAST, False), (key("hall", 3), EAST, True))
    assert keys_found(memory, key("hall", 9), mode="left") == [key("door", 1)]
    assert keys_found(memory, key("hall", 9), mode="live") == [key("yard", 2), key("door", 1)]


@pytest.mark.parametrize("mode", ["left", "live"])
def test_those_who_left_a_query_s_own_camera_are_found_if_asked_for_and_those_still_there_never(mode):
    memory = remembered((key("hall", 1), EAST, True), (key("hall", 2), EAST, False))
    assert keys_found(memory, key("hall", 9), mode=mode) == []
    assert keys_found(memory, key("hall", 9), mode=mode, own_camera=True) == [key("hall", 1)]


def test_of_equally_near_tracks_the_smaller_key_comes_first():
    memory = remembered(*((key("door", number), EAST, True) for number in (5, 3, 4)))
    assert keys_found(memory, key("hall", 9)) == [key("door", 3), key("door", 4), key("door", 5)]


@settings(max_examples=40)
@given(data=st.data(), capacity=st.integers(1, 9), mode=st.sampled_from(["left", "live"]), k=st.integers(1, 5), own_camera=st.booleans())
def test_a_search_equals_looking_at_every_track_in_turn(data, capacity, mode, k, own_camera, two_rows_at_once):
    memory, slow = TrackMemory(3, capacity), dict[TrackKey, tuple[torch.Tensor, bool]]()
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    for _ in range(data.draw(st.integers(0, 20))):
        one = key(data.draw(st.sampled_from(["a", "b", "c"])), data.draw(st.integers(0, 5)))
        feature, has_ended = torch.nn.functional.normalize(torch.randn(3, generator=draw), dim=0).half(), data.draw(st.booleans())
        gone = memory.put(one, feature, entered=0.0, seen_until=0.0, ended=has_ended)
        slow.pop(gone, None)
        slow[one] = feature, has_ended
        forgotten = data.draw(st.sampled_from([None, *slow]))
        if forgotten is not None and data.draw(st.integers(0, 3)) == 0:
            assert memory.forget([forgotten, key("nowhere", 0)]) == [forgotten]
            del slow[forgotten]
    queries = [key("a", 99), key("d", 99)]
    features = torch.nn.functional.normalize(torch.randn(2, 3, generator=draw), dim=1)
    found = memory.search(features, queries, mode=mode, k=k, own_camera=own_camera)
    assert len(memory) == len(slow) <= capacity
    for query, feature, candidates in zip(queries, features, found):
        every = [
            (-(feature.double() @ other.double()).item(), one)
            for one, (other, has_ended) in slow.items()
            if (has_ended and own_camera) or (one.camera != query.camera and (has_ended or mode == "live"))
        ]
        assert [one.key for one in candidates] == [one for _, one in sorted(every)][:k]
        assert [one.similarity for one in candidates] == pytest.approx([-value for value, _ in sorted(every)][:k], abs=1e-5)


@pytest.fixture(scope="module")
def two_rows_at_once():
    """Two rows at once, so that a search goes over several parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_reid.tracking.track_memory._ROWS_AT_ONCE", 2)
        yield


def test_a_search_looks_only_where_it_may():
    memory = remembered((key("door", 1), EAST, True), (key("door", 2), NORTH, True), capacity=3)
    allowed = torch.tensor([[False, True, False]])
    assert keys_found(memory, key("hall", 9), allowed=allowed) == [key("door", 2)]


def test_what_is_newly_known_of_a_track_replaces_the_old():
    memory = remembered((key("door", 1), NORTH, False))
    assert memory.put(key("door", 1), EAST, entered=0.0, seen_until=5.0, ended=True) is None
    ((found,),) = memory.search(EAST[None], [key("hall", 9)])
    assert (len(memory), found.key, found.similarity) == (1, key("door", 1), 1.0)


def test_a_full_memory_lets_the_oldest_go_and_says_whom():
    memory = remembered(*((key("door", number), EAST, True) for number in range(3)), capacity=3)
    assert memory.put(key("door", 3), EAST, entered=0.0, seen_until=1.0, ended=True) == key("door", 0)
    assert [key("door", number) in memory for number in range(4)] == [False, True, True, True]


def test_a_track_is_forgotten_when_its_time_is_over_and_its_numbers_are_overwritten():
    memory = TrackMemory(2, capacity=4, keep_for=10.0)
    for number, seen in enumerate((5.0, 20.0)):
        memory.put(key("door", number), EAST, entered=0.0, seen_until=seen, ended=True)
    assert memory.expire(15.0) == []
    assert memory.expire(15.5) == [key("door", 0)]
    assert memory.forget([key("door", 1)]) == [key("door", 1)]
    assert keys_found(memory, key("hall", 9)) == []
    assert not any(memory.similarity(key("door", number), EAST) for number in range(2))
    assert not memory._features.any()


@pytest.mark.parametrize("number", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_any_number_of_tracks_leaves_the_memory_as_large_as_it_was(number):
    memory, feature = TrackMemory(2, capacity=1000), EAST.half()

    def sizes() -> list[int]:
        return [len(memory), len(memory._keys), len(memory._features), len(memory.cameras), len(memory._camera_numbers)]

    for one in range(1000):
        memory.put(TrackKey("door", 0, one), feature, entered=0.0, seen_until=1.0, ended=True)
    before = sizes()
    for one in range(1000, number):
        assert memory.put(TrackKey("door", 0, one), feature, entered=0.0, seen_until=1.0, ended=True) == key("door", one - 1000)
    assert sizes() == before == [1000, 1000, 1000, 1000, 1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"feature_size": 0}, "feature_size must be"),
        ({"capacity": 0}, "capacity must be"),
        ({"keep_for": float("nan")}, "keep_for must be"),
        ({"dtype": torch.int8}, "dtype must be one of"),
    ],
)
def test_a_memory_that_cannot_be_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        TrackMemory(**{"feature_size": 2} | options)


@pytest.mark.parametrize(
    ("feature", "told"), [([1.0, torch.nan], "holds NaN"), ([1.0, 0.0, 0.0], "of 2 numbers, got .*do all nodes use one network")]
)
def test_a_feature_that_cannot_be_changes_nothing(feature, told):
    memory = remembered((key("door", 1), EAST, True))
    for act in (
        lambda one: memory.put(key("door", 1), one, entered=0.0, seen_until=1.0, ended=True),
        lambda one: memory.search(one[None], [key("hall", 9)]),
        lambda one: memory.similarity(key("door", 1), one),
    ):
        with pytest.raises(ValueError, match=told):
            act(torch.tensor(feature))
    assert memory.similarity(key("door", 1), EAST) == 1.0


def test_a_search_that_cannot_be_is_refused():
    memory = remembered((key("door", 1), EAST, True))
    with pytest.raises(ValueError, match="mode must be one of 'left', 'live'"):
        memory.search(EAST[None], [key("hall", 9)], mode="all")
    with pytest.raises(ValueError, match="as many features as queries"):
        memory.search(EAST[None], [])
    with pytest.raises(ValueError, match=r"allowed \[Q, capacity\]"):
        memory.search(EAST[None], [key("hall", 9)], allowed=torch.ones(1, 1, dtype=torch.bool))
