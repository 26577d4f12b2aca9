"""Who is connected to a gateway, and who is let in: of each camera one connection tells at a time."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from starlette.websockets import WebSocket
from typing_extensions import override

from lightning_reid.arguments import require_number, shown
from lightning_reid.live.journal import GATEWAY
from lightning_reid.live.link_wire import CLOCK_TOLERANCE, Hello, LinkRefusedError
from lightning_reid.live.tokens import Token
from lightning_reid.tracking import CameraGone, OnlineMatcher

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Guest:
    """A connection that was let in.

    Attributes:
        hello: What it said of itself.
        token: That it showed.
        socket: By which it came.
        since: When it came, in seconds since 1970.
    """

    hello: Hello
    token: Token
    socket: WebSocket
    since: float

    @property
    def peer(self) -> bool:
        """Whether it is another gateway."""
        return self.hello.peer

    @override
    def __str__(self) -> str:
        kind = "gateway" if self.peer else "node"
        return f"{kind} {self.hello.node[:8]} (token {self.token.id}, cameras {', '.join(self.hello.cameras)})"


class Guests:
    """The connections that were let in, by camera, and since when nobody tells of the others.

    Args:
        matcher: Whose network, width and bounds of time those who enter must fit. It is read now alone: a thread has it afterwards.
        gone_after: Seconds after which a camera that nobody tells of is gone.
        now: Seconds since 1970; from now on the cameras that the matcher knows, from a journal, have to come back.
    """

    def __init__(self, matcher: OnlineMatcher, *, gone_after: float, now: float) -> None:
        require_number("gone_after", gone_after, above=0)
        self._gone_after, self._absent = gone_after, dict.fromkeys(matcher.cameras, now)
        self._model, self._feature_size = matcher.model, matcher.feature_size
        self._max_ahead, self._keep_for = matcher.max_ahead, matcher.memory.keep_for
        self._by_camera: dict[str, Guest] = {}

    def enter(self, hello: Hello, token: Token, socket: WebSocket, *, now: float) -> tuple[Guest, Guest | None]:
        """Let somebody in, or refuse them.

        Returns:
            The new guest, and the one whose dead connection it takes the place of, if it is the same node.

        Raises:
            LinkRefusedError: The network or width is another, a camera is not in the token or is told of by another node, or the clock is
                so far off that the matcher would refuse every message.
        """
        if hello.model != self._model or hello.feature_size != self._feature_size:
            raise LinkRefusedError(
                f"features of {hello.feature_size} numbers by {shown(hello.model)} came, {self._feature_size} by {shown(self._model)} are"
                " matched here: all nodes must use one network (--reid.checkpoint)"
            )
        foreign = sorted({*hello.cameras} - {*token.cameras})
        if foreign:
            raise LinkRefusedError(
                f"token {token.id} is for cameras {shown(sorted(token.cameras))}, not for {shown(foreign)}: issue one for them"
            )
        if GATEWAY in hello.cameras:
            raise LinkRefusedError(f"no camera may be named {GATEWAY!r}: give it another name")
        offset = hello.utc - now
        if not -self._keep_for < offset < self._max_ahead:
            raise LinkRefusedError(
                f"its clock is {offset:+.1f} s from this gateway's, its messages would all be refused: set it, as by NTP"
            )
        guest = Guest(hello, token, socket, now)
        held = {camera: one for camera in hello.cameras if (one := self._by_camera.get(camera)) is not None}
        for camera, other in held.items():
            if other.hello.node != hello.node:
                ago = now - other.since
                raise LinkRefusedError(
                    f"camera {camera!r} is told of by {other} since {ago:.0f} s: two nodes may bear its name, give one another"
                )
        self._by_camera |= dict.fromkeys(hello.cameras, guest)
        for camera in hello.cameras:
            self._absent.pop(camera, None)
        if abs(offset) > CLOCK_TOLERANCE:
            logger.warning(
                "%s: its clock is %+.1f s from this gateway's: set them, as by NTP, or give the matcher clock_slack", guest, offset
            )
        logger.info("%s has come", guest)
        return guest, next(iter(held.values()), None)

    def leave(self, guest: Guest, *, now: float) -> None:
        """Tell that a connection is over."""
        for camera in guest.hello.cameras:
            if self._by_camera.get(camera) is guest:
                del self._by_camera[camera]
                self._absent[camera] = now
        logger.info("%s has gone", guest)

    def gone(self, now: float) -> list[CameraGone]:
        """The cameras that nobody has told of for so long that their people are taken to have left; each is told once."""
        over = [camera for camera, since in self._absent.items() if now - since >= self._gone_after]
        for camera in over:
            del self._absent[camera]
            logger.warning("camera %r: no node has told of it for %g s, its people are taken to have left", camera, self._gone_after)
        return [CameraGone(camera) for camera in over]
