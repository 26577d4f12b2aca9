"""A gateway: nodes and other gateways tell it what cameras see, one matcher takes it all (extra ``tracking``)."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute

from lightning_reid.live.audit import AuditLog
from lightning_reid.live.guests import Guest, Guests
from lightning_reid.live.journal import GATEWAY, Journal
from lightning_reid.live.link_wire import FromNode, camera_of
from lightning_reid.live.matching import Listener, MatchingThread, Message, Told
from lightning_reid.live.node_endpoint import NodeEndpoint, bearer_of
from lightning_reid.live.node_link import NodeLink
from lightning_reid.live.serving import Server
from lightning_reid.live.tokens import TokenRefusedError, check_token
from lightning_reid.tracking import ForgetIdentity, OnlineMatcher, UndoMatch, read_message

MATCHED_WITHIN = 60.0
"""Seconds after which a matching that does not come to a batch is given up."""
_LOOKS_EVERY = 0.25
LARGEST_REQUEST = 4096
"""Bytes of what is asked over HTTP."""


@dataclass(eq=False)
class _Batch:
    """Messages that wait for the matching."""

    left: int
    refused: list[str] = field(default_factory=list)
    done: Future[list[str]] = field(default_factory=Future)


class Gateway:
    """Lets nodes in, has their messages matched in one thread, tells them what became of it, and hands them on to its peers.

    Who is let in shows a token that this gateway has issued, speaks this protocol, and makes features of this width by this network; a
    camera is told of by one connection at a time. Peers match what each other's nodes tell, never what a third told them; each numbers
    the people by itself, so a person may have another number there, and is to be forgotten at each.

    Args:
        matcher: That all messages are fed to, in a thread of its own.
        secret: By which its tokens are signed.
        audit: Where it is written down who asks for what.
        journal: Of this matcher; the first to hear of each message.
        listeners: Told of every message, in the matching thread; they must be quick.
        peers: Links to other gateways.
        gone_after: Seconds after which the people of a camera that nobody tells of are taken to have left.
        clock: Seconds since 1970.

    Attributes:
        matching: The thread that has the matcher.
        audit: As given.

    Raises:
        ValueError: ``gone_after`` is not above 0.
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
        gone_after: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.audit, self._secret, self._journal, self._peers, self._clock = audit, secret, journal, tuple(peers), clock
        self._guests = Guests(matcher, gone_after=gone_after, now=clock())
        self._awaited: dict[int, _Batch] = {}
        self._failure: Exception | None = None
        first = () if journal is None else (journal,)
        self.matching = MatchingThread(matcher, [*first, *listeners, self._hear], clock=clock)

    def app(self, routes: Sequence[BaseRoute] = ()) -> Starlette:
        """The web application: ``/nodes`` for nodes and peers, ``/requests`` for who may ask, and other routes."""
        nodes = NodeEndpoint(self._guests, self._take, secret=self._secret, clock=self._clock)
        own = [WebSocketRoute("/nodes", nodes.serve), Route("/requests", self._serve_request, methods=["POST"])]
        return Starlette(routes=[*own, *routes], lifespan=self._live)

    def wait(self, server: Server, stop: threading.Event, seconds: float | None = None) -> None:
        """Wait until somebody stops it, ``seconds`` at most.

        Raises:
            RuntimeError: A listener or a link to a peer has failed, which is its cause, or nothing is served any more.
        """
        until = math.inf if seconds is None else time.monotonic() + seconds
        while not stop.wait(min(max(until - time.monotonic(), 0), _LOOKS_EVERY)) and time.monotonic() < until:
            self.matching.raise_failure()
            if self._failure is not None:
                raise RuntimeError("the gateway has failed to watch over its nodes and peers") from self._failure
            if not server.alive:
                raise RuntimeError(f"nothing is served at {server.address} any more: the server's log says why")

    def close(self) -> None:
        """Match what waits, then stop.

        Raises:
            RuntimeError: A listener has failed, which is its cause.
        """
        self.matching.close()

    def ask(self, request: UndoMatch | ForgetIdentity, by: str) -> str | None:
        """Have a match undone or a person forgotten; waits until it is done, as no listener may.

        Returns:
            Why it was refused; ``None`` if it was done.

        Raises:
            OSError: As ``request`` says, whose arguments are the same.
            RuntimeError: The matching has stopped.
        """
        refused = self._wait_for(self.request(request, by))
        return refused[0] if refused else None

    def request(self, request: UndoMatch | ForgetIdentity, by: str) -> Future[list[str]]:
        """Ask that a match is undone or a person forgotten, once it is written down who asks; does not wait until it is done.

        Args:
            request: What is asked.
            by: Id of the token of who asks, or another name.

        Returns:
            In time, why it was refused; empty if it was done.

        Raises:
            OSError: The audit log cannot be written; nothing is done.
            RuntimeError: The matching has stopped.
        """
        self.audit.write_request(request, by=by)
        return self._put([request])

    def _put(self, messages: Sequence[Message]) -> Future[list[str]]:
        """Hand messages to the matching, and get in time which of them were refused; waits while too many wait there already."""
        batch = _Batch(len(messages))
        if not messages:
            batch.done.set_result([])
        for message in messages:
            self._awaited[id(message)] = batch  # the matching holds the message as long as this stands here
            self.matching.put(message)
        return batch.done

    def _wait_for(self, done: Future[list[str]]) -> list[str]:
        """Which messages of a batch were refused, once all are matched; a matching that has failed never comes to them."""
        until = time.monotonic() + MATCHED_WITHIN
        while True:
            try:
                return done.result(_LOOKS_EVERY)
            except TimeoutError:
                self.matching.raise_failure()
                if time.monotonic() > until:
                    raise

    def _hear(self, told: Told) -> None:
        """Be the last listener: a message is matched, written down and shown."""
        batch = self._awaited.pop(id(told.message), None)
        if batch is None:
            return
        if told.refused is not None:
            batch.refused.append(told.refused)
        batch.left -= 1
        if not batch.left:
            batch.done.set_result(batch.refused)

    def _take(self, guest: Guest, messages: Sequence[FromNode]) -> list[str]:
        """Match what a guest tells, and hand it on; what comes from a peer is not, or it would go round for ever."""
        done = self._put(messages)
        if not guest.peer:
            self._hand_on(messages)
        return self._wait_for(done)

    def _hand_on(self, messages: Sequence[FromNode]) -> None:
        """Tell peers of the cameras that they have let this gateway tell of."""
        for link in self._peers:
            for message in messages:
                if camera_of(message) in link.cameras:
                    link.put(message)

    async def _serve_request(self, request: HttpRequest) -> JSONResponse:
        try:
            token = check_token(self._secret, bearer_of(request), now=self._clock())
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
        """Tell once a second which cameras are gone, and how journal and links do."""
        while self._failure is None:
            await asyncio.sleep(1.0)
            try:
                await self._look()
            except Exception as error:  # of a link or the matching, told by wait
                self._failure = error

    async def _look(self) -> None:
        now = self._clock()
        gone = self._guests.gone(now)
        self._hand_on(gone)
        told: list[Message] = [*gone, *(link.health(GATEWAY, now, f"link to {link.address}"[:100]) for link in self._peers)]
        if self._journal is not None:
            told.append(self._journal.health(now))
        await asyncio.to_thread(self._put, told)
