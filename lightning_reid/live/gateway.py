"""A gateway: nodes and other gateways tell it what cameras see, one matcher takes it all (extra ``tracking``)."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from lightning_reid.live.audit import AuditLog
from lightning_reid.live.guests import Guest, Guests
from lightning_reid.live.journal import GATEWAY, Journal
from lightning_reid.live.link_wire import PROTOCOL, BatchReader, LinkRefusedError, read_hello
from lightning_reid.live.matching import Listener, MatchingThread, Message, Told
from lightning_reid.live.node_link import FromNode, NodeLink
from lightning_reid.live.tokens import TokenRefusedError, check_token
from lightning_reid.tracking import (
    CameraTracks,
    ForgetIdentity,
    OnlineMatcher,
    StageHealth,
    TrackEnded,
    TrackFeature,
    UndoMatch,
    read_message,
)

logger = logging.getLogger(__name__)

GREETS_WITHIN = 10.0
"""Seconds that a connection has for its greeting."""
MATCHED_WITHIN = 60.0
"""Seconds after which a matching that does not come to a batch is given up."""
MOST_GREETING = 64
"""Connections that may be without a greeting at a time."""
MOST_REASONS = 5
"""Refused messages of a batch that are told with their reason."""
LARGEST_REQUEST = 4096
"""Bytes of what is asked over HTTP."""
_REFUSED = 1008
_Content = TypeVar("_Content", str, bytes)


@dataclass(eq=False)
class _Batch:
    """Messages that wait for the matching."""

    left: int
    refused: list[str] = field(default_factory=list)
    done: Future[None] = field(default_factory=Future)


class Gateway:
    """Lets nodes in, has their messages matched in one thread, tells them what became of it, and hands them on to its peers.

    Who is let in shows a token that this gateway has issued, speaks this protocol, and makes features of this width by this network; a
    camera is told of by one connection at a time. Peers match what each other's nodes tell, never what a third told them; each numbers
    the people by itself, so a person may have another number there.

    Args:
        matcher: That all messages are fed to, in a thread of its own.
        secret: By which its tokens are signed.
        audit: Where it is written down who asks for what.
        journal: Of this matcher; the first to hear of each message.
        listeners: Told of every message, in the matching thread; they must be quick.
        peers: Links to other gateways.
        clock: Seconds since 1970.

    Attributes:
        matching: The thread that has the matcher.
        audit: As given.
    """

    def __init__(
        self,
        matcher: OnlineMatcher,
        *,
        secret: bytes,
        audit: AuditLog,
        journal: Journal | None = None,
        listeners: Sequence[Listener] = (),
        peers: Sequence[NodeLink] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.audit, self._secret, self._journal, self._peers, self._clock = audit, secret, journal, tuple(peers), clock
        self._guests = Guests(matcher)
        self._awaited: dict[int, _Batch] = {}
        self._greeting = 0
        first = () if journal is None else (journal,)
        self.matching = MatchingThread(matcher, [*first, *listeners, self._hear], clock=clock)

    def app(self, routes: Sequence[BaseRoute] = ()) -> Starlette:
        """The web application: ``/nodes`` for nodes and peers, ``/requests`` for who may ask, and other routes, as those of a page."""
        own = [WebSocketRoute("/nodes", self._serve_node), Route("/requests", self._serve_request, methods=["POST"])]
        return Starlette(routes=[*own, *routes], lifespan=self._live)

    def wait(self, stop: threading.Event, seconds: float | None = None) -> None:
        """Wait until somebody stops it, ``seconds`` at most.

        Raises:
            RuntimeError: A listener has failed, which is its cause: nothing is matched any more.
        """
        until = math.inf if seconds is None else time.monotonic() + seconds
        while not stop.wait(min(max(until - time.monotonic(), 0), 0.25)) and time.monotonic() < until:
            self.matching.raise_failure()

    def close(self) -> None:
        """Match what waits, then stop.

        Raises:
            RuntimeError: A listener has failed, which is its cause.
        """
        self.matching.close()

    def ask(self, request: UndoMatch | ForgetIdentity, by: str) -> str | None:
        """Have a match undone or a person forgotten, once it is written down who asks; waits until it is done.

        Args:
            request: What is asked.
            by: Id of the token of who asks, or another name.

        Returns:
            Why it was refused; ``None`` if it was done.

        Raises:
            OSError: The audit log cannot be written; nothing is done.
            RuntimeError: The matching has stopped.
        """
        self.audit.write_request(request, by=by)
        batch = self._put([request])
        batch.done.result(MATCHED_WITHIN)
        return batch.refused[0] if batch.refused else None

    def _put(self, messages: Sequence[Message]) -> _Batch:
        """Hand messages to the matching; waits while too many wait there already."""
        batch = _Batch(len(messages))
        if not messages:
            batch.done.set_result(None)
        for message in messages:
            self._awaited[id(message)] = batch  # the matching holds the message as long as this stands here
            self.matching.put(message)
        return batch

    def _hear(self, told: Told) -> None:
        """The last listener: a message is matched, written down and shown."""
        batch = self._awaited.pop(id(told.message), None)
        if batch is None:
            return
        if told.refused is not None:
            batch.refused.append(told.refused)
        batch.left -= 1
        if not batch.left:
            batch.done.set_result(None)

    async def _serve_node(self, socket: WebSocket) -> None:
        await socket.accept()
        guest = None
        try:
            guest = await self._greet(socket)
            await self._take(socket, guest)
        except WebSocketDisconnect:
            pass
        except (LinkRefusedError, TokenRefusedError) as error:
            logger.warning("%s is refused: %s", guest or socket.client, error)
            await _refuse(socket, str(error))
        finally:
            if guest is not None:
                self._guests.leave(guest)

    async def _greet(self, socket: WebSocket) -> Guest:
        if self._greeting >= MOST_GREETING:
            raise LinkRefusedError(f"{MOST_GREETING} connections have yet to greet: come again")
        self._greeting += 1
        try:
            token = check_token(self._secret, _bearer(socket.headers.get("authorization")), now=self._clock())
            text = await asyncio.wait_for(_received(socket, str), GREETS_WITHIN)
        except TimeoutError as error:
            raise LinkRefusedError(f"no greeting came in {GREETS_WITHIN:g} s") from error
        finally:
            self._greeting -= 1
        guest, replaced = self._guests.enter(read_hello(text), token, socket, now=self._clock())
        if replaced is not None:
            await _refuse(replaced.socket, "the same node has connected anew")
        await socket.send_json({"protocol": PROTOCOL, "utc": self._clock()})
        return guest

    async def _take(self, socket: WebSocket, guest: Guest) -> None:
        reader, number = BatchReader(), 0
        while True:
            try:
                content = await asyncio.wait_for(_received(socket, bytes), max(guest.token.expires - self._clock(), 0))
            except TimeoutError:
                check_token(self._secret, _bearer(socket.headers.get("authorization")), now=self._clock())
                raise
            batch = await asyncio.to_thread(self._put_batch, guest, reader, content)
            await asyncio.wait_for(asyncio.wrap_future(batch.done), MATCHED_WITHIN)
            await socket.send_json({"taken": number, "refused_messages": batch.refused[:MOST_REASONS]})
            number += 1

    def _put_batch(self, guest: Guest, reader: BatchReader, content: bytes) -> _Batch:
        try:
            messages = [_of_guest(guest, read_message(one)) for one in reader.read(content)]
        except LinkRefusedError:
            raise
        except ValueError as error:
            raise LinkRefusedError(f"a batch holds what is no message of a node: {error}") from error
        batch = self._put(messages)
        if not guest.peer:
            for link in self._peers:
                for message in messages:
                    if _camera(message) in link.cameras:
                        link.put(message)
        return batch

    async def _serve_request(self, request: HttpRequest) -> JSONResponse:
        try:
            token = check_token(self._secret, _bearer(request.headers.get("authorization")), now=self._clock())
            if not token.asks:
                raise TokenRefusedError(f"token {token.id} lets nobody ask: issue one with --asks")
        except TokenRefusedError as error:
            return JSONResponse({"refused": str(error)}, status_code=403)
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > LARGEST_REQUEST:
                return JSONResponse({"refused": f"a request has up to {LARGEST_REQUEST:,} bytes"}, status_code=413)
        try:
            asked = read_message(content)
            if not isinstance(asked, UndoMatch | ForgetIdentity):
                raise ValueError(f"UndoMatch or ForgetIdentity can be asked, got {type(asked).__name__}")
        except ValueError as error:
            return JSONResponse({"refused": str(error)}, status_code=400)
        refused = await asyncio.to_thread(self.ask, asked, token.id)
        return JSONResponse({"refused": refused}, status_code=200 if refused is None else 409)

    @asynccontextmanager
    async def _live(self, app: Starlette) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        """Tell once a second how journal and links do."""
        while True:
            await asyncio.sleep(1.0)
            now = self._clock()
            told: list[Message] = [link.health(GATEWAY, now) for link in self._peers]
            if self._journal is not None:
                told.append(self._journal.health(now))
            await asyncio.to_thread(self._put, told)


async def _received(socket: WebSocket, kind: type[_Content]) -> _Content:
    """The next text or bytes.

    Raises:
        LinkRefusedError: It is the other of the two.
        WebSocketDisconnect: The connection is over.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    content = message.get("text" if kind is str else "bytes")
    if not isinstance(content, kind):
        due, came = ("a text", "bytes") if kind is str else ("bytes", "a text")
        raise LinkRefusedError(f"{due} was due, and {came} came")
    return content


async def _refuse(socket: WebSocket, reason: str) -> None:
    try:
        await socket.send_json({"refused": reason})
        await socket.close(_REFUSED)
    except (WebSocketDisconnect, RuntimeError):  # it did not wait for the answer
        logger.info("%s was gone before it was told why", socket.client)


def _bearer(header: str | None) -> str:
    return (header or "").removeprefix("Bearer ")


def _camera(message: FromNode) -> str:
    return message.stamp.camera if isinstance(message, CameraTracks) else message.camera


def _of_guest(guest: Guest, message: object) -> FromNode:
    """A message that a guest may send.

    Raises:
        LinkRefusedError: It is of another camera, or asks or announces something.
    """
    if not isinstance(message, CameraTracks | TrackFeature | TrackEnded | StageHealth):
        raise LinkRefusedError(f"a node does not tell {type(message).__name__}")
    if (camera := _camera(message)) not in guest.hello.cameras:
        raise LinkRefusedError(f"a message is of camera {camera!r}, which {guest} has not greeted for")
    return message
