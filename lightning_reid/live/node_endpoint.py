"""Where nodes and peers come in at a gateway: who they are, then batch after batch (extra ``tracking``)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from lightning_reid.live.guests import Guest, Guests
from lightning_reid.live.link_wire import PROTOCOL, BatchReader, FromNode, Hello, LinkRefusedError, camera_of, read_hello
from lightning_reid.live.serving import unless_ended
from lightning_reid.live.tokens import Token, TokenRefusedError, check_token
from lightning_reid.tracking import CameraGone, read_message

logger = logging.getLogger(__name__)

GREETS_WITHIN = 10.0
"""Seconds that a connection has for its greeting."""
MOST_GREETING = 64
"""Connections that may be without a greeting at a time: of those that show a token, and of the others."""
MOST_REASONS = 5
"""Refused messages of a batch that are told with their reason."""
_REFUSED, _LONGEST_REASON = 1008, 120
"""Of a WebSocket's end; the whole reason goes before it."""
_Content = TypeVar("_Content", str, bytes)


class NodeEndpoint:
    """Serves the connections of nodes and peers.

    Args:
        guests: Who is connected.
        take: Takes the messages of a guest, and returns why some were refused once all are dealt with; called in threads.
        secret: By which tokens are signed.
        clock: Seconds since 1970.
    """

    def __init__(
        self, guests: Guests, take: Callable[[Guest, Sequence[FromNode]], list[str]], *, secret: bytes, clock: Callable[[], float]
    ) -> None:
        self._guests, self._take, self._secret, self._clock = guests, take, secret, clock
        self._greeting: Counter[bool] = Counter()

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection until it ends; who cannot be let in or goes wrong is told why, and closed."""
        await socket.accept()
        guest = None
        try:
            hello, token = await self._greeted(socket)
            guest, replaced = self._guests.enter(hello, token, socket, now=self._clock())  # from here on it has to leave, come what may
            if replaced is not None:
                await _refuse(replaced.socket, "the same node has connected anew")
            await unless_ended(socket.send_json({"protocol": PROTOCOL, "utc": self._clock()}))
            await self._talk(socket, guest)
        except WebSocketDisconnect:
            pass
        except (LinkRefusedError, TokenRefusedError) as error:
            logger.warning("%s is refused: %s", guest or socket.client, error)
            await _refuse(socket, str(error))
        finally:
            if guest is not None:
                self._guests.leave(guest, now=self._clock())

    async def _greeted(self, socket: WebSocket) -> tuple[Hello, Token]:
        token = self._token_of(socket)
        known = isinstance(token, Token)  # strangers wait on places of their own, and keep out nobody who has a token
        if self._greeting[known] >= MOST_GREETING:
            raise LinkRefusedError(f"{MOST_GREETING} connections have yet to greet: come again")
        self._greeting[known] += 1
        try:
            text = await asyncio.wait_for(_received(socket, str), GREETS_WITHIN)
        except TimeoutError as error:
            raise LinkRefusedError(f"no greeting came in {GREETS_WITHIN:g} s") from error
        finally:
            self._greeting[known] -= 1
        if not isinstance(token, Token):
            raise token  # once the greeting is in: who is still sending when the connection ends may not read why
        return read_hello(text), token

    def _token_of(self, socket: WebSocket) -> Token | TokenRefusedError:
        try:
            return check_token(self._secret, bearer_of(socket), now=self._clock())
        except TokenRefusedError as error:
            return error

    async def _talk(self, socket: WebSocket, guest: Guest) -> None:
        reader, number = BatchReader(), 0
        while True:
            try:
                content = await asyncio.wait_for(_received(socket, bytes), max(guest.token.expires - self._clock(), 0))
            except TimeoutError as error:
                raise TokenRefusedError(f"token {guest.token.id} has expired: have a new one issued") from error
            refused = await asyncio.to_thread(self._take_batch, guest, reader, content)
            await unless_ended(socket.send_json({"taken": number, "refused_messages": refused[:MOST_REASONS]}))
            number += 1

    def _take_batch(self, guest: Guest, reader: BatchReader, content: bytes) -> list[str]:
        try:
            messages = [_of_guest(guest, read_message(one)) for one in reader.read(content)]
        except LinkRefusedError:
            raise
        except ValueError as error:
            raise LinkRefusedError(f"a batch holds what is no message of a node: {error}") from error
        return self._take(guest, messages)


def bearer_of(connection: HTTPConnection) -> str:
    """The token that a request shows, as ``Authorization: Bearer ...``; empty where it shows none."""
    return connection.headers.get("authorization", "").removeprefix("Bearer ")


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
        await unless_ended(socket.send_json({"refused": reason}))
        await unless_ended(socket.close(_REFUSED, reason.encode()[:_LONGEST_REASON].decode(errors="ignore")))
    except WebSocketDisconnect:  # it did not wait for the answer
        logger.info("%s was gone before it was told why", socket.client)


def _of_guest(guest: Guest, message: object) -> FromNode:
    """A message that a guest may send.

    Raises:
        LinkRefusedError: It is of another camera, or asks or announces something.
    """
    if not isinstance(message, FromNode) or (isinstance(message, CameraGone) and not guest.peer):
        raise LinkRefusedError(f"a node does not tell {type(message).__name__}")
    if (camera := camera_of(message)) not in guest.hello.cameras:
        raise LinkRefusedError(f"a message is of camera {camera!r}, which {guest} has not greeted for")
    return message
