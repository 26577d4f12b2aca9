"""What goes over the wire between a node and a gateway: how many bytes, and never a pixel."""

from __future__ import annotations

import random
import ssl
import time

import pytest
import torch
from links import Wire, certificate_of, link, running, until
from tracked import MODEL
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from lightning_reid.live.link_wire import BatchReader
from lightning_reid.live.serving import Server
from lightning_reid.tracking import (
    CameraNode,
    CameraTracker,
    CameraTracks,
    ClipCollector,
    FrameStamp,
    StageHealth,
    TrackEnded,
    TrackFeature,
    read_message,
)

WIDTH = 192
"""Numbers of a feature of the shipped network."""
PEOPLE, FPS, SECONDS = 8, 10, 12


def walkers(began: float):
    """Eight people who stroll at ten frames a second, a feature of each every four frames as in the text; the health of three stages."""
    draw = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[80.0 * one, 100, 80 * one + 52, 260] for one in range(PEOPLE)])
    for number in range(FPS * SECONDS):
        at = began + number / FPS
        boxes = boxes + torch.randn(PEOPLE, 1, generator=generator) * torch.tensor([2.0, 1, 2, 1])
        scores = torch.tensor([draw.uniform(0.5, 1) for _ in range(PEOPLE)])
        told = [CameraTracks(FrameStamp("door", number, at, at), 1_700_000_000, tuple(range(PEOPLE)), boxes, scores)]
        if number % 4 == 3:
            looks = torch.nn.functional.normalize(torch.randn(PEOPLE, WIDTH, generator=generator), dim=1)
            told += [TrackFeature("door", 1_700_000_000, one, looks[one], number // 4 + 1, began, at, MODEL) for one in range(PEOPLE)]
        if number % FPS == 0:
            stages = ("decode", "detect", "embed")
            told += [
                StageHealth("door", stage, at, "live", number, draw.randrange(9), draw.randrange(3), draw.random()) for stage in stages
            ]
        yield told


def test_eight_people_at_ten_frames_a_second_are_at_most_ten_kilobytes_a_second_on_the_socket(tmp_path):
    certificate, key = certificate_of(tmp_path)
    with running(tmp_path, tls=(certificate, key), features=WIDTH) as gateway:
        wire = Wire(gateway.server.port, "wss")
        with link(wire.address, "door", authority=certificate, feature_size=WIDTH, interval=0.001) as door:
            until(lambda: door.connected)
            for told in walkers(time.time() - SECONDS):  # each frame alone, as in real time
                for message in told:
                    door.put(message)
                until(lambda: not len(door.outbox))
            rate = (len(wire.sent) + len(wire.answered)) / SECONDS
        wire.close()
        assert len(gateway.of(CameraTracks)) == FPS * SECONDS
        assert len(gateway.of(TrackFeature)) == PEOPLE * 3  # each four seconds
        assert gateway.refused == []
        assert rate < 10_000


def messages_on(wire: Wire) -> list[bytes]:
    """The messages that went over an unencrypted wire, which holds nothing else but the greeting."""
    protocol, reader = ServerProtocol(max_size=None), BatchReader()
    protocol.receive_data(bytes(wire.sent))
    request, *frames = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    frames += protocol.events_received()
    greeting, *batches = [frame for frame in frames if isinstance(frame, Frame) and frame.opcode in (Opcode.TEXT, Opcode.BINARY)]
    assert b'"protocol": 1' in bytes(greeting.data)
    assert all(frame.opcode is Opcode.BINARY for frame in batches)
    return [content for frame in batches for content in reader.read(bytes(frame.data))]


def test_no_pixel_goes_over_the_wire(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 96, 64), dtype=torch.uint8, generator=generator)

    def embed(crops):
        return torch.nn.functional.normalize(torch.stack([crop.float().mean((1, 2)) for crop in crops]), dim=1)

    with running(tmp_path, features=3) as gateway:
        wire = Wire(gateway.server.port)
        with link(wire.address, "door", feature_size=3) as door:
            node = CameraNode("door", CameraTracker(), embed, model=MODEL, clips=ClipCollector(num_frames=2, spread=0.1))
            began = time.time()
            for number in range(8):
                stamp = FrameStamp("door", number, number / 10, began + number / 10)
                for message in node.step(stamp, pixels, torch.tensor([[8.0, 4, 40, 90]]), torch.tensor([0.9])):
                    door.put(message)
            for message in node.end():
                door.put(message)
            until(lambda: gateway.of(TrackEnded))
        contents = messages_on(wire)
        wire.close()
    told = [read_message(one) for one in contents]
    assert {type(one) for one in told} == {CameraTracks, TrackFeature, TrackEnded, StageHealth}
    numbers = sum(5 * len(one.track_ids) for one in told if isinstance(one, CameraTracks)) + sum(
        isinstance(one, TrackFeature) * 3 for one in told
    )
    assert numbers < 8 * 5 + 5 * 3 < pixels.numel() / 100  # there is no room for a picture
    rows = {bytes(row[start : start + 4].tolist()) for row in pixels.flatten(0, 1) for start in range(0, 60)}
    sent = b"".join(contents)
    assert not any(row in sent for row in rows)


def test_tls_is_spoken_and_a_certificate_that_is_not_trusted_or_of_another_host_is_not_connected_to(tmp_path, caplog):
    certificate, key = certificate_of(tmp_path)
    other, other_key = certificate_of(tmp_path, "elsewhere.local")
    with running(tmp_path, tls=(certificate, key)) as gateway:
        assert gateway.address.startswith("wss://")
        with link(gateway.address, "door", authority=certificate) as trusted, link(gateway.address, "hall", authority=other) as wary:
            until(lambda: trusted.connected)
            until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
            assert not wary.connected
    with running(tmp_path, tls=(other, other_key)) as gateway, link(gateway.address, "door", authority=other) as wary:
        until(lambda: "Hostname mismatch" in caplog.text)
        assert not wary.connected


def test_another_host_takes_tls_or_a_word_aloud(tmp_path, caplog):
    async def app(scope, receive, send):
        raise NotImplementedError

    with pytest.raises(ValueError, match=r"0\.0\.0\.0 is another host .*give a certificate \(TLS\), or say insecure"):
        Server(app, host="0.0.0.0")
    with pytest.raises(ValueError, match=r"are no certificate and its key, in PEM"):
        Server(app, host="0.0.0.0", certificate=tmp_path / "none.pem")
    certificate, _ = certificate_of(tmp_path)
    _, other_key = certificate_of(tmp_path, "elsewhere.local")
    with pytest.raises(ValueError, match=r"are no certificate and its key, in PEM"):
        Server(app, certificate=certificate, key=other_key)
    with pytest.raises(ValueError, match="is no certificate to trust"):
        link("wss://localhost:1", "door", authority=other_key)
    with running(tmp_path) as gateway, pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*give another"):
        Server(app, port=gateway.server.port)
    assert "insecure" not in caplog.text
    assert isinstance(ssl.create_default_context(), ssl.SSLContext)
