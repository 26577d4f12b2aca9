"""A gateway that is killed, nodes that stay away, two gateways that are cut apart and joined."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import FORKED, forked
from links import DEADLINE, Running, Wire, link, matcher, now_ended, now_frame, now_looks, running, until
from tracked import direction, key

from lightning_reid.live import Journal, Outbox
from lightning_reid.live.node_link import NodeLink
from lightning_reid.tracking import CameraGone, CameraTracks, IdentityEvent, StageHealth, TrackEnded

ANNA, BERT, CARL = direction(1, 0, 0, 0), direction(0, 1, 0, 0), direction(0, 0, 1, 0)


def serve(folder: Path, pipe: Connection) -> None:
    """A gateway on the port that is asked for over a pipe, until it is asked to end."""
    one = Running(folder, journal=True, port=pipe.recv())
    pipe.send((one.server.port, one.journal.replayed))
    pipe.recv()
    one.close()


class Gateways:
    """Processes that become gateways when they are needed: all are forked at once, before a node's link begins a thread here."""

    def __init__(self, folder: Path, number: int) -> None:
        self.waiting = []
        for _ in range(number):
            ours, theirs = FORKED.Pipe()
            self.waiting.append((forked(serve, folder, theirs), ours))
            theirs.close()

    @contextmanager
    def next(self, port: int = 0) -> Iterator[tuple[BaseProcess, Connection, int, int]]:
        """A process, the pipe that asks it to end, its port and how many messages it has replayed."""
        process, pipe = self.waiting.pop(0)
        try:
            pipe.send(port)
            assert pipe.poll(DEADLINE)
            yield process, pipe, *pipe.recv()
        finally:
            process.kill()
            process.join()
            pipe.close()


def ended(process: BaseProcess) -> int | None:
    """The exit code of a process that ends."""
    process.join(30)
    return process.exitcode


def walk(camera: str, track: int, look: torch.Tensor, number: int) -> list[Any]:
    """Somebody who is seen in six frames, and leaves."""
    frames = [now_frame(camera, number + step, track) for step in range(6)]
    return [frames[0], now_looks(camera, track, look), *frames[1:], now_ended(camera, track)]


def tell(node: NodeLink, messages: list[Any]) -> list[Any]:
    """Have a node tell these messages, and wait until they are matched and written down."""
    for message in messages:
        node.put(message)
    until(lambda: not len(node.outbox))
    return messages


def patient_link(address: str, camera: str, **changed: Any) -> NodeLink:
    """A link whose frames may be late, as they are on a busy machine."""
    return link(address, camera, outbox=Outbox(fresh=600.0), **changed)


@pytest.mark.slow
def test_a_gateway_that_is_killed_goes_on_with_the_same_numbers_and_misses_nothing_that_nodes_kept(tmp_path):
    gateways = Gateways(tmp_path, 2)
    with gateways.next() as (first, _, port, replayed):
        assert replayed == 0
        door, hall = (patient_link(f"ws://localhost:{port}", camera) for camera in ("door", "hall"))
        fed = tell(door, walk("door", 0, ANNA, 0))
        fed += tell(hall, walk("hall", 0, ANNA, 0))
        fed += tell(door, walk("door", 1, BERT, 10))
        first.kill()
        assert ended(first) == -signal.SIGKILL
    until(lambda: not hall.connected)
    kept = [now_looks("hall", 1, CARL), now_ended("hall", 1)]  # somebody who came and left meanwhile
    for message in kept:
        hall.put(message)
    with gateways.next(port) as (second, pipe, _, replayed):
        assert replayed == len(fed) == 24
        until(lambda: door.connected and not len(hall.outbox))
        fed += kept
        fed += tell(hall, walk("hall", 2, BERT, 10))
        fed += tell(door, walk("door", 2, CARL, 20))
        pipe.send("end")
        assert ended(second) == 0
    for one in (door, hall):
        assert one.num_refused == 0
        one.close(flush_for=0)
    unbroken = matcher()
    for message in fed:
        unbroken.feed(message)
    with Journal(tmp_path / "journal", after := matcher()):
        tracks = [key("door", 0), key("hall", 0), key("door", 1), key("hall", 1), key("hall", 2), key("door", 2)]
        assert [after.identity(one) for one in tracks] == [unbroken.identity(one) for one in tracks] == [0, 0, 2, 3, 2, 3]


