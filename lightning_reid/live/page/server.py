"""Serving the page from a thread beside the cameras'."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_reid.arguments import require_path, require_switch, require_text, require_texts
from lightning_reid.live.addresses import is_loopback
from lightning_reid.live.page.app import LONGEST_MESSAGE, build_app
from lightning_reid.live.page.live_view import LiveView
from lightning_reid.live.serving import Server

SHORTEST_TOKEN = 16
"""Characters."""


class Page:
    """A page that is served, until it is closed.

    Attributes:
        url: Address to open, with the token in it where there is one.

    Example:
        >>> from lightning_reid.live.page import LiveView, serve
        >>> page = serve(LiveView(), port=0)
        >>> page.url.rpartition(":")[0]
        'http://127.0.0.1'
        >>> page.close()
    """

    def __init__(self, url: str, server: Server) -> None:
        self.url, self._server = url, server

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let all browsers go and free the port."""
        self._server.close()


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
    require_texts("names", list(names) if isinstance(names, tuple) else names)
    require_switch("insecure", insecure)
    require_path("certificate", certificate, optional=True)
    require_path("key", key, optional=True)
    token = _checked_token(token, host)
    reached = host if not _is_any(host) else socket.gethostname()
    app = build_app(view, names=("localhost", reached, host, *names), token=token, secure=certificate is not None)
    tls: dict[str, Any] = {"certificate": certificate, "key": key, "insecure": insecure}
    server = Server(app, host=host, port=port, largest_message=LONGEST_MESSAGE, **tls)
    bracketed = f"[{reached}]" if ":" in reached else reached
    query = f"/?token={token}" if token else ""
    return Page(f"{'https' if server.tls else 'http'}://{bracketed}:{server.port}{query}", server)


def _checked_token(token: str | None, host: str) -> str | None:
    if token is None:
        return None if is_loopback(host) else secrets.token_urlsafe(24)
    require_text("token", token)
    if len(token) < SHORTEST_TOKEN or not re.fullmatch(r"[A-Za-z0-9_-]+", token):
        raise ValueError(f"a token must have at least {SHORTEST_TOKEN} letters, digits, - or _: secrets.token_urlsafe(24) makes one")
    return token


def _is_any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")
