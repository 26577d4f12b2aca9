"""What a node keeps for its gateway, and what it lets go of."""

from __future__ import annotations

import random
import threading

import pytest
from tracked import MODEL, direction, ended, frame, looks

from lightning_reid.live import Outbox
from lightning_reid.tracking import CameraTracks, MatchingRules, OnlineMatcher, StageHealth, TrackEnded, TrackFeature, read_message

LOOK = direction(1, 2, 3, 4)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(outbox: Outbox, num_bytes: int = 2**16) -> list[object]:
    return [read_message(one) for one in outbox.take(num_bytes)]


def kinds(outbox: Outbox) -> list[str]:
    return [type(one).__name__ for one in taken(outbox)]


def test_messages_go_in_the_order_in_which_they_were_put():
    outbox = Outbox()
    told = [frame("door", 1, 7), looks("door", 7, LOOK, 1), frame("door", 2, 7), ended("door", 7, 2), frame("door", 3)]
    for message in told:
        outbox.put(message)
    assert taken(outbox) == told


def test_of_a_track_one_feature_goes_in_four_seconds_and_the_last_one_before_its_end():
    outbox = Outbox(feature_interval=4.0)
    sent = []
    for number in range(100):
        outbox.put(frame("door", number, 7))
        outbox.put(looks("door", 7, LOOK, 0, number, count=number + 1))
        sent += [one for one in taken(outbox) if isinstance(one, TrackFeature)]
    assert [one.num_features for one in sent] == [1, 41, 81]
    outbox.put(ended("door", 7, 99))
    last = taken(outbox)
    assert [type(one) for one in last] == [TrackFeature, TrackEnded]
    assert last[0].num_features == 100


def test_a_feature_that_was_held_back_goes_when_no_newer_one_comes():
    outbox = Outbox(feature_interval=4.0)
    outbox.put(looks("door", 7, LOOK, 0))
    outbox.put(looks("door", 7, LOOK, 0, 10, count=2))
    sent = []
    for number in range(10, 70):
        outbox.put(frame("door", number))
        sent += [(number, one.num_features) for one in taken(outbox) if isinstance(one, TrackFeature)]
    assert sent == [(10, 1), (50, 2)]


def test_the_features_of_an_epoch_go_before_the_first_frame_of_the_next():
    outbox = Outbox()
    for count in (1, 2):
        outbox.put(looks("door", 7, LOOK, 0, count, count=count))
    outbox.put(frame("door", 5, 7, epoch=1))
    assert [getattr(one, "num_features", "frame") for one in taken(outbox)] == [2, "frame"]  # the latest alone


def test_while_nobody_takes_anything_the_oldest_frames_go_and_features_and_ends_stay():
    outbox = Outbox(most_frames=3)
    for number in range(10):
        outbox.put(frame("door", number, 7))
    outbox.put(looks("door", 7, LOOK, 0))
    outbox.put(ended("door", 7, 9))
    outbox.put(StageHealth("door", "decode", 1.0, "live", 1, 0, 0, 0.0))
    assert kinds(outbox) == ["CameraTracks", "CameraTracks", "TrackFeature", "TrackEnded", "StageHealth"]
    assert outbox.num_dropped_frames == 8


def test_frames_that_waited_too_long_are_not_sent():
    outbox = Outbox(fresh=2.0, clock=(clock := Clock()))
    outbox.put(frame("door", 1, 7))
    outbox.put(ended("door", 7, 1))
    clock.now = 2.5
    outbox.put(frame("door", 2))
    assert [type(one) for one in taken(outbox)] == [TrackEnded, CameraTracks]
    assert outbox.num_dropped_frames == 1


def test_after_a_broken_connection_features_and_ends_are_sent_again_in_order_and_frames_are_not():
    outbox = Outbox(feature_interval=0.0)
    for message in (frame("door", 1, 7, 8), looks("door", 7, LOOK, 1), looks("door", 8, LOOK, 1), ended("door", 7, 1)):
        outbox.put(message)
    assert len(outbox.take()) == 4
    outbox.put(looks("door", 8, LOOK, 1, 2, count=2))  # in place of the one that may have been lost
    outbox.put(frame("door", 2, 8))
    outbox.connection_lost()
    again = taken(outbox)
    assert [type(one) for one in again] == [TrackFeature, TrackEnded, TrackFeature, CameraTracks]
    assert [one.num_features for one in again if isinstance(one, TrackFeature)] == [1, 2]
    assert outbox.num_dropped_frames == 1
    outbox.batch_taken()
    outbox.connection_lost()
    assert outbox.take() == []
    assert (outbox.num_sent, len(outbox)) == (4, 0)


