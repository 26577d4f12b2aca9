"""An HTTP server in a thread, which only says where it listens once it does (extra ``tracking``)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from lightning_reid.arguments import require_count
from lightning_reid.live.addresses import require_private
from lightning_reid.live.link_wire import LARGEST_BATCH

logger = logging.getLogger(__name__)

ASKS_WITHIN = 10.0
"""Seconds after which a connection that has asked for nothing is closed."""
PINGS_EVERY, ANSWERS_WITHIN = 5.0, 10.0
"""Seconds: a WebSocket whose other side is gone without a word is closed after both."""
MOST_CONNECTIONS = 512
STARTS_WITHIN = 20.0
"""Seconds."""


class _ImpatientProtocol(H11Protocol):
    """uvicorn waits for ever for the first request of a connection."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(ASKS_WITHIN, self._close_unless_it_asked)

    def _close_unless_it_asked(self) -> None:
        asked: object = self.cycle or self.transport.get_protocol() is not self  # the WebSocket's has taken its place
        if not asked and not self.transport.is_closing():
            logger.warning("a connection from %s asked for nothing in %g s: it is closed", self.client, ASKS_WITHIN)
            self.transport.close()


async def unless_ended(sending: Awaitable[None]) -> None:
    """Await what sends to a WebSocket, or closes it.

    Args:
        sending: Of one of the socket's ``send_...`` or of its ``close``.

    Raises:
        WebSocketDisconnect: The connection is over. Where it broke, the socket says so on its own; where the server ended it, as a
            message was too long or a ping found no answer, uvicorn raises a :class:`RuntimeError` that speaks of its close.
    """
    try:
        await sending
    except RuntimeError as error:
        if "close" not in str(error):
            raise
        raise WebSocketDisconnect(1006, str(error)) from error


class Server:
    """Serves a web application from a thread until it is closed.

    Args:
        app: What is served.
        host: On which it listens: this machine alone by default.
        port: 0 takes a free one.
        certificate: PEM file of the certificate and those above it; ``None`` for no TLS.
        key: PEM file of its key, if that stands in another file.
        insecure: Another host may be listened on without TLS.
        largest_message: Bytes of a WebSocket's message; a longer one ends its connection.

    Attributes:
        address: ``host:port`` that it listens on.
        tls: Whether TLS is spoken.

    Raises:
        OSError: The port is taken, or the host not of this machine.
        RuntimeError: It has not started.
        ValueError: Certificate and key do not fit, or another host would be served without TLS.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        insecure: bool = False,
        largest_message: int = LARGEST_BATCH,
    ) -> None:
        require_count("port", port, low=0, high=65535)
        self.tls = certificate is not None
        require_private(host, tls=self.tls, insecure=insecure)
        _require_pair(certificate, key)
        try:
            self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}; give another host or port") from error
        self.port: int = self._socket.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            lifespan="on",
            loop="asyncio",
            http=_ImpatientProtocol,
            ws="websockets-sansio",
            ws_max_size=largest_message,
            ws_ping_interval=PINGS_EVERY,
            ws_ping_timeout=ANSWERS_WITHIN,
            ws_per_message_deflate=False,  # a small message may unpack to a large one
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=2,
            ssl_certfile=None if certificate is None else os.fspath(certificate),
            ssl_keyfile=None if key is None else os.fspath(key),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="server", daemon=True)
        self._thread.start()
        self._wait_until_served()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Close all connections, and stop."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _wait_until_served(self) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.close()
                raise RuntimeError(f"the server at {self.address} has not started: its log says why")
            time.sleep(0.01)


def _require_pair(certificate: str | Path | None, key: str | Path | None) -> None:
    if certificate is None:
        if key is not None:
            raise ValueError("a --key needs its --certificate")
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{certificate} and {key or 'its key'} are no certificate and its key, in PEM: {error}") from error
