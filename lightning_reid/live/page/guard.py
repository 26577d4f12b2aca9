"""Who may see the page: the right host, the right origin, the right token; and what a browser is told to refuse."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
OPEN_PATHS = ("/healthz",)
"""Told without a token: they say nothing of anybody."""


class Guard:
    """Stands before an application: refuses requests of foreign hosts and origins, and those without the token where there is one.

    A browser gets a cookie for the token of its first address, ``/?token=...``, and is sent on to the address without it.

    Args:
        app: What is guarded.
        names: Host names under which browsers may ask. Numeric addresses are always right: only a name can be made to point elsewhere.
        token: What must be known to watch; ``None`` for nothing.
        secure: Whether the page is served over TLS.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], token: str | None, *, secure: bool) -> None:
        self._app, self._token, self._secure = app, token, secure
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _refuse(scope, receive, send, *refused)
            return
        if scope["type"] == "http" and self._token is not None and scope["path"] == "/" and _of_query(scope):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie(headers), self._digest(), httponly=True, samesite="strict", secure=self._secure)
            await answer(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "This page is not served under that host name: name it where the page is started."
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{'https' if self._secure else 'http'}://{host}".lower():
            return 403, "Another site may not watch."
        if self._token is None or scope["path"] in OPEN_PATHS or self._knows_token(scope, headers):
            return None
        return 401, "Open the address with the token that was printed when the page was started."

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or "" if parts.port != 0 else ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        assert self._token is not None
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        told = _of_query(scope) or (bearer if kind.lower() == "bearer" else "")
        if told:
            return hmac.compare_digest(told.encode(), self._token.encode())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie(headers))
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._digest().encode())

    def _digest(self) -> str:
        assert self._token is not None
        return hashlib.sha256(b"lightning-reid page\0" + self._token.encode()).hexdigest()

    def _cookie(self, headers: Headers) -> str:
        return f"lightning-reid-{urlsplit('//' + headers.get('host', '')).port}"  # a browser sends cookies to all ports of a host


def _of_query(scope: Scope) -> str:
    found: str = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
    return found


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": text})
    else:
        await PlainTextResponse(text + "\n", status)(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sent