def test_a_batch_is_as_large_as_is_asked_but_holds_one_message_at_least():
    outbox = Outbox()
    for number in range(10):
        outbox.put(frame("door", number, 7, 8))
    one = len(outbox.take(1)[0])
    assert len(outbox.take(3 * one + 20)) == 3


def test_a_gateway_that_takes_what_was_not_sent_is_an_error():
    with pytest.raises(ValueError, match="was not sent"):
        Outbox().batch_taken()


def test_a_gateway_that_is_gone_for_days_costs_bounded_memory_and_what_is_dropped_is_counted():
    outbox = Outbox(most_tracks=20, most_frames=5)
    for person in range(500):
        outbox.put(frame("door", person, person))
        outbox.put(looks("door", person, LOOK, person))
        if person % 3:  # some are never ended
            outbox.put(ended("door", person, person))
    assert len(outbox) == 45
    assert outbox.num_dropped_tracks == 500 + 333 - 40
    assert len(outbox._thinner._passed) <= 20
    waiting = [one for one in taken(outbox) if not isinstance(one, CameraTracks)]
    assert [one.track_id for one in waiting if isinstance(one, TrackEnded)][-1] == 499
    assert min(one.track_id for one in waiting) > 450


def test_many_threads_may_put():
    outbox = Outbox(most_frames=1000)
    threads = [threading.Thread(target=lambda name=name: [outbox.put(frame(name, number)) for number in range(100)]) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = taken(outbox, 2**24)
    assert all([one.stamp.number for one in told if one.stamp.camera == name] == list(range(100)) for name in "abc")


def visits(seed: int) -> list[object]:
    """People who come to a door and go, each with some features; now and then the tracker restarts."""
    draw, told = random.Random(seed), list[object]()
    there: dict[int, int] = {}
    epoch = ids = 0
    for number in range(250):
        for one in [one for one in there if draw.random() < 0.1]:
            told.append(ended("door", one, number - 1, epoch=epoch))
            del there[one]
        if draw.random() < 0.02:
            epoch, ids, there = epoch + 1, 0, {}
        if draw.random() < 0.2:
            there[ids], ids = 0, ids + 1
        told.append(frame("door", number, *there, epoch=epoch))
        for one in there:
            if draw.random() < 0.3:
                there[one] += 1
                told.append(looks("door", one, LOOK, number, count=there[one], epoch=epoch))
    return told


@pytest.mark.parametrize("seed", range(6))
def test_however_often_the_connection_breaks_a_matcher_learns_all_that_is_kept_and_refuses_only_what_it_had(seed):
    draw, outbox, told = random.Random(seed), Outbox(feature_interval=1.0, fresh=2.0, clock=(clock := Clock())), visits(seed)
    matcher = OnlineMatcher(MatchingRules(threshold=0.6), feature_size=4, model=MODEL)
    refused, broken = list[str](), 0

    def feed(messages: list[object]) -> None:
        for message in messages:
            try:
                matcher.feed(message)
            except ValueError as error:
                refused.append(str(error))

    for message in told:
        clock.now += 0.05
        outbox.put(message)
        batch = taken(outbox, draw.randint(1, 2000)) if draw.random() < 0.5 else []
        if batch and draw.random() < 0.2:
            feed(batch[: draw.randrange(len(batch) + 1)])  # some of it had arrived
            outbox.connection_lost()
            broken += 1
        elif batch:
            feed(batch)
            outbox.batch_taken()
    while batch := taken(outbox):
        feed(batch)
        outbox.batch_taken()
    assert broken > 5
    assert all("it was sent twice" in one for one in refused)
    looked, over = ({one.key for one in told if isinstance(one, kind)} for kind in (TrackFeature, TrackEnded))
    assert len(over & looked) > 10
    assert all(key in matcher.memory for key in over & looked)
    assert not any(key in matcher._live for key in over)