@pytest.mark.slow
def test_a_gateway_that_is_killed_while_nodes_talk_misses_nobody_who_has_left(tmp_path):
    gateways, wire, told = Gateways(tmp_path, 4), Wire(), list[Any]()
    with patient_link(wire.address, "door") as door:
        for _ in range(3):
            with gateways.next() as (gateway, _, wire.target, _):
                until(lambda: door.connected)
                for _ in range(40):
                    told += walk("door", len(told) // 8, ANNA, len(told))
                    for message in told[-8:]:
                        door.put(message)
                until(lambda: door.outbox.num_sent)
                gateway.kill()  # with some on the way, some matched, some written
                assert ended(gateway) == -signal.SIGKILL
        with gateways.next() as (gateway, pipe, wire.target, _):
            until(lambda: door.connected and not len(door.outbox))
            pipe.send("end")
            assert ended(gateway) == 0
    wire.close()
    with Journal(tmp_path / "journal", after := matcher()):
        assert [track for track in range(120) if key("door", track) not in after.memory] == []
        assert after._live == {}


def test_fifty_broken_connections_leave_no_thread_and_no_file_open(tmp_path):
    with running(tmp_path) as gateway:
        wire = Wire(gateway.server.port)
        with patient_link(wire.address, "door", longest_wait=0.02) as door:
            before = None
            for number in range(50):
                wire.join()
                until(lambda: door.connected)
                wire.cut()
                until(lambda: not door.connected)
                wire.forget()
                if number == 5:
                    before = open_files(), threading.active_count()
            wire.join()
            until(lambda: door.connected)
            assert open_files() <= before[0] + 8  # of the connection that is there
            assert threading.active_count() <= before[1] + 8
        wire.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def identity(gateway: Running, camera: str, track: int) -> int | None:
    """The number that a gateway has announced last for a track."""
    events = [event for one in list(gateway.told) for event in one.events if isinstance(event, IdentityEvent)]
    return next((event.identity for event in reversed(events) if event.track == key(camera, track)), None)


def link_states(gateway: Running) -> list[str]:
    """What a gateway has told of the link to its peer."""
    return [one.state for one in gateway.of(StageHealth) if one.stage.startswith("link to")]


@pytest.mark.slow
def test_two_gateways_match_what_each_others_nodes_tell_are_cut_apart_go_on_and_exchange_what_is_due_once_joined(tmp_path):
    wires = {name: Wire() for name in ("east", "west")}  # to each
    peers = {name: patient_link(wire.address, camera, peer=True) for (name, wire), camera in zip(wires.items(), ("hall", "door"))}
    for name in wires:
        (tmp_path / name).mkdir()
    with (
        running(tmp_path / "east", peers=[peers["west"]], gone_after=1.5) as east,
        running(tmp_path / "west", peers=[peers["east"]]) as west,
    ):
        wires["east"].target, wires["west"].target = east.server.port, west.server.port
        until(lambda: all(one.connected for one in peers.values()))
        door, hall = patient_link(east.address, "door"), patient_link(west.address, "hall")

        tell(door, walk("door", 0, ANNA, 0))
        until(lambda: west.of(TrackEnded))  # west has it from east
        tell(hall, walk("hall", 0, ANNA, 0))
        until(lambda: len(east.of(TrackEnded)) == 2)
        for gateway in (east, west):
            assert identity(gateway, "hall", 0) == identity(gateway, "door", 0) == 0
            assert len(gateway.of(CameraTracks)) == 12  # each once: what came from a peer is not handed on

        until(lambda: not any(len(one.outbox) for one in peers.values()))  # what is not yet taken would be told twice
        for wire in wires.values():
            wire.cut()
        until(lambda: not any(one.connected for one in peers.values()))
        tell(door, walk("door", 1, BERT, 10))
        tell(hall, walk("hall", 1, CARL, 10))
        assert identity(east, "door", 1) is not None  # each goes on by itself
        assert identity(west, "hall", 1) is not None
        assert identity(west, "door", 1) is identity(east, "hall", 1) is None

        until(lambda: "gone" in link_states(east))
        for wire in wires.values():
            wire.join()
        until(lambda: len(east.of(TrackEnded)) == len(west.of(TrackEnded)) == 4)
        tell(hall, walk("hall", 2, BERT, 20))  # Bert had left the door while they were apart
        until(lambda: len(east.of(TrackEnded)) == 5)
        for gateway in (east, west):
            assert identity(gateway, "hall", 2) == identity(gateway, "door", 1)
            assert gateway.refused == []
        until(lambda: link_states(east)[-1] == "live")
        door.close()
        until(lambda: "door" in [one.camera for one in west.of(CameraGone)][-1:])  # its node is gone, as east has told
        assert [one.camera for one in east.of(CameraGone)][-1:] == ["door"]
        hall.close()
    for wire in wires.values():
        wire.close()


def test_a_camera_whose_node_is_gone_for_long_is_told_of_to_the_matcher_and_comes_back(tmp_path):
    with running(tmp_path, gone_after=0.2) as gateway:
        with patient_link(gateway.address, "door") as door:
            tell(door, [now_frame("door", 0, 7), now_looks("door", 7, ANNA), now_frame("door", 1, 7)])
        until(lambda: gateway.of(CameraGone))
        with patient_link(gateway.address, "hall") as hall:
            tell(hall, walk("hall", 0, ANNA, 0))
            assert identity(gateway, "hall", 0) == identity(gateway, "door", 7) == 0
        with patient_link(gateway.address, "door") as door:
            tell(door, [now_frame("door", 2, 7)])
            assert gateway.refused == []


def test_a_node_begins_before_its_gateway_and_is_taken_when_that_comes(tmp_path):
    wire = Wire(1)
    with patient_link(wire.address, "door") as door:
        assert not door.wait_until_answered(0.05)
        for message in walk("door", 0, ANNA, 0):
            door.put(message)
        with running(tmp_path) as gateway:
            wire.target = gateway.server.port
            until(lambda: gateway.of(TrackEnded))
            assert door.refused is None
    wire.close()
