"""Who is not let in, and what is not taken: each told by name."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from links import FEATURES, SECRET, Running, link, now_ended, now_frame, now_looks, running, token, until
from tracked import MODEL, direction
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from lightning_reid.live import node_endpoint, node_link, serving
from lightning_reid.live.link_wire import LARGEST_BATCH, PROTOCOL, BatchReader, BatchWriter, LinkRefusedError, read_answer
from lightning_reid.live.tokens import TokenRefusedError, check_token
from lightning_reid.tracking import CameraTracks, ForgetIdentity, Match, TrackEnded, write_message


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with running(tmp_path_factory.mktemp("gateway")) as one:
        yield one


def hello(*cameras: str, **changed: object) -> str:
    told = {
        "protocol": PROTOCOL,
        "node": "0123abcd",
        "model": MODEL,
        "feature_size": FEATURES,
        "cameras": cameras,
        "utc": time.time(),
        "peer": False,
    }
    return json.dumps({**told, **changed})


def connected(gateway: Running, bearer: str) -> ClientConnection:
    headers = {"Authorization": f"Bearer {bearer}"}
    return connect(f"{gateway.address}/nodes", additional_headers=headers, compression=None, proxy=None, close_timeout=1, max_size=None)


def answer_to(gateway: Running, bearer: str, *sent: str | bytes) -> str:
    """Why the connection was refused, after which it is closed."""
    with connected(gateway, bearer) as connection:
        for one in sent:
            with suppress(ConnectionClosed):  # it need not have waited
                connection.send(one)
        while "refused" not in (answer := json.loads(connection.recv(timeout=20))):
            pass
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=20)
        return answer["refused"]


@pytest.mark.parametrize(
    ("bearer", "reason"),
    [
        (lambda: "", "what came is no token"),
        (lambda: "a.b.c", "what came is no token"),
        (lambda: token("door", expires=time.time() - 90), r"token [0-9a-f]{8} expired 9\d s ago"),
        (lambda: token("door", secret=bytes(32)), r"token [0-9a-f]{8} is not of this gateway, or was changed"),
        (lambda: token("hall"), r"is for cameras \['hall'\], not for \['door'\]"),
    ],
    ids=["none", "no token", "expired", "foreign", "other camera"],
)
def test_a_token_that_does_not_let_in_is_refused_by_name(gateway, bearer, reason):
    assert re.search(reason, answer_to(gateway, bearer(), hello("door")))


def test_a_token_whose_content_was_changed_is_refused():
    signature, other = token("door").partition(".")[2], token("hall").partition(".")[0]
    with pytest.raises(TokenRefusedError, match="not of this gateway, or was changed"):
        check_token(SECRET, f"{other}.{signature}", now=0.0)
    with pytest.raises(TokenRefusedError, match="is no token"):
        check_token(SECRET, "A" * 70_000 + ".A", now=0.0)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model": "nvan"}, "features of 4 numbers by 'nvan' came, 4 by 'resnet18' are matched here"),
        ({"feature_size": 8}, "features of 8 numbers by 'resnet18' came, 4 by 'resnet18' are matched here"),
        ({"protocol": 9}, "protocol 9 is spoken there and 1 here"),
        (lambda: {"utc": time.time() + 500}, r"its clock is \+\d+\.\d s from this gateway's"),
        (lambda: {"utc": time.time() - 9000}, r"its clock is -\d+\.\d s from this gateway's"),
        ({"cameras": ["gateway"]}, "no camera may be named 'gateway'"),
        ({"cameras": []}, "must begin with a greeting"),
        ({"cameras": "door"}, "must begin with a greeting"),
        ({"node": "two\nlines"}, "must begin with a greeting"),
        ({"peer": "yes"}, "must begin with a greeting"),
        ({"more": 1}, "must begin with a greeting"),
        ({"utc": None}, "must begin with a greeting"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_a_node_that_does_not_fit_is_refused_by_name(gateway, changed, reason):
    told = changed() if callable(changed) else changed  # the time of this test, not that of its collection
    assert re.search(reason, answer_to(gateway, token("door", "gateway"), hello("door", **told)))


@pytest.mark.parametrize("sent", ["no json", "[]", "{}", "9" * 5000, '{"protocol": 1}', b"bytes"])
def test_what_is_no_greeting_is_refused(gateway, sent):
    assert re.search("must begin with a greeting|a text was due, and bytes came", answer_to(gateway, token("door"), sent))


def batch(*contents: bytes) -> bytes:
    return BatchWriter().write(contents)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"no stream of zlib", "cannot be unpacked"),
        (batch(b"no message"), "holds what is no message of a node: a message must begin with"),
        (batch(write_message(now_frame("door", 1, 7))[:-3]), "holds what is no message of a node"),
        (batch(write_message(ForgetIdentity(0))), "a node does not tell ForgetIdentity"),
        (
            batch(write_message(now_frame("hall", 1, 7))),
            r"is of camera 'hall', which node 0123abcd \(token [0-9a-f]{8}, cameras door\) has not greeted",
        ),
        ("a text", "bytes was due, and a text came"),
    ],
    ids=["no zlib", "no message", "cut", "request", "other camera", "text"],
)
def test_a_batch_that_is_none_closes_the_connection_and_is_named(gateway, sent, reason):
    until(lambda: not gateway.gateway._guests._by_camera)
    assert re.search(reason, answer_to(gateway, token("door", "hall"), hello("door"), sent))


@pytest.mark.parametrize("answer", ["[]", "no json", '{"taken": 0, "refused_messages": 5}', "[" * 100_000])
def test_what_is_no_answer_breaks_a_connection_and_never_the_link(answer):
    with pytest.raises(ValueError, match=r"answer|Expecting value"):
        read_answer(answer)


def test_the_health_of_a_link_that_has_failed_cannot_be_asked_for(gateway):
    failed = link(gateway.address, "door")
    failed._failure = TypeError("of a fault in the link")
    for ask in (lambda: failed.health("door", at=0.0), failed.close):
        with pytest.raises(RuntimeError, match="has failed"):
            ask()


def test_corrupt_batches_are_refused_and_never_another_error():
    draw, refused = random.Random(0), 0
    content = batch(*(write_message(now_frame("door", number, 7, 8)) for number in range(4)))
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        try:
            BatchReader().read(bytes(damaged))
        except LinkRefusedError:
            refused += 1
    assert refused > 30


def test_a_small_batch_that_unpacks_to_a_large_one_is_refused_without_being_unpacked():
    bomb = batch(bytes(20 * LARGEST_BATCH))
    assert len(bomb) < LARGEST_BATCH / 10
    with pytest.raises(LinkRefusedError, match="unpacks to more than"):
        BatchReader().read(bomb)


def test_a_message_larger_than_any_batch_closes_the_connection(gateway):
    until(lambda: not gateway.gateway._guests._by_camera)
    with connected(gateway, token("door")) as connection:
        connection.send(hello("door"))
        connection.recv(timeout=20)
        with suppress(ConnectionClosed):  # it need not have read all of it
            connection.send(bytes(LARGEST_BATCH + 1))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


def test_a_connection_that_the_gateway_ends_while_it_takes_a_batch_is_let_go_in_silence(gateway, monkeypatch, caplog):
    until(lambda: not gateway.gateway._guests._by_camera)
    taken, take = threading.Event(), node_endpoint.NodeEndpoint._take_batch

    def slowly(endpoint: node_endpoint.NodeEndpoint, *batch: Any) -> list[str]:
        assert taken.wait(20)
        return take(endpoint, *batch)

    monkeypatch.setattr(node_endpoint.NodeEndpoint, "_take_batch", slowly)
    with connected(gateway, token("door")) as connection:
        connection.send(hello("door"))
        connection.recv(timeout=20)
        connection.send(batch(write_message(now_frame("door", 0, 7))))
        with suppress(ConnectionClosed):
            connection.send(bytes(LARGEST_BATCH + 1))
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=20)
        taken.set()
    until(lambda: not gateway.gateway._guests._by_camera)
    until(lambda: not gateway.server._server.server_state.tasks)  # what goes wrong is logged when the task of a connection ends
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_a_node_that_is_gone_before_it_is_answered_holds_no_camera(gateway):
    guests, began = gateway.gateway._guests, time.time()
    until(lambda: not guests._by_camera)
    with connected(gateway, token("door")) as node, node.protocol_mutex:
        node.protocol.send_text(hello("door").encode())
        node.protocol.send_close(1000)
        node.socket.sendall(b"".join(node.protocol.data_to_send()))  # both at once, as after a halt of the gateway
    until(lambda: guests._absent.get("door", 0.0) >= began)
    assert not guests._by_camera


def test_two_nodes_with_one_camera_the_second_is_refused_by_name_and_comes_in_when_the_first_is_gone(gateway):
    until(lambda: not gateway.gateway._guests._by_camera)
    with link(gateway.address, "door") as first:
        until(lambda: first.connected)
        with link(gateway.address, "door") as second:
            assert second.wait_until_answered(20)
            assert "camera 'door' is told of by node" in second.refused
            assert first.connected
            first.close()
            until(lambda: second.connected)
            assert second.refused is None


def test_the_same_node_takes_the_place_of_its_own_dead_connection(gateway):
    until(lambda: not gateway.gateway._guests._by_camera)
    with connected(gateway, token("door")) as dead, connected(gateway, token("door")) as new:
        for one in (dead, new):
            one.send(hello("door"))
            assert json.loads(one.recv(timeout=20))["protocol"] == PROTOCOL
        assert json.loads(dead.recv(timeout=20)) == {"refused": "the same node has connected anew"}
        new.send(batch(write_message(now_frame("door", 10**6, 7))))
        assert json.loads(new.recv(timeout=20)) == {"taken": 0, "refused_messages": []}


def test_a_message_that_the_matcher_refuses_is_told_to_its_node_and_the_next_is_taken(tmp_path, caplog):
    with running(tmp_path) as gateway, link(gateway.address, "door") as door:
        door.put(now_frame("door", 5, 7))
        door.put(now_frame("door", 4, 7))
        door.put(now_frame("door", 6, 7))
        until(lambda: gateway.refused and not len(door.outbox))
        assert [one.stamp.number for one in gateway.of(CameraTracks)] == [5, 6]
        assert "a message was refused, the 1. so far: camera 'door': frame 4 came after frame 5" in caplog.text


def test_who_never_greets_or_never_asks_is_closed(gateway, monkeypatch, caplog):
    monkeypatch.setattr(node_endpoint, "GREETS_WITHIN", 0.05)
    assert answer_to(gateway, token("door")) == "no greeting came in 0.05 s"
    monkeypatch.setattr(serving, "ASKS_WITHIN", 0.05)
    with socket.create_connection(("127.0.0.1", gateway.server.port), timeout=20) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", gateway.server.port), timeout=20) as slow:
        slow.sendall(b"GET /nodes HTTP/1.1\r\n")
        assert slow.recv(1) == b""
    assert "asked for nothing" in caplog.text


def test_only_so_many_may_be_without_a_greeting(gateway, monkeypatch):
    monkeypatch.setattr(node_endpoint, "MOST_GREETING", 2)
    with connected(gateway, token("door")), connected(gateway, token("door")):
        until(lambda: gateway_greeting(gateway) == 2)
        assert answer_to(gateway, token("door")) == "2 connections have yet to greet: come again"


def test_who_has_no_token_holds_no_place_of_those_that_may_greet(gateway, monkeypatch):
    until(lambda: not gateway.gateway._guests._by_camera)
    monkeypatch.setattr(node_endpoint, "MOST_GREETING", 1)
    with connected(gateway, ""), connected(gateway, token("door")) as node:
        until(lambda: gateway_greeting(gateway, known=False) == 1)
        assert answer_to(gateway, "a.b") == "1 connections have yet to greet: come again"
        node.send(hello("door"))
        assert json.loads(node.recv(timeout=20))["protocol"] == PROTOCOL


def gateway_greeting(gateway: Running, *, known: bool = True) -> int:
    return gateway.server._server.config.app.routes[0].endpoint.__self__._greeting[known]


def test_a_node_that_is_gone_without_a_word_is_closed_and_its_camera_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "PINGS_EVERY", 0.05)
    monkeypatch.setattr(serving, "ANSWERS_WITHIN", 0.05)
    with running(tmp_path) as gateway, socket.create_connection(("127.0.0.1", gateway.server.port), timeout=20) as half_open:
        client = ClientProtocol(parse_uri(f"{gateway.address}/nodes"))
        request = client.connect()
        request.headers["Authorization"] = f"Bearer {token('door')}"
        client.send_request(request)
        half_open.sendall(b"".join(client.data_to_send()))
        client.receive_data(half_open.recv(2**16))
        client.send_text(hello("door").encode())
        half_open.sendall(b"".join(client.data_to_send()))
        while half_open.recv(2**16):  # it reads, and answers no ping
            pass
        with link(gateway.address, "door") as door:
            until(lambda: door.connected)
            assert door.refused is None


def test_a_gateway_that_takes_nothing_is_given_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(node_link, "TAKEN_WITHIN", 0.1)
    stuck = threading.Event()
    with running(tmp_path, listeners=[lambda told: stuck.wait(20)]) as gateway, link(gateway.address, "door") as door:
        until(lambda: door.connected)
        door.put(now_frame("door", 0, 7))
        until(lambda: "it took nothing for 0.1 s" in caplog.text)
        assert door.refused is None  # it may try again
        stuck.set()


def test_a_token_that_expires_ends_the_connection(gateway):
    until(lambda: not gateway.gateway._guests._by_camera)
    assert re.search("token [0-9a-f]{8} has expired", answer_to(gateway, token("door", expires=time.time() + 0.5), hello("door")))


@pytest.mark.parametrize("offset", [5.0, -5.0])
def test_clocks_five_seconds_apart_are_told_and_people_are_found_all_the_same_where_the_rules_allow_for_it(tmp_path, offset, caplog):
    look = direction(1, 2, 3, 4)
    with (
        running(tmp_path, clock_slack=6.0) as gateway,
        link(gateway.address, "hall") as hall,
        link(gateway.address, "door", clock=lambda: time.time() + offset) as door,
    ):
        until(lambda: door.connected)
        assert door.clock_offset == pytest.approx(-offset, abs=2)
        assert "its clock is " in caplog.text
        at = time.time() + offset
        for message in (now_frame("door", 0, 7, at=at), now_looks("door", 7, look, at=at), now_ended("door", 7, at=at)):
            door.put(message)
        until(lambda: gateway.of(TrackEnded))
        hall.put(now_frame("hall", 0, 3))
        hall.put(now_looks("hall", 3, look))
        hall.put(now_frame("hall", 1, 3))
        until(lambda: [event for one in list(gateway.told) for event in one.events if isinstance(event, Match)])
        assert gateway.refused == []
