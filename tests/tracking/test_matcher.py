"""The matcher of all cameras: what it announces for what it is told, what it refuses, and that a replay announces the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import MODEL, direction, ended, frame, key, looks

from lightning_reid.tracking import (
    CameraGone,
    CameraRestarted,
    CameraTracks,
    ForgetIdentity,
    IdentityEvent,
    Match,
    MatchingRules,
    MatchUndone,
    OnlineMatcher,
    TrackKey,
    TransitGates,
    UndoMatch,
    read_message,
    write_message,
)

ANNA, BERT, NEARLY_ANNA = direction(1, 0, 0, 0), direction(0, 1, 0, 0), direction(1, 0.5, 0, 0)


def matcher(**options: Any) -> OnlineMatcher:
    named = {name: options.pop(name) for name in ("gates", "capacity", "keep_for", "max_ahead") if name in options}
    return OnlineMatcher(MatchingRules(**{"threshold": 0.7} | options), feature_size=4, model=MODEL, **named)


def feed(to: OnlineMatcher, *messages: Any) -> list[Any]:
    return [event for message in messages for event in to.feed(message)]


def matches(events: list[Any]) -> list[tuple[TrackKey, TrackKey]]:
    return [(event.track, event.other) for event in events if isinstance(event, Match)]


def visit(camera: str, track: int, feature: torch.Tensor, first: int, last: int) -> list[Any]:
    """A person who is seen from one frame to another in a camera by themselves."""
    frames = [frame(camera, number, track) for number in range(first, last + 1)]
    return [frames[0], looks(camera, track, feature, first), *frames[1:], ended(camera, track, last)]


def test_a_person_who_leaves_a_camera_is_found_when_they_enter_another():
    one = matcher()
    events = feed(one, *visit("door", 7, ANNA, 0, 5), *visit("yard", 8, BERT, 2, 6), frame("hall", 50, 3), looks("hall", 3, ANNA, 50))
    assert matches(events) == []
    events = feed(one, frame("hall", 51, 3))
    assert events == [
        Match(key("hall", 3), key("door", 7), similarity=1.0, identity=0, at=5.1),
        IdentityEvent(key("hall", 3), identity=0, previous=2, at=5.1),
    ]
    assert one.identity(key("hall", 3)) == one.identity(key("door", 7)) == 0


@pytest.mark.parametrize(("wait", "number"), [({}, 41), ({"every_n_frames": None, "every_seconds": 2.0}, 21)])
def test_a_track_asks_every_forty_frames_or_by_the_time_of_capture(wait, number):
    one = matcher(overlapping=(("door", "hall"),), **wait)
    feed(one, frame("hall", 0, 3), looks("hall", 3, ANNA, 0), frame("hall", 1, 3))  # asks and finds nobody
    feed(one, *visit("door", 7, ANNA, 0, 0))
    assert [count for count in range(2, 90) if matches(feed(one, frame("hall", count, 3)))] == [number]


@pytest.mark.parametrize(("mode", "overlapping", "found"), [("left", (), 0), ("live", (), 1), ("left", (("door", "hall"),), 1)])
def test_who_enters_before_the_exit_is_found_in_overlapping_views_alone(mode, overlapping, found):
    one = matcher(memory=mode, overlapping=overlapping)
    messages = [frame("door", 0, 7), looks("door", 7, ANNA, 0), frame("hall", 3, 3), frame("door", 5, 7), ended("door", 7, 5)]
    events = feed(one, *messages, looks("hall", 3, ANNA, 3), frame("hall", 6, 3))
    assert len(matches(events)) == found


@pytest.mark.parametrize(("own_camera", "found"), [(False, []), (True, [(key("door", 8), key("door", 7))])])
def test_a_person_who_comes_back_to_the_camera_that_they_left_is_found_if_the_rules_say_so(own_camera, found):
    events = feed(matcher(own_camera=own_camera), *visit("door", 7, ANNA, 0, 5), *visit("door", 8, ANNA, 20, 25))
    assert matches(events) == found


def test_a_person_who_is_still_seen_is_found_in_the_live_mode():
    one, two = matcher(memory="live"), matcher(memory="left")
    messages = [frame("door", 0, 7), looks("door", 7, ANNA, 0), frame("hall", 3, 3), looks("hall", 3, ANNA, 3), frame("hall", 4, 3)]
    assert matches(feed(one, *messages)) == [(key("hall", 3), key("door", 7))]
    assert matches(feed(two, *messages)) == []


def test_of_two_who_enter_at_once_each_gets_another_so_that_both_fit():
    one, between = matcher(threshold=0.4), direction(1, 0.8, 0, 0)
    feed(one, *visit("door", 1, ANNA, 0, 5), *visit("yard", 2, BERT, 0, 5))
    feed(one, frame("hall", 20, 5, 6), looks("hall", 5, between, 20), looks("hall", 6, ANNA, 20))
    assert matches(feed(one, frame("hall", 21, 5, 6))) == [(key("hall", 6), key("door", 1)), (key("hall", 5), key("yard", 2))]


def test_a_better_match_undoes_one_and_says_so_without_rewriting_it():
    one = matcher()
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 20, 3), looks("hall", 3, NEARLY_ANNA, 20), frame("hall", 21, 3))
    events = feed(one, frame("yard", 22, 8), looks("yard", 8, ANNA, 22), frame("yard", 23, 8))
    assert [type(event) for event in events] == [IdentityEvent, MatchUndone, Match, IdentityEvent, IdentityEvent]
    assert events[1] == MatchUndone(key("hall", 3), key("door", 7), reason="better match", at=2.3)
    assert [(event.track, event.identity, event.previous) for event in events[3:]] == [(key("hall", 3), 1, 0), (key("yard", 8), 0, 2)]


def test_a_match_that_is_hardly_better_undoes_none():
    one = matcher(margin=0.2)
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 20, 3), looks("hall", 3, NEARLY_ANNA, 20), frame("hall", 21, 3))
    assert matches(feed(one, frame("yard", 22, 8), looks("yard", 8, ANNA, 22), frame("yard", 23, 8))) == []


def test_a_match_is_as_good_as_its_track_looks_by_now():
    one = matcher()
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 20, 3), looks("hall", 3, NEARLY_ANNA, 20), frame("hall", 21, 3))
    feed(one, looks("hall", 3, ANNA, 20, 60, count=2), *(frame("hall", number, 3) for number in range(22, 63)))  # asks again
    slightly = direction(1, 0.3, 0, 0)  # 0.958, above 0.894 and the margin of 0.05, below 1
    assert matches(feed(one, frame("yard", 64, 8), looks("yard", 8, slightly, 64), frame("yard", 65, 8))) == []


def test_who_has_waited_half_of_the_time_asks_along_with_those_who_are_due():
    one = matcher(overlapping=(("door", "hall"),))
    feed(one, frame("hall", 0, 1), looks("hall", 1, ANNA, 0), *(frame("hall", number, 1) for number in range(1, 16)))  # asks at 1
    feed(one, looks("hall", 2, BERT, 16), *(frame("hall", number, 1, 2) for number in range(16, 40)))  # asks at 16, 1 has not waited half
    feed(one, *visit("door", 7, ANNA, 0, 0), *visit("yard", 8, BERT, 0, 0))
    found = [matches(feed(one, frame("hall", number, 1, 2))) for number in range(40, 60)]
    assert found[:2] == [[], [(key("hall", 1), key("door", 7)), (key("hall", 2), key("yard", 8))]]
    assert not any(found[2:])


def test_a_person_who_is_hidden_for_a_moment_is_not_also_somebody_else_in_that_camera():
    one = matcher()
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 10, 3), looks("hall", 3, ANNA, 10), frame("hall", 11, 3))
    hidden = feed(one, frame("hall", 12, 4), looks("hall", 4, ANNA, 12), *(frame("hall", number, 4) for number in range(13, 60)))
    assert matches(hidden) == []
    assert matches(feed(one, ended("hall", 3, 11), *(frame("hall", number, 4) for number in range(60, 101)))) == [
        (key("hall", 4), key("door", 7))
    ]
    assert one.identity(key("hall", 3)) == one.identity(key("hall", 4)) == 0


def test_a_gate_lets_nobody_through_who_was_too_fast():
    one = matcher(gates=TransitGates({("door", "hall"): (5.0, 60.0)}))
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 20, 3), looks("hall", 3, ANNA, 20))
    assert matches(feed(one, frame("hall", 21, 3))) == []


def test_a_gate_is_between_the_last_sight_of_a_person_and_the_next():
    one = matcher(gates=TransitGates({("hall", "yard"): (5.0, 60.0)}))
    feed(one, *visit("door", 7, ANNA, 0, 5), *visit("hall", 3, ANNA, 20, 25))
    assert one.identity(key("hall", 3)) == 0
    assert matches(feed(one, frame("yard", 30, 8), looks("yard", 8, ANNA, 30), frame("yard", 31, 8))) == []  # though the door is long ago


def test_gates_learn_from_matches_that_stand_when_their_track_ends():
    one = matcher(gates=TransitGates(learn=True, min_matches=2))
    for number in range(0, 400, 100):
        feed(one, *visit("door", number, ANNA, number, number + 5), *visit("hall", number, ANNA, number + 25, number + 30))
    assert one.gates.bounds("door", "hall") == pytest.approx((0.0, 4.0))
    assert one.gates.bounds("hall", "door") == pytest.approx((5.0, 9.0))


def test_a_restart_ends_the_old_tracks_and_ids_that_begin_again_are_others():
    one = matcher()
    feed(one, frame("door", 0, 7), looks("door", 7, ANNA, 0))
    events = feed(one, frame("door", 0, 7, epoch=1, offset=-0.0))
    assert events == [
        CameraRestarted("door", epoch=1, previous=0, clock_change=0.0, at=0.0),
        IdentityEvent(key("door", 7, epoch=1), identity=1, previous=None, at=0.0),
    ]
    assert matches(feed(one, frame("hall", 5, 3), looks("hall", 3, ANNA, 5), frame("hall", 6, 3))) == [(key("hall", 3), key("door", 7))]


def test_a_clock_that_was_set_back_is_told():
    one = matcher()
    feed(one, frame("door", 100, 7, offset=1000.0))
    (restarted, _) = feed(one, frame("door", 0, 7, epoch=1))
    assert restarted.clock_change == pytest.approx(-1010.0)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            frame("door", 4, 7, epoch=1),
            "frame 4 came after frame 4 of epoch 1: two nodes may bear the name 'door', or a frame was sent twice",
        ),
        (frame("door", 3, 7, epoch=1), "frame 3 came after frame 4 of epoch 1"),
        (frame("door", 9, 7, epoch=0), "a frame of epoch 0 came after one of epoch 1"),
        (frame("door", 5, 7, epoch=1, offset=-0.3), r"captured_utc went back by 0.200 s within epoch 1: after a jump of its clock"),
        (frame("door", 5, 8, epoch=1), r"track_id=8.* is seen in frame 5 after its end"),
        (looks("door", 7, ANNA, 4, epoch=1), "a mean of 1 features came after one of 1: it was sent twice"),
        (looks("door", 7, direction(1, 0), 4, count=2, epoch=1), "its feature is of 2 numbers by 'resnet18', expected 4"),
        (replace(looks("door", 7, ANNA, 4, count=2, epoch=1), model="nvan"), "of 4 numbers by 'nvan', expected 4 by 'resnet18'"),
        (ended("door", 7, 2, epoch=1), r"ended at 0.2, before it appeared at 0.3"),
        (UndoMatch(key("door", 7, 1), key("hall", 3)), r"camera='hall'.* is not known"),
        (ForgetIdentity(99), "nobody bears the number 99"),
        (
            Match(key("a", 1), key("b", 2), 0.5, 0, 0.0),
            "a matcher takes CameraTracks, TrackFeature, TrackEnded, UndoMatch, ForgetIdentity, CameraGone, got",
        ),
    ],
)
def test_a_message_that_cannot_be_right_is_refused_by_name_and_changes_nothing(message, told):
    before = [frame("door", 3, 7, 8, epoch=1), looks("door", 8, ANNA, 3, epoch=1), ended("door", 8, 3, epoch=1)]
    before += [frame("door", 4, 7, epoch=1), looks("door", 7, BERT, 4, epoch=1)]
    after = [frame("door", 6, 7, 9, epoch=1), frame("hall", 20, 3), looks("hall", 3, ANNA, 20), frame("hall", 21, 3), frame("hall", 70, 3)]
    tried, other = matcher(), matcher()
    feed(tried, *before)
    feed(other, *before)
    with pytest.raises(ValueError, match=told):
        tried.feed(message)
    assert feed(tried, *after) == feed(other, *after)


def test_a_clock_far_from_the_matchers_own_is_refused_and_wipes_no_memory():
    one = matcher(keep_for=100.0, max_ahead=10.0)
    for message in visit("door", 7, ANNA, 0, 5):
        one.feed(message, received=0.6)
    with pytest.raises(ValueError, match=r"a frame of hall is 999.5 s ahead of the matcher's clock, more than 10: set its clock"):
        one.feed(frame("hall", 1, 3, offset=1000.0), received=0.6)
    with pytest.raises(ValueError, match=r"a feature of TrackKey.* is 199.0 s behind the matcher's clock, tracks are kept for 100"):
        one.feed(looks("hall", 3, ANNA, 10), received=200.0)
    assert key("door", 7) in one.memory


def test_what_was_not_seen_for_long_is_let_go_of_whether_it_ended_or_not():
    one = matcher(keep_for=100.0)
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("yard", 0, 8), looks("yard", 8, ANNA, 0))
    feed(one, frame("hall", 1030, 3), frame("hall", 1045))
    assert (len(one.memory), len(one.identities), list(one._live)) == (0, 1, [key("hall", 3)])


def test_memory_stays_as_large_as_it_is_and_who_is_let_go_of_leaves_the_number_to_others():
    one = matcher(capacity=5)
    for number in range(0, 2000, 20):
        feed(one, *visit("door" if number % 40 else "hall", number, ANNA if number < 1000 else BERT, number, number + 3))
        assert len(one.identities) <= 6
        assert len(one.memory) <= 5
    assert {one.identity(track) for track in one.memory._places} == {50}  # the first of the second half


def test_a_person_is_forgotten_at_once_and_what_their_tracks_tell_later_too():
    one = matcher(memory="live")
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 20, 3), looks("hall", 3, ANNA, 20), frame("hall", 21, 3))
    events = feed(one, ForgetIdentity(0))
    assert events == [
        MatchUndone(key("hall", 3), key("door", 7), reason="forgotten", at=2.1),
        IdentityEvent(key("hall", 3), identity=2, previous=None, at=2.1),
    ]
    assert (
        feed(one, looks("door", 7, ANNA, 0, count=2), looks("hall", 3, ANNA, 20, 22, count=2), frame("hall", 22, 3), ended("hall", 3, 22))
        == []
    )
    assert (len(one.memory), len(one.identities)) == (0, 0)
    assert not one.memory._features.any()


def test_a_match_undone_by_hand_is_not_made_again():
    one = matcher()
    feed(one, *visit("door", 7, ANNA, 0, 5), frame("hall", 20, 3), looks("hall", 3, ANNA, 20), frame("hall", 21, 3))
    events = feed(one, UndoMatch(key("hall", 3), key("door", 7)))
    assert [type(event) for event in events] == [MatchUndone, IdentityEvent]
    assert events[0].reason == "by hand"
    assert matches(feed(one, *(frame("hall", number, 3) for number in range(22, 200)))) == []


def test_a_feature_that_comes_after_the_end_is_still_learned():
    one = matcher()
    feed(one, *visit("door", 7, BERT, 0, 5), looks("door", 7, ANNA, 0, 5, count=2))
    assert matches(feed(one, frame("hall", 20, 3), looks("hall", 3, ANNA, 20), frame("hall", 21, 3))) == [(key("hall", 3), key("door", 7))]


def test_a_feature_that_comes_after_the_end_of_its_epoch_is_of_a_track_that_is_over():
    one = matcher()
    feed(one, frame("door", 0, 7), frame("door", 5, 7), frame("door", 6, epoch=1))  # a restart, before the track had a feature
    feed(one, looks("door", 7, ANNA, 0, 5))
    assert one.identities.presences.transit(key("door", 7), 2.0) == (pytest.approx(1.5), True)
    assert len(one.memory) == 1
    assert matches(feed(one, frame("hall", 20, 3), looks("hall", 3, ANNA, 20), frame("hall", 21, 3))) == [(key("hall", 3), key("door", 7))]
    feed(one, looks("door", 7, BERT, 0, 5, count=2))
    assert list(one._live) == [key("hall", 3)]


def test_nobody_who_was_not_in_a_frame_asks():
    one = matcher()
    feed(one, *visit("door", 7, ANNA, 0, 5), looks("hall", 3, ANNA, 20))  # told late, of a track that was over before the node was back
    assert matches(feed(one, frame("hall", 30), frame("hall", 90))) == []


@pytest.mark.parametrize("mode", ["left", "live"])
def test_who_was_in_view_of_a_camera_that_died_is_found_elsewhere_and_parted_once_it_is_back_with_them_in_view(mode):
    one = matcher(memory=mode, overlapping=() if mode == "left" else (("door", "hall"),))
    feed(one, frame("door", 0, 7), looks("door", 7, ANNA, 0), frame("door", 1, 7))
    feed(one, frame("yard", 30, 2), looks("yard", 2, BERT, 30), CameraGone("door"))
    events = feed(one, frame("hall", 50, 3), looks("hall", 3, ANNA, 50), frame("hall", 51, 3))
    assert matches(events) == [(key("hall", 3), key("door", 7))]
    events = feed(one, frame("door", 52, 7))
    parted = [MatchUndone(key("hall", 3), key("door", 7), "twice at a time", 5.2), IdentityEvent(key("hall", 3), 2, 0, 5.2)]
    assert events == (parted if mode == "left" else [])
    assert one.identity(key("door", 7)) == 0
    assert feed(one, frame("door", 53, 7), ended("door", 7, 53)) == []


def test_a_camera_that_nobody_knows_may_be_gone_too_and_is_so_twice():
    one = matcher()
    feed(one, frame("door", 0, 7), looks("door", 7, ANNA, 0))
    assert feed(one, CameraGone("yard"), CameraGone("door"), CameraGone("door"), looks("door", 7, ANNA, 0, 1, count=2)) == []
    events = feed(one, frame("hall", 50, 3), looks("hall", 3, ANNA, 50), frame("hall", 51, 3))
    assert matches(events) == [(key("hall", 3), key("door", 7))]


FEATURES = [ANNA, BERT, NEARLY_ANNA, direction(1, 1, 0, 0), direction(0, 0, 1, 0.2)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["frame"] * 6 + ["looks"] * 5 + ["ended"] * 2 + ["restart", "undo", "forget", "gone"]),
        st.sampled_from("abc"),
        st.sets(st.integers(0, 3), max_size=3),
        st.integers(0, 4),
        st.sampled_from([1, 1, 2, 15, 41, -20]),
    ),
    max_size=60,
)


def told(steps: list[Any]) -> list[Any]:
    """Messages of three cameras, whose clocks may jump back when they restart; some cannot be right."""
    epochs, numbers, counts, offsets = {}, {}, {}, dict[str, float]()
    messages: list[Any] = []
    for act, camera, ids, which, step in steps:
        epoch, track = epochs.setdefault(camera, 0), min(ids, default=0)
        if act == "frame":
            numbers[camera] = numbers.get(camera, 100) + step
            messages.append(frame(camera, numbers[camera], *sorted(ids), epoch=epoch, offset=offsets.get(camera, 0.0)))
        elif act == "looks":
            counts[camera, track] = counts.get((camera, track), 0) + 1
            messages.append(looks(camera, track, FEATURES[which], numbers.get(camera, 100), count=counts[camera, track], epoch=epoch))
        elif act == "ended":
            messages.append(ended(camera, track, numbers.get(camera, 100), epoch=epoch))
        elif act == "restart":
            epochs[camera], offsets[camera] = epoch + 1, max(offsets.get(camera, 0.0) + min(step, 3), -5.0)
        elif act == "undo":
            messages.append(UndoMatch(key(camera, track, epoch), key("a", which, epochs.get("a", 0))))
        elif act == "gone":
            messages.append(CameraGone(camera))
        else:
            messages.append(ForgetIdentity(which))
    return messages


def announced(to: OnlineMatcher, messages: list[Any]) -> list[tuple[Any, list[Any]]]:
    """What is answered to each message that is not refused."""
    answers = []
    for message in messages:
        try:
            answers.append((message, to.feed(message)))
        except ValueError:
            answers.append((message, ["refused"]))
    return answers


@settings(max_examples=100)
@given(
    steps=STEPS,
    mode=st.sampled_from(["left", "live"]),
    overlapping=st.sampled_from([(), (("a", "b"),)]),
    capacity=st.sampled_from([2, 50]),
    own_camera=st.booleans(),
)
def test_whatever_comes_nobody_is_twice_in_a_camera_and_a_replay_announces_the_same(steps, mode, overlapping, capacity, own_camera):
    options = {"threshold": 0.6, "memory": mode, "overlapping": overlapping, "capacity": capacity, "every_n_frames": 2}
    options["own_camera"] = own_camera
    one, numbers = matcher(**options), dict[TrackKey, int]()
    messages = told(steps)
    answers = announced(one, messages)
    for message, events in answers:
        for event in events:
            if isinstance(event, IdentityEvent):
                assert event.previous is None or event.previous == numbers[event.track]
                numbers[event.track] = event.identity
        if isinstance(message, CameraTracks) and events != ["refused"]:
            shown = [numbers[track] for track in message.keys]
            assert len(set(shown)) == len(shown)
    assert list(one.identities.collisions()) == []
    assert len(one.memory) <= capacity
    assert all(one.identity(track) == numbers[track] for track in one.identities._nodes)
    assert {*one.identities._nodes} == {*one._live} | {*one.memory._places}
    again = announced(matcher(**options), [read_message(write_message(message)) for message in messages])
    assert again == answers


def test_the_messages_of_the_property_do_match_people_and_part_them():
    """Otherwise the property would hold for a matcher that does nothing."""
    draw = torch.Generator().manual_seed(0)

    def number(high: int) -> int:
        return int(torch.randint(high, (1,), generator=draw))

    acts = ["frame"] * 12 + ["looks"] * 10 + ["ended"] * 2 + ["restart", "gone"] + ["undo"] * 3
    steps = [(acts[number(len(acts))], "abc"[number(3)], {number(4), number(4)}, number(5), [1, 2, 15][number(3)]) for _ in range(600)]
    events = [event for _, some in announced(matcher(threshold=0.6, memory="live", every_n_frames=2), told(steps)) for event in some]
    reasons = {event.reason for event in events if isinstance(event, MatchUndone)}
    assert len(matches([event for event in events if event != "refused"])) > 20
    assert {"better match", "by hand"} <= reasons
    assert events.count("refused") > 5
