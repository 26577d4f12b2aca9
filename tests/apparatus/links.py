"""Gateways and nodes on the sockets of this machine, for tests of what they say to each other."""

from __future__ import annotations

import datetime
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tracked import MODEL

from lightning_reid.live import AuditLog, Journal, Listener, Told
from lightning_reid.live.gateway import Gateway
from lightning_reid.live.node_link import NodeLink
from lightning_reid.live.serving import Server
from lightning_reid.live.tokens import issue_token
from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher, TrackEnded, TrackFeature

SECRET = bytes(range(32))
FEATURES = 4
DEADLINE = 30.0
"""Seconds that a busy machine may take."""


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for it, and no longer than :data:`DEADLINE`."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not in {DEADLINE:g} s: {what or condition}"
        time.sleep(0.005)


def matcher(*, clock_slack: float = 0.0, **changed: Any) -> OnlineMatcher:
    settings: dict[str, Any] = {"feature_size": FEATURES, "model": MODEL, **changed}
    return OnlineMatcher(MatchingRules(threshold=0.6, every_n_frames=5, clock_slack=clock_slack), **settings)


def token(*cameras: str, expires: float | None = None, secret: bytes = SECRET, asks: bool = False) -> str:
    return issue_token(secret, cameras, expires=time.time() + 3600 if expires is None else expires, asks=asks)


class Running:
    """A gateway that listens, and what it was told."""

    def __init__(
        self,
        folder: Path,
        *,
        journal: bool = False,
        peers: Sequence[NodeLink] = (),
        port: int = 0,
        tls: Any = None,
        gone_after: float = 30.0,
        features: int = FEATURES,
        listeners: Sequence[Listener] = (),
        clock_slack: float = 0.0,
    ) -> None:
        self.told: list[Told] = []
        self.matcher = matcher(feature_size=features, clock_slack=clock_slack)
        self.journal = Journal(folder / "journal", self.matcher) if journal else None
        self.gateway = Gateway(
            self.matcher,
            secret=SECRET,
            audit=AuditLog(folder / "audit.log"),
            journal=self.journal,
            listeners=[self.told.append, *listeners],
            peers=peers,
            gone_after=gone_after,
        )
        certificate, key = tls or (None, None)
        self.server = Server(self.gateway.app(), port=port, certificate=certificate, key=key)
        self.peers = peers

    @property
    def address(self) -> str:
        return f"{'wss' if self.server.tls else 'ws'}://{self.server.address.replace('127.0.0.1', 'localhost')}"

    def of(self, kind: type) -> list[Any]:
        """The messages of a kind that were matched."""
        return [one.message for one in list(self.told) if isinstance(one.message, kind) and one.refused is None]

    @property
    def refused(self) -> list[str]:
        return [one.refused for one in list(self.told) if one.refused is not None]

    def close(self) -> None:
        self.server.close()
        for link in self.peers:
            link.close(flush_for=0)
        self.gateway.close()
        if self.journal is not None:
            self.journal.close()


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Running]:
    one = Running(folder, **settings)
    try:
        yield one
    finally:
        one.close()


def link(address: str, *cameras: str, **changed: Any) -> NodeLink:
    settings: dict[str, Any] = {"model": MODEL, "feature_size": FEATURES, "interval": 0.02, "longest_wait": 0.2, **changed}
    given = settings.pop("token", None) or token(*cameras)
    return NodeLink(address, given, **settings)


def now_frame(camera: str, number: int, *ids: int, at: float | None = None) -> CameraTracks:
    """A frame of this moment, with these tracks."""
    at = time.time() if at is None else at
    boxes = torch.tensor([[100.0 * one, 0, 100.0 * one + 40, 90] for one in range(len(ids))]).reshape(-1, 4)
    return CameraTracks(FrameStamp(camera, number, at, at), 0, ids, boxes, torch.ones(len(ids)))


def now_looks(
    camera: str, track_id: int, feature: torch.Tensor, *, count: int = 1, since: float | None = None, at: float | None = None
) -> TrackFeature:
    at = time.time() if at is None else at
    return TrackFeature(camera, 0, track_id, feature, count, at if since is None else since, at, MODEL)


def now_ended(camera: str, track_id: int, *, at: float | None = None) -> TrackEnded:
    return TrackEnded(camera, 0, track_id, time.time() if at is None else at)


def certificate_of(folder: Path, host: str = "localhost") -> tuple[Path, Path]:
    """A certificate of this host that signs itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{host}.pem", folder / f"{host}.key"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


class Wire:
    """A wire between a node and a gateway, which counts and keeps what goes over it, and can be cut."""

    def __init__(self, port: int = 0, scheme: str = "ws") -> None:
        self.target, self._scheme = port, scheme
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.sent, self.answered = bytearray(), bytearray()
        self._open: list[socket.socket] = []
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{self._scheme}://localhost:{self._listening.getsockname()[1]}"

    def cut(self) -> None:
        """From now on nothing gets through, and who is connected is told so."""
        self._cut = True
        for one in self._open:
            _end(one)

    def forget(self) -> None:
        """Close what was cut."""
        while self._open:
            self._open.pop().close()

    def join(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._listening.close()
        self._cut = True
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                node, _ = self._listening.accept()
            except OSError:
                return
            if self._cut:
                node.close()
                continue
            try:
                gateway = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # nobody listens there yet
                node.close()
                continue
            self._open += [node, gateway]
            for source, sink, kept in ((node, gateway, self.sent), (gateway, node, self.answered)):
                threading.Thread(target=self._pass_on, args=(source, sink, kept), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while (content := source.recv(2**16)) and not self._cut:
                kept += content
                sink.sendall(content)
        _end(source)
        _end(sink)


def _end(one: socket.socket) -> None:
    with suppress(OSError):  # the other side was quicker
        one.shutdown(socket.SHUT_RDWR)
