"""Serving the page from a thread beside the cameras'."""

from __future__ import annotations

import errno
import ipaddress
import re
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from lightning_reid.arguments import require_count, require_path, require_switch, require_text, require_texts
from lightning_reid.live.page.app import LONGEST_MESSAGE, build_app
from lightning_reid.live.page.live_view import LiveView

SHORTEST_TOKEN = 16
"""Characters."""
_START = 20.0
"""Seconds that the server may take to start."""


class Page:
    """A page that is served, until it is closed.

    Attributes:
        url: Address to open, with the token in it where there is one.
    """

    def __init__(self, url: str, server: uvicorn.Server, listening: socket.socket) -> None:
        self.url, self._server, self._listening = url, server, listening
        self._thread = threading.Thread(target=server.run, args=([listening],), name="page", daemon=True)
        self._thread.start()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def wait_until_served(self) -> None:
        """Wait until browsers are answered.

        Raises:
            RuntimeError: The server has not started.
        """
        until = time.monotonic() + _START
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.close()
                raise RuntimeError(f"the page at {self.url} has not started: its server's log says why")
            time.sleep(0.01)

    def close(self) -> None:
        """Let all browsers go and free the port.

        Raises:
            RuntimeError: The server does not stop.
        """
        self._server.should_exit = True
        self._thread.join(10)
        self._listening.close()
        if self._thread.is_alive():
            raise RuntimeError(f"the page at {self.url} has not stopped within 10 s")


def serve(
    view: LiveView,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    token: str | None = None,
    names: Sequence[str] = (),
    insecure: bool = False,
) -> Page:
    """Serve the page of a view, from a thread of its own.

    Args:
        view: What there is to watch.
        host: Address to listen on. Another one than this host's own (loopback) takes a token, and a certificate.
        port: To listen on; 0 for any that is free.
        certificate: File of a TLS certificate chain, in PEM.
        key: File of its private key.
        token: What must be known to watch, at least 16 characters. ``None`` draws one where the host is not loopback, and asks for none
            where it is: then everybody who has an account on this host can watch.
        names: Host names under which browsers reach the page, beside numeric addresses, ``localhost`` and ``host``.
        insecure: Whether another host than loopback may do without TLS: then pictures of people go over the network for all to read.

    Returns:
        The page that is served; close it.

    Raises:
        ValueError: An argument is wrong, a certificate is needed, or it and its key do not go together.
        OSError: The port is taken, or may not be used; the message names it.

    Example:
        >>> from lightning_reid.live.page import LiveView, serve
        >>> with serve(LiveView(), port=0) as page:
        ...     print(page.url.rpartition(":")[0])
        http://127.0.0.1
    """
    require_text("host", host)
    require_count("port", port, low=0, high=65535)
    require_texts("names", list(names) if isinstance(names, tuple) else names)
    require_switch("insecure", insecure)
    token = _checked_token(token, host)
    tls = _checked_tls(certificate, key, host, insecure)
    listening = _listen(host, port)
    reached = host if not _is_any(host) else socket.gethostname()
    app = build_app(view, names=("localhost", reached, host, *names), token=token, secure=bool(tls))
    quiet: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False, "server_header": False}
    sockets: dict[str, Any] = {"ws": "websockets-sansio", "ws_max_size": LONGEST_MESSAGE, "ws_per_message_deflate": False}  # JPEG is dense
    config = uvicorn.Config(app, timeout_graceful_shutdown=2, lifespan="off", **quiet, **sockets, **tls)
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        listening.close()
        raise ValueError(f"the certificate {certificate} and the key {key} cannot be used together: {error}") from error
    bracketed = f"[{reached}]" if ":" in reached else reached
    query = f"/?token={token}" if token else ""
    page = Page(f"{'https' if tls else 'http'}://{bracketed}:{listening.getsockname()[1]}{query}", uvicorn.Server(config), listening)
    page.wait_until_served()
    return page


def _checked_token(token: str | None, host: str) -> str | None:
    if token is None:
        return None if _is_loopback(host) else secrets.token_urlsafe(24)
    require_text("token", token)
    if len(token) < SHORTEST_TOKEN or not re.fullmatch(r"[A-Za-z0-9_-]+", token):
        raise ValueError(f"a token must have at least {SHORTEST_TOKEN} letters, digits, - or _: secrets.token_urlsafe(24) makes one")
    return token


def _checked_tls(certificate: str | Path | None, key: str | Path | None, host: str, insecure: bool) -> dict[str, Any]:
    require_path("certificate", certificate, optional=True)
    require_path("key", key, optional=True)
    if (certificate is None) != (key is None):
        raise ValueError(f"TLS takes a certificate and its key, got certificate={certificate} and key={key}")
    for path in (certificate, key):
        if path is not None and not Path(path).is_file():
            raise ValueError(f"there is no file {path} for TLS")
    if certificate is None and not _is_loopback(host) and not insecure:
        raise ValueError(f"a page at {host} takes TLS (certificate and key), or insecure=True: all on the way could watch")
    return {} if certificate is None else {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def _listen(host: str, port: int) -> socket.socket:
    """Bind before the server starts, so that a port that is taken is told here and not in a thread's log."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=kind)
    except OSError as error:
        taken = "it is taken, choose another port" if error.errno == errno.EADDRINUSE else str(error)
        raise OSError(error.errno, f"the page cannot listen on {host} port {port}: {taken}") from error


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")
