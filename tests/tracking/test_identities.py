"""Who is one person: unions of tracks, corrections, and nobody twice in a camera at a time."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import key

from lightning_reid.tracking import Identities, TrackKey


def people(*tracks: tuple[str, float, float], overlapping: bool = False, slack: float = 0.0) -> tuple[Identities, list[TrackKey]]:
    """Tracks by camera, entry and exit, each with a number of its own; their ids count from 0."""
    made = Identities(lambda camera, other: overlapping, slack)
    keys = [key(camera, number) for number, (camera, _, _) in enumerate(tracks)]
    for one, (_, entered, left) in zip(keys, tracks):
        made.appear(one, entered, left)
        made.end(one)
    return made, keys


def numbers(identities: Identities, keys: list[TrackKey]) -> list[int]:
    return [identities.number(one) for one in keys]


def test_matched_tracks_bear_the_smallest_of_their_numbers():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("c", 4, 5))
    assert identities.link(keys[2], keys[1], 0.9) == []
    assert numbers(identities, keys) == [0, 1, 1]
    assert identities.link(keys[1], keys[0], 0.8) == []
    assert numbers(identities, keys) == [0, 0, 0]
    assert identities.person(keys[1]) == keys


def test_parted_tracks_bear_their_own_numbers_again():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("c", 4, 5))
    identities.link(keys[1], keys[0], 0.8)
    identities.link(keys[2], keys[1], 0.9)
    assert identities.forbid(keys[1], keys[0]) == [(keys[1], keys[0])]
    assert numbers(identities, keys) == [0, 1, 1]


def test_a_track_that_would_be_a_second_in_the_camera_at_that_time_is_refused():
    identities, keys = people(("a", 0, 1), ("b", 2, 5), ("b", 3, 4))
    identities.link(keys[1], keys[0], 0.8)
    assert identities.link(keys[2], keys[0], 0.8) is None
    assert identities.link(keys[2], keys[0], 0.84, margin=0.05) is None
    assert identities.link(keys[2], keys[1], 1.0) is None  # these two themselves are in one camera at a time
    assert numbers(identities, keys) == [0, 0, 2]


def test_a_match_that_is_better_by_the_margin_takes_the_person_over():
    identities, keys = people(("a", 0, 1), ("b", 2, 5), ("b", 3, 4))
    identities.link(keys[1], keys[0], 0.8)
    assert identities.link(keys[2], keys[0], 0.86, margin=0.05) == [(keys[1], keys[0])]
    assert numbers(identities, keys) == [0, 1, 0]


def test_a_track_that_asks_again_changes_for_a_better_match_by_the_margin_alone():
    identities, keys = people(("a", 0, 1), ("a", 0, 2), ("b", 3, 5))
    identities.link(keys[2], keys[0], 0.8)
    assert identities.link(keys[2], keys[1], 0.85, margin=0.05) is None
    identities.refresh(keys[2], keys[0], 0.7)
    assert identities.link(keys[2], keys[1], 0.85, margin=0.05) == [(keys[2], keys[0])]
    assert identities.found(keys[2]) == (keys[1], 0.85)
    assert numbers(identities, keys) == [0, 1, 1]


def test_a_person_may_come_back_to_a_camera_and_be_in_two_that_overlap():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("a", 4, 5))
    assert (identities.link(keys[1], keys[0], 0.9), identities.link(keys[2], keys[1], 0.9)) == ([], [])
    identities, keys = people(("a", 0, 5), ("b", 2, 3), overlapping=True)
    assert identities.link(keys[1], keys[0], 0.9) == []
    identities, keys = people(("a", 0, 5), ("b", 2, 3))
    assert identities.link(keys[1], keys[0], 0.9) is None


def test_clocks_may_differ_by_the_slack_across_cameras_but_not_within_one():
    identities, keys = people(("a", 0, 5), ("b", 4, 9), ("a", 5, 6), slack=1.0)
    assert identities.link(keys[1], keys[0], 0.9) == []
    assert identities.link(keys[2], keys[0], 0.9) is None
    identities, keys = people(("a", 0, 5), ("b", 3.5, 9), slack=1.0)
    assert identities.link(keys[1], keys[0], 0.9) is None


def test_a_track_that_has_not_ended_lasts_though_it_is_hidden():
    identities, keys = people(("a", 0, 1))
    identities.appear(key("b", 1), 2, 3)
    identities.appear(key("b", 2), 4, 5)
    assert identities.link(key("b", 1), keys[0], 0.8) == []
    assert identities.link(key("b", 2), keys[0], 0.8) is None
    identities.end(key("b", 1))
    assert identities.link(key("b", 2), keys[0], 0.8) == []


def test_tracks_that_come_to_overlap_are_parted_at_their_weakest_match():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("a", 4, 5))
    identities.link(keys[1], keys[0], 0.7)
    identities.link(keys[2], keys[1], 0.9)
    assert identities.see(keys[0], 4.5) == [(keys[1], keys[0])]  # a feature that came late says so
    assert numbers(identities, keys) == [0, 1, 1]
    assert identities.see(keys[0], 4.2) == []


def test_two_tracks_kept_apart_by_hand_do_not_come_together_by_way_of_a_third():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("c", 4, 5))
    identities.link(keys[1], keys[0], 0.9)
    identities.forbid(keys[1], keys[0])
    identities.link(keys[2], keys[1], 0.9)
    assert identities.link(keys[2], keys[0], 0.92, margin=0.05) is None
    assert identities.link(keys[2], keys[0], 0.99, margin=0.05) == [(keys[2], keys[1])]


def test_who_was_connected_by_a_track_that_is_let_go_of_stays_connected_and_keeps_the_number():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("c", 4, 5))
    identities.link(keys[1], keys[0], 0.7)
    identities.link(keys[2], keys[1], 0.9)
    identities.drop(keys[1])
    assert identities.found(keys[2]) == (keys[0], 0.7)
    identities.drop(keys[0])
    assert (identities.number(keys[2]), identities.found(keys[2]), len(identities)) == (0, None, 1)


def test_who_was_kept_apart_from_a_track_that_is_let_go_of_is_kept_apart_from_those_it_stands_for():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("c", 4, 5))
    identities.link(keys[1], keys[0], 0.9)
    identities.forbid(keys[2], keys[0])
    identities.drop(keys[0])
    assert identities.link(keys[2], keys[1], 1.0) is None


def test_a_number_is_told_once_and_again_when_it_changes():
    identities, keys = people(("a", 0, 1), ("b", 2, 3))
    assert identities.renumbered() == [(keys[0], 0, None), (keys[1], 1, None)]
    identities.link(keys[1], keys[0], 0.9)
    assert identities.renumbered() == [(keys[1], 0, 1)]
    assert identities.renumbered() == []
    identities.forbid(keys[1], keys[0])
    assert identities.renumbered() == [(keys[1], 1, 0)]


def test_a_person_is_forgotten_with_all_tracks_and_matches():
    identities, keys = people(("a", 0, 1), ("b", 2, 3), ("c", 4, 5))
    identities.link(keys[1], keys[0], 0.9)
    identities.renumbered()
    assert identities.forget(0) == (keys[:2], [(keys[1], keys[0])])
    assert [one in identities for one in keys] == [False, False, True]
    with pytest.raises(ValueError, match="nobody bears the number 0"):
        identities.forget(0)


ACTS = st.one_of(
    st.tuples(st.just("appear"), st.sampled_from("abc"), st.integers(0, 3)),
    st.tuples(st.just("see"), st.integers(0, 99), st.integers(0, 3)),
    st.tuples(st.just("end"), st.integers(0, 99)),
    st.tuples(st.just("link"), st.integers(0, 99), st.integers(0, 99), st.integers(0, 20), st.sampled_from([0, 2])),
    st.tuples(st.just("forbid"), st.integers(0, 99), st.integers(0, 99)),
    st.tuples(st.just("drop"), st.integers(0, 99)),
)


class Slow:
    """Times of tracks and the matches that stand, and people as whatever these connect, looked for all over again each time."""

    def __init__(self) -> None:
        self.times: dict[TrackKey, list[float]] = {}
        self.matches: dict[frozenset[TrackKey], float] = {}
        self.apart: set[frozenset[TrackKey]] = set()
        self.ended: set[TrackKey] = set()

    def person(self, one: TrackKey) -> set[TrackKey]:
        found, size = {one}, 0
        while size != len(found):
            size = len(found)
            found |= {track for pair in self.matches for track in pair if pair & found}
        return found

    def together(self, one: TrackKey, other: TrackKey, overlapping: bool) -> bool:
        (start, end), (other_start, other_end) = (
            (self.times[track][0], self.times[track][1] if track in self.ended else float("inf")) for track in (one, other)
        )
        overlap = min(end, other_end) - max(start, other_start)
        return overlap >= 0 if one.camera == other.camera else overlap > 0 and not overlapping


@settings(max_examples=80)
@given(acts=st.lists(ACTS, max_size=40), overlapping=st.booleans())
def test_whatever_is_told_nobody_is_twice_in_a_camera_at_a_time_and_people_are_what_matches_connect(acts, overlapping):
    identities, slow, clock, dropped = Identities(lambda camera, other: overlapping), Slow(), 0.0, False
    for act, *told in acts:
        known = sorted(slow.times)
        if act == "appear":
            camera, step = told
            clock += step
            new = key(camera, len(slow.times) + 1000 * dropped)
            if new not in slow.times:
                identities.appear(new, clock, clock)
                slow.times[new] = [clock, clock]
            continue
        chosen = [known[number % len(known)] for number in told[: 2 if act in ("link", "forbid") else 1] if known]
        if not chosen or len(set(chosen)) != (2 if act in ("link", "forbid") else 1):
            continue
        undone: list = []
        if act == "see":
            clock += told[1]
            slow.times[chosen[0]][1] = clock
            undone = identities.see(chosen[0], clock)
        elif act == "end":
            identities.end(chosen[0])
            slow.ended.add(chosen[0])
        elif act == "link":
            similarity, margin = told[2] / 20, told[3] / 20
            before = dict(slow.matches)
            answer = identities.link(*chosen, similarity, margin)
            undone = answer or []
            assert all(slow.matches[frozenset(pair)] + margin < similarity for pair in undone)
            if answer is not None and chosen[1] not in slow.person(chosen[0]):
                slow.matches[frozenset(chosen)] = similarity
            if answer is None:
                assert before == slow.matches
        elif act == "forbid":
            undone = identities.forbid(*chosen)
            slow.apart.add(frozenset(chosen))
        elif not slow.person(chosen[0]) - {chosen[0]}:  # of a connected one the matches change, which other tests look at
            identities.drop(chosen[0])
            del slow.times[chosen[0]]
            slow.apart = {pair for pair in slow.apart if chosen[0] not in pair}
            dropped = True
        for pair in undone:
            del slow.matches[frozenset(pair)]
        assert list(identities.collisions()) == []
        for one, other in combinations(sorted(slow.times), 2):
            same = identities.number(one) == identities.number(other)
            assert same == (other in slow.person(one))
            assert not (same and (slow.together(one, other, overlapping) or frozenset((one, other)) in slow.apart))


@settings(max_examples=60)
@given(order=st.permutations(range(6)), links=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 20)), max_size=8))
def test_letting_go_of_tracks_changes_nobodys_number(order, links):
    identities, keys = people(*((camera, 2.0 * number, 2.0 * number + 1) for number, camera in enumerate("abcdef")))
    for one, other, similarity in links:
        if one != other:
            identities.link(keys[one], keys[other], similarity / 20)
    told = dict(zip(keys, numbers(identities, keys)))
    for number in order:
        identities.drop(keys[number])
        del told[keys[number]]
        assert {one: identities.number(one) for one in told} == told
    assert len(identities) == 0


def test_a_refused_wish_to_keep_apart_from_a_stranger_leaves_nothing_behind():
    identities, (one, _) = people(("a", 0, 1), ("b", 2, 3))
    with pytest.raises(ValueError, match="is not known"):
        identities.forbid(one, key("z", 9))
    identities.appear(key("z", 9), 4, 5)
    assert identities.link(key("z", 9), one, 0.9) == []


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda one, keys: one.appear(keys[0], 0, 0), "has appeared before"),
        (lambda one, keys: one.appear(key("z", 9), 5, 4), "seen_until must be"),
        (lambda one, keys: one.see(key("z", 9), 5), "is not known"),
        (lambda one, keys: one.see(keys[0], float("nan")), "seen_until must be"),
        (lambda one, keys: one.link(keys[1], keys[0], float("nan")), "similarity must be"),
        (lambda one, keys: one.link(keys[1], key("z", 9), 0.5), "is not known"),
        (lambda one, keys: one.forbid(keys[1], keys[1]), "cannot be kept apart from itself"),
        (lambda one, keys: one.drop(key("z", 9)), "is not known"),
        (lambda one, keys: Identities(slack=-1), "slack must be"),
    ],
)
def test_what_cannot_be_told_is_refused(act, told):
    identities, keys = people(("a", 0, 1), ("b", 2, 3))
    with pytest.raises(ValueError, match=told):
        act(identities, keys)
