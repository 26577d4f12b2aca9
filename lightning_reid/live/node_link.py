"""A node's side of its connection to a gateway: a thread that greets, sends what waits, and comes back (extra ``tracking``)."""

from __future__ import annotations

import logging
import math
import random
import socket as sockets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from lightning_reid.arguments import require_number, shown
from lightning_reid.live.addresses import checked_address, trusting
from lightning_reid.live.link_wire import (
    CLOCK_TOLERANCE,
    PROTOCOL,
    BatchWriter,
    FromNode,
    Hello,
    LinkRefusedError,
    camera_of,
    read_answer,
    write_hello,
)
from lightning_reid.live.outbox import Outbox
from lightning_reid.live.tokens import read_token
from lightning_reid.tracking import StageHealth

logger = logging.getLogger(__name__)

MOST_ON_THE_WAY = 2**18
"""Bytes that are sent before the first of them must be taken."""
TAKEN_WITHIN = 15.0
"""Seconds after which a gateway that takes nothing is given up."""
HEALTH_INTERVAL = 1.0
"""Seconds from one report of how the link does to the next, while it is there."""


class NodeLink:
    """Tells a gateway what cameras tell, for as long as there is one; a gateway tells its peers by it, too.

    ``put`` never waits. While the gateway is gone the node tracks on: features and ends of tracks are kept, bounded, and sent when it is
    back; frames are not, since they are of the moment. Attempts come ``longest_wait`` seconds apart at most. Who is refused keeps asking,
    and says why when the reason changes: a token may be renewed, a dead connection of the same camera noticed.

    The clock of the gateway is compared with this one's at each greeting; the difference is told and nothing is corrected by it, since
    capture times stand in recordings, too: set the clocks (NTP), or give the matcher ``clock_slack``.

    Args:
        address: ``wss://host:port`` of the gateway; ``ws://`` within this machine.
        token: That the gateway has issued.
        model: Name or digest of the network that makes the features.
        feature_size: D of the features.
        cameras: Of which is told; ``None`` for all that the token is for.
        authority: PEM file of the certificate to trust; ``None`` for those that the system trusts.
        insecure: Another host may be told without TLS.
        peer: It speaks for a gateway.
        outbox: Where messages wait.
        interval: Seconds from one batch to the next.
        longest_wait: Most seconds from one attempt to connect to the next.
        clock: Seconds since 1970, as capture times are told.

    Attributes:
        clock_offset: Seconds that the gateway's clock is ahead of this one's; ``None`` before the first greeting.
        refused: Why the gateway refuses this node at the moment; ``None`` if it does not.
        connected: Whether it is there.
        num_refused: Messages that the gateway's matcher has refused, as far as it told.

    Raises:
        ValueError: The address, the token or another argument is not as described.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        model: str,
        feature_size: int,
        cameras: Sequence[str] | None = None,
        authority: str | Path | None = None,
        insecure: bool = False,
        peer: bool = False,
        outbox: Outbox | None = None,
        interval: float = 0.1,
        longest_wait: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_number("interval", interval, above=0, high=10)
        require_number("longest_wait", longest_wait, above=0)
        *_, tls = checked_address(address, insecure=insecure)
        self.address, self.cameras = address, frozenset(read_token(token).cameras if cameras is None else cameras)
        self._hello = Hello(PROTOCOL, token_hex(16), model, feature_size, tuple(sorted(self.cameras)), 0.0, peer)
        self._headers, self._tls = {"Authorization": f"Bearer {token}"}, trusting(authority) if tls else None
        self.outbox = Outbox() if outbox is None else outbox  # an empty one is false
        self._interval, self._longest_wait, self._clock = interval, longest_wait, clock
        self.clock_offset: float | None = None
        self.refused: str | None = None
        self.connected = False
        self.num_refused, self._refused_told = 0, -math.inf
        self._answered, self._closed = threading.Event(), threading.Event()
        self._flush_until = 0.0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"link to {address}", daemon=True)
        self._thread.start()

    def __enter__(self) -> NodeLink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def put(self, message: FromNode) -> None:
        """Hand a message over; it is sent with the next batch.

        Raises:
            RuntimeError: The link has failed, for the reason that is its cause; no refusal and no broken connection is such a failure.
            ValueError: It is of a camera that was not greeted for.
        """
        self._raise_failure()
        if (camera := camera_of(message)) not in self.cameras:
            raise ValueError(f"the link to {self.address} is for {shown(sorted(self.cameras))}, not for camera {camera!r}")
        self.outbox.put(message)

    def wait_until_answered(self, seconds: float) -> bool:
        """Wait until the gateway takes or refuses this node (see ``connected`` and ``refused``); ``False`` if it does neither in time."""
        return self._answered.wait(seconds)

    def health(self, camera: str, at: float, stage: str = "link") -> StageHealth:
        """How the link does, told as a stage of ``camera`` at a time in seconds since 1970.

        Raises:
            RuntimeError: As of ``put``.
        """
        self._raise_failure()
        state = "live" if self.connected else "gone"
        dropped = self.outbox.num_dropped_frames + self.outbox.num_dropped_tracks
        return StageHealth(camera, stage, at, state, self.outbox.num_sent, dropped, len(self.outbox), 0.0)

    def close(self, flush_for: float = 2.0) -> None:
        """Send what waits, for ``flush_for`` seconds at most, then stop; what is left is told.

        Raises:
            RuntimeError: The link has failed, for the reason that is its cause.
        """
        self._flush_until = time.monotonic() + flush_for
        self._closed.set()
        self._thread.join()
        if left := len(self.outbox):
            logger.warning("link to %s: %d messages were not taken before it was closed", self.address, left)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RuntimeError(f"the link to {self.address} has failed") from self._failure

    def _run(self) -> None:
        try:
            self._come_back_until_closed()
        except BaseException as error:  # told by put and close, in the threads of those who call
            self._failure, self.connected = error, False
            self._answered.set()

    def _come_back_until_closed(self) -> None:
        wait, told = self._longest_wait / 16, None
        while True:
            try:
                self._once()
                reason = "the gateway closed the connection"
            except LinkRefusedError as error:
                reason, self.refused = str(error), str(error)
                self._answered.set()
                wait = self._longest_wait
            except (OSError, WebSocketException, ValueError) as error:
                reason = str(error) or repr(error)
            if self.connected:
                wait, told = self._longest_wait / 16, None
            self.connected = False
            self.outbox.connection_lost()
            if self._closed.is_set() and (time.monotonic() >= self._flush_until or not len(self.outbox) or self.refused is not None):
                return
            if reason != told:
                logger.warning("link to %s: %s. Features and ends of tracks are kept until it is back", self.address, reason)
                told = reason
            pause = wait * random.uniform(0.5, 1)
            if self._closed.wait(pause):
                time.sleep(min(pause, max(self._flush_until - time.monotonic(), 0.0)))
            wait = min(2 * wait, self._longest_wait)

    def _once(self) -> None:
        """Connect, greet, and talk until it ends."""
        with connect(
            f"{self.address.rstrip('/')}/nodes",
            ssl=self._tls,
            additional_headers=self._headers,
            user_agent_header=None,
            compression=None,  # batches are compressed already
            proxy=None,
            max_size=2**20,
            open_timeout=10,
            ping_interval=5,
            ping_timeout=10,
            close_timeout=1,
        ) as socket:
            _give_up_unacknowledged(socket)
            try:
                self._greet(socket)
                self._talk(socket)
            except ConnectionClosed as error:
                if error.rcvd is not None and error.rcvd.code == CloseCode.POLICY_VIOLATION:  # it had said why, before it could be read
                    raise LinkRefusedError(f"refused by the gateway: {error.rcvd.reason}") from error
                raise

    def _greet(self, socket: ClientConnection) -> None:
        began = self._clock()
        socket.send(write_hello(Hello(**{**vars(self._hello), "utc": began})))
        answer, ended = read_answer(socket.recv(timeout=TAKEN_WITHIN)), self._clock()
        require_number("the gateway's clock", answer.get("utc"), low=0, high=1e11)
        self.clock_offset = answer["utc"] - (began + ended) / 2
        if abs(self.clock_offset) > CLOCK_TOLERANCE:
            logger.warning("link to %s: its clock is %+.1f s from this one's: set them, as by NTP", self.address, self.clock_offset)
        logger.info("link to %s: connected, for %s", self.address, ", ".join(sorted(self.cameras)))
        self.connected, self.refused = True, None
        self._answered.set()

    def _talk(self, socket: ClientConnection) -> None:
        writer, on_the_way = BatchWriter(), deque[int]()
        taken_at = health_due = time.monotonic()
        while not self._closed.is_set() or (len(self.outbox) and time.monotonic() < self._flush_until):
            until = time.monotonic() + self._interval
            if until > health_due and not self._hello.peer:
                health_due = until + HEALTH_INTERVAL
                for camera in self._hello.cameras:
                    self.outbox.put(self.health(camera, self._clock()))
            room = MOST_ON_THE_WAY - sum(on_the_way)
            if room > 0 and (batch := self.outbox.take(min(room, 2**16))):
                content = writer.write(batch)
                taken_at = taken_at if on_the_way else time.monotonic()
                on_the_way.append(len(content))
                socket.send(content)
            while (left := until - time.monotonic()) > 0:
                try:
                    answer = read_answer(socket.recv(timeout=left))
                except TimeoutError:
                    break
                self._taken(answer)
                on_the_way.popleft()
                taken_at = time.monotonic()
                if self._closed.is_set():
                    break
            if on_the_way and time.monotonic() - taken_at > TAKEN_WITHIN:
                raise TimeoutError(f"it took nothing for {TAKEN_WITHIN:g} s")

    def _taken(self, answer: dict[str, Any]) -> None:
        self.outbox.batch_taken()
        refused = answer.get("refused_messages", ())
        self.num_refused += len(refused)
        if refused and time.monotonic() - self._refused_told > 1:  # a clock that is far off has every frame refused
            self._refused_told = time.monotonic()
            told = "link to %s: a message was refused, the %d. so far: %s"
            logger.warning(told, self.address, self.num_refused, " ".join(str(refused[0]).split())[:500])


def _give_up_unacknowledged(socket: ClientConnection) -> None:
    """A send into a full buffer waits for as long as the system does, a quarter of an hour or for ever, and no ping gets past it."""
    if hasattr(sockets, "TCP_USER_TIMEOUT"):  # of Linux
        socket.socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, round(1000 * TAKEN_WITHIN))
