"""The web application: the page's files, the WebSocket that it is fed by, metrics."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from pathlib import PurePosixPath

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from lightning_reid.live.page.guard import Guard
from lightning_reid.live.page.live_view import LiveView
from lightning_reid.live.page.metrics import CONTENT_TYPE, metrics_text
from lightning_reid.live.page.watcher import Watcher
from lightning_reid.live.serving import unless_ended

LONGEST_MESSAGE = 2**16
"""Bytes that a browser may send at once."""
PATIENCE = 30.0
"""Seconds that a browser may leave everything undrawn before it is let go; it comes back by itself."""
Part = Callable[[WebSocket, Watcher, anyio.Lock], Awaitable[None]]
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def static_files() -> dict[str, tuple[bytes, str]]:
    """The page's files, as content and media type, by name."""
    folder = resources.files(__package__) / "static"
    return {one.name: (one.read_bytes(), _TYPES[PurePosixPath(one.name).suffix]) for one in folder.iterdir()}


def build_app(view: LiveView, *, names: Sequence[str] = ("localhost",), token: str | None = None, secure: bool = False) -> ASGIApp:
    """Make the application that shows a view.

    Args:
        view: What there is to watch.
        names: Host names under which browsers may ask, beside numeric addresses.
        token: What must be known to watch; ``None`` for nothing.
        secure: Whether it is served over TLS.
    """
    files = static_files()

    async def page(request: Request) -> Response:
        content, kind = files["index.html"]
        return Response(content, media_type=kind)

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return PlainTextResponse("There is no such file.\n", 404)
        return Response(files[name][0], media_type=files[name][1])

    async def metrics(request: Request) -> Response:
        return Response(metrics_text(view), headers={"content-type": CONTENT_TYPE})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await _show(socket, view)

    routes = [Route("/", page), Route("/static/{name}", static), Route("/metrics", metrics), Route("/healthz", health)]
    return Guard(Starlette(routes=[*routes, WebSocketRoute("/live", live)]), names, token, secure=secure)


async def _show(socket: WebSocket, view: LiveView) -> None:
    """Feed one browser until it goes, or is let go."""
    watcher, turn = Watcher(view, socket.client.host if socket.client else "somebody"), anyio.Lock()
    view.counts["browsers"] += 1
    try:
        async with anyio.create_task_group() as both:
            for part in (_listen, _tell):
                both.start_soon(_until_gone, part, socket, watcher, turn, both.cancel_scope)
    finally:
        view.counts["browsers"] -= 1


async def _until_gone(part: Part, socket: WebSocket, watcher: Watcher, turn: anyio.Lock, both: anyio.CancelScope) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        await part(socket, watcher, turn)
        await unless_ended(socket.close(1013))
    both.cancel()


async def _listen(socket: WebSocket, watcher: Watcher, turn: anyio.Lock) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            if message.get("text") is None:
                raise ValueError("a page tells what it wants to see as text, and bytes came")
            async with turn:
                await anyio.to_thread.run_sync(watcher.hear, message["text"])
        except (ValueError, RuntimeError, OSError) as error:  # the last of the audit log
            await unless_ended(socket.send_text(json.dumps({"kind": "refused", "text": str(error)})))


async def _tell(socket: WebSocket, watcher: Watcher, turn: anyio.Lock) -> None:
    """Send a batch an interval; nothing while the browser is behind; return when it was for too long."""
    interval, waited = 1 / watcher.view.fps, 0.0
    while waited < PATIENCE:
        if watcher.behind:
            waited += interval
        else:
            waited = 0.0
            async with turn:
                batch = await anyio.to_thread.run_sync(watcher.batch)
            for message in batch:
                await unless_ended(socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
        await anyio.sleep(interval)
