"""The web application: the page's files, the WebSocket that it is fed by, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import PurePosixPath

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

LONGEST_MESSAGE = 2**16
"""Bytes that a browser may send at once."""
PATIENCE = 30.0
"""Seconds that a browser may leave everything undrawn before it is let go; it comes back by itself."""
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
    """Feed one browser until it goes."""
    watcher, turn = Watcher(view, socket.client.host if socket.client else "somebody"), asyncio.Lock()
    view.counts["browsers"] += 1
    tasks = [asyncio.ensure_future(_listen(socket, watcher, turn)), asyncio.ensure_future(_tell(socket, watcher, turn))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        view.counts["browsers"] -= 1
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
            raise error
    with contextlib.suppress(RuntimeError):  # the browser has closed it already
        await socket.close(1013)


async def _listen(socket: WebSocket, watcher: Watcher, turn: asyncio.Lock) -> None:
    while True:
        text = await socket.receive_text()
        try:
            async with turn:
                await asyncio.to_thread(watcher.hear, text)
        except (ValueError, RuntimeError) as error:
            await socket.send_text(json.dumps({"kind": "refused", "text": str(error)}))


async def _tell(socket: WebSocket, watcher: Watcher, turn: asyncio.Lock) -> None:
    """Send a batch an interval; nothing while the browser is behind; return when it was for too long."""
    interval, waited = 1 / watcher.view.fps, 0.0
    while waited < PATIENCE:
        if watcher.behind:
            waited += interval
        else:
            waited = 0.0
            async with turn:
                batch = await asyncio.to_thread(watcher.batch)
            for message in batch:
                await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
        await asyncio.sleep(interval)
