"""A node and a gateway, on real sockets."""

from __future__ import annotations

import threading
import time

import pytest
from links import Running, Wire, link, now_ended, now_frame, now_looks, running, until
from tracked import direction

from lightning_reid.live import Outbox, node_link
from lightning_reid.tracking import CameraTracks, IdentityEvent, Match, TrackEnded, TrackFeature


def test_what_two_nodes_tell_is_matched(tmp_path):
    look = direction(1, 2, 3, 4)
    with running(tmp_path) as gateway, link(gateway.address, "door") as door, link(gateway.address, "hall") as hall:
        door.put(now_frame("door", 0, 7))
        door.put(now_looks("door", 7, look))
        door.put(now_ended("door", 7))
        until(lambda: gateway.of(TrackEnded))
        for number in range(10):
            hall.put(now_frame("hall", number, 3))
            if not number:
                hall.put(now_looks("hall", 3, look))
            until(lambda number=number: len(gateway.of(CameraTracks)) == 2 + number)
        events = [event for one in gateway.told for event in one.events]
        assert [event.identity for event in events if isinstance(event, Match)] == [0]
        assert [event.identity for event in events if isinstance(event, IdentityEvent)] == [0, 1, 0]
        assert gateway.refused == []
        assert abs(door.clock_offset) < 5


def test_after_a_cut_the_node_tells_again_what_must_not_be_lost_and_no_stale_frame(tmp_path):
    now = [0.0]
    with running(tmp_path) as gateway:
        wire = Wire(gateway.server.port)
        with link(wire.address, "door", outbox=Outbox(fresh=2.0, clock=lambda: now[0])) as door:
            began = time.time()
            door.put(now_frame("door", 0, 7, 8))
            until(lambda: not len(door.outbox))
            wire.cut()
            until(lambda: not door.connected)
            door.put(now_frame("door", 1, 7, 8))
            door.put(now_looks("door", 7, direction(1, 2, 3, 4), since=began))
            door.put(now_ended("door", 7))
            now[0] = 3.0
            wire.join()
            until(lambda: gateway.of(TrackEnded))
            assert [one.track_id for one in gateway.of(TrackFeature)] == [7]
            door.put(now_frame("door", 2, 8))
            until(lambda: not len(door.outbox))
            assert [one.stamp.number for one in gateway.of(CameraTracks)] == [0, 2]
            assert door.outbox.num_dropped_frames >= 1
            assert gateway.refused == []
        wire.close()


def test_a_link_that_fails_says_so_where_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(node_link, "write_hello", lambda hello: 1 / 0)
    with running(tmp_path) as gateway:
        door = link(gateway.address, "door")
        assert door.wait_until_answered(20)
        with pytest.raises(RuntimeError, match=r"the link to ws://localhost:\d+ has failed") as failure:
            door.put(now_frame("door", 0, 7))
        assert isinstance(failure.value.__cause__, ZeroDivisionError)
        with pytest.raises(RuntimeError, match="has failed"):
            door.close()


def test_a_link_takes_messages_of_its_cameras_alone(tmp_path):
    refused = pytest.raises(ValueError, match=r"is for \['door'\], not for camera 'hall'")
    with running(tmp_path) as gateway, link(gateway.address, "door") as door, refused:
        door.put(now_frame("hall", 0, 7))


def test_a_gateway_whose_listener_fails_ends_with_the_reason(tmp_path):
    def fail(told):
        raise OSError("no space left")

    one = Running(tmp_path, listeners=[fail])
    with link(one.address, "door") as door:
        until(lambda: door.connected)
        door.put(now_frame("door", 0, 7))
        with pytest.raises(RuntimeError, match="a listener failed"):
            one.gateway.wait(one.server, threading.Event(), 20)
    with pytest.raises(RuntimeError, match="a listener failed"):
        one.close()


@pytest.mark.parametrize("address", ["ws://10.0.0.1:8080", "http://localhost:80", "wss://gateway", "ws://[::1", "localhost:80"])
def test_an_address_that_is_none_or_not_private_is_refused(address):
    with pytest.raises(ValueError, match=r"address|another host"):
        link(address, "door")
