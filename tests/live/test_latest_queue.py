"""A queue between two threads that keeps what is latest."""

from __future__ import annotations

import threading

import pytest

from lightning_reid.live.latest_queue import LatestQueue


def taken(queue: LatestQueue) -> list:
    queue.close()
    return list(queue)


def test_the_oldest_makes_room_for_the_latest_and_is_counted():
    queue = LatestQueue[int](capacity=2)
    assert [queue.put(number) for number in range(5)] == [None, None, 0, 1, 2]
    assert (queue.num_dropped, len(queue)) == (3, 2)
    assert taken(queue) == [3, 4]


def test_what_may_not_be_dropped_stays_in_its_place_and_takes_no_room():
    queue = LatestQueue[str](capacity=2)
    for item in ("a", "END", "b", "c"):
        queue.put(item, rest=item if item == "END" else None)
    assert taken(queue) == ["END", "b", "c"]


def test_of_what_is_dropped_its_rest_stays_in_its_place():
    queue = LatestQueue[str](capacity=1)
    assert queue.put("clips and ends", rest="ends") is None
    assert queue.put("more clips") == "clips and ends"
    assert queue.num_dropped == 1
    assert taken(queue) == ["ends", "more clips"]


def test_where_nothing_is_dropped_whoever_puts_waits_until_there_is_room():
    queue, put = LatestQueue[int](capacity=2, drops=False), []

    def fill() -> None:
        for number in range(50):
            queue.put(number)
            put.append(number)
        queue.close()

    thread = threading.Thread(target=fill)
    thread.start()
    took = []
    for number in queue:
        took.append(number)
        assert len(put) <= number + 4  # two that wait, the one in work, and the one that was just put
    thread.join()
    assert took == list(range(50))
    assert queue.num_dropped == 0


def test_join_waits_for_the_item_in_work():
    queue, order = LatestQueue[int](), []
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        for _ in queue:
            begun.set()
            go_on.wait(5)
            order.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    queue.put(1)
    assert begun.wait(5)
    threading.Timer(0.05, go_on.set).start()
    queue.join()
    order.append("joined")
    queue.close()
    thread.join()
    assert order == ["worked", "joined"]


def test_nobody_waits_for_a_thread_that_has_failed():
    queue = LatestQueue[int](capacity=1, drops=False)
    queue.put(1)
    threading.Timer(0.05, queue.abandon).start()
    queue.put(2)
    queue.join()
    assert list(queue) == []


def test_a_queue_of_nothing_is_refused():
    with pytest.raises(ValueError, match="capacity must be a whole number of at least 1, got 0"):
        LatestQueue(0)
