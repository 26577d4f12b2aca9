"""``LiveView``: what there is to watch right now, kept up to date by the matching and the cameras' threads, read by the page."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_reid.arguments import require_count, require_number, require_switch
from lightning_reid.live.journal import GATEWAY
from lightning_reid.live.matching import Told
from lightning_reid.live.page.camera_view import CameraView, Encoded, quantile_of
from lightning_reid.live.page.crops import take_crops
from lightning_reid.live.page.people_view import PeopleView
from lightning_reid.tracking import (
    CameraGone,
    CameraRestarted,
    CameraTracks,
    ForgetIdentity,
    FrameStamp,
    Match,
    MatchUndone,
    StageHealth,
    TrackEnded,
    TrackKey,
    UndoMatch,
)
from lightning_reid.tracking.events import Event, Request

audit = logging.getLogger("lightning_reid.live.page")
"""Told of everything that somebody who watches asks for."""
MOST_NOTES = 200
_EXPIRY_INTERVAL = 1.0
"""Seconds."""


class Note(NamedTuple):
    """A line of the page's log."""

    serial: int
    at: float
    text: str


class LiveView:
    """Keeps what a page shows, in bounded memory; give it to a ``MatchingThread`` as a listener and to cameras as ``on_picture``.

    Nothing is encoded here: a picture is kept in place of the one before, and made a JPEG when a browser asks for it.

    Args:
        pictures: Whether pictures are kept and shown at all; ``False`` keeps boxes alone, and nobody who watches can change that.
        fps: Most pictures a second of a camera that are encoded.
        stall_after: Seconds without a frame after which a camera has stalled.
        keep_for: Seconds that people are shown after they were seen last.
        most_people: People who are kept; who was seen longest ago goes first.
        most_cameras: Cameras that are kept; that of which nothing was heard for longest goes first.
        clock: Seconds since 1970, to compare capture times with; ``None`` where they are a recording's, then no latency is told.
        monotonic: Seconds by which it is judged whether a camera has stalled: those of arrival, whatever clock the camera has.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_reid.live import MatchingThread
        >>> from lightning_reid.live.page import LiveView
        >>> from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher
        >>> view = LiveView(clock=None)
        >>> matcher = OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18")
        >>> with MatchingThread(matcher, [view], clock=None) as matching:
        ...     view.send_requests(matching.put)
        ...     stamp = FrameStamp("door", 0, captured_monotonic=0.0, captured_utc=0.0)
        ...     matching.put(CameraTracks(stamp, 0, (7,), torch.tensor([[8.0, 4, 24, 60]]), torch.ones(1)))
        >>> view.counters()["people_now"]
        1
    """

    def __init__(
        self,
        *,
        pictures: bool = True,
        fps: float = 10.0,
        stall_after: float = 2.0,
        keep_for: float = 600.0,
        most_people: int = 300,
        most_cameras: int = 100,
        clock: Callable[[], float] | None = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        require_switch("pictures", pictures)
        for name, value in (("fps", fps), ("stall_after", stall_after), ("keep_for", keep_for)):
            require_number(name, value, above=0)
        require_count("most_people", most_people)
        require_count("most_cameras", most_cameras)
        self.pictures, self.fps, self.stall_after, self.clock, self.monotonic = pictures, fps, stall_after, clock, monotonic
        self.lock = threading.RLock()
        self.cameras: dict[str, CameraView] = {}
        self.people = PeopleView(keep_for, most_people)
        self.notes: deque[Note] = deque(maxlen=MOST_NOTES)
        self.now = 0.0
        self.counts = dict.fromkeys(("matches", "undone", "refused", "browsers"), 0)
        self._most_cameras = most_cameras
        self._put: Callable[[Request], object] = _nowhere
        self._drawn: deque[float] = deque(maxlen=500)
        self._serial, self._next_expiry = 0, 0.0
        self._stages: dict[str, str] = {}

    def send_requests(self, put: Callable[[Request], object]) -> None:
        """Name where requests of those who watch go to, the ``put`` of the matching thread; it was made later than its listener."""
        self._put = put

    def __call__(self, told: Told) -> None:
        """Take what the matching thread tells."""
        with self.lock:
            if told.refused is not None:
                self.counts["refused"] += 1
                if isinstance(told.message, UndoMatch | ForgetIdentity):
                    self.note(f"The request was refused: {told.refused}")
                return
            match told.message:
                case CameraTracks():
                    self._frame(told.message, told)
                case TrackEnded():
                    self.people.end(told.message)
                case StageHealth() if told.message.camera == GATEWAY:
                    self._gateway(told.message)
                case StageHealth():
                    self._camera(told.message.camera).take_health(told.message, self.monotonic())
                case CameraGone():
                    self._camera(told.message.camera).take_gone(self.monotonic())
                case ForgetIdentity():
                    self.people.forget(told.message.identity)
                    self.note(f"Person {told.message.identity} is forgotten")
            for event in told.events:
                if not isinstance(event, CameraRestarted):
                    self._announce(event)
            if (now := self.time()) >= self._next_expiry:  # by any message: the cameras may all be gone
                self._next_expiry = now + _EXPIRY_INTERVAL
                self.people.expire(now)

    def on_picture(self, stamp: FrameStamp, picture: Tensor, tracks: CameraTracks) -> None:
        """Take a camera's picture, and who is in it; to be called in the camera's thread.

        Args:
            stamp: Of the frame.
            picture: ``[3, H, W]`` uint8 RGB, not written into afterwards: it is kept as it is.
            tracks: Of the same frame.

        Raises:
            ValueError: The picture is none, or the tracks are of another frame.
        """
        if picture.ndim != 3 or picture.shape[0] != 3 or picture.dtype != torch.uint8 or not picture.numel():
            told = f"expected [3, H, W] uint8, got {list(picture.shape)} {picture.dtype}"
            raise ValueError(f"camera {stamp.camera!r}, frame {stamp.number}: {told}")
        if tracks.stamp != stamp:
            raise ValueError(f"camera {stamp.camera!r}, frame {stamp.number}: its tracks are of frame {tracks.stamp}")
        if not self.pictures:
            return
        with self.lock:
            self._camera(stamp.camera).take_picture(picture, tracks, self.monotonic())
            take_crops(self.people, picture, tracks)

    def undo(self, track: TrackKey, other: TrackKey, *, who: str) -> None:
        """Ask that a match be undone.

        Args:
            track: One of its tracks.
            other: The other.
            who: Asks, for the log.

        Raises:
            ValueError: The view knows of no such match that stands.
            RuntimeError: The matching has ended.
        """
        with self.lock:
            if self.people.match_between(track, other) is None:
                raise ValueError(f"no match of {track} and {other} stands: it may have been undone already")
        audit.info("%s asks to undo the match of %s and %s", who, track, other)
        self._put(UndoMatch(track, other))

    def forget(self, identity: int, *, who: str) -> None:
        """Ask that a person be forgotten: their features, and their crops here.

        Args:
            identity: Their number.
            who: Asks, for the log.

        Raises:
            ValueError: The view shows no such person.
            RuntimeError: The matching has ended.
        """
        with self.lock:
            if identity not in self.people.people:
                raise ValueError(f"no person {identity} is shown: the number may have been corrected since")
        audit.info("%s asks to forget person %d", who, identity)
        self._put(ForgetIdentity(identity))

    def picture_of(self, camera: str) -> Encoded | None:
        """The latest picture of a camera as JPEG, encoded now if need be; ``None`` where there is none, or it is too old."""
        now = self.monotonic()
        with self.lock:
            view = self.cameras.get(camera)
            shot = None if view is None else view.fresh_shot(now)
        return None if view is None or shot is None else view.encoded(shot, now, 0.9 / self.fps)

    def drawn(self, captured: float) -> None:
        """A browser has drawn a picture that was captured then."""
        if self.clock is not None:
            with self.lock:
                self._drawn.append(max(self.clock() - captured, 0.0))

    def counters(self) -> dict[str, Any]:
        """The numbers of the top line; latencies in seconds, ``None`` where nothing was measured."""
        with self.lock:
            now = self.monotonic()
            live = [one.seen_last() for one in self.cameras.values() if one.state(now)[0] == "live"]
            here = {self.people.identity(key) for tracks in live if tracks is not None for key in tracks.keys} - {None}
            return {
                "people_now": len(here),
                "identities": len(self.people.people),
                **self.counts,
                "dropped": sum(one.skipped for one in self.cameras.values()),
                "latency": quantile_of(self._drawn, 0.95),
            }

    def time(self) -> float:
        """Seconds on the scale of capture times: the clock's, where there is one, so that time passes though no frame comes."""
        return self.now if self.clock is None else max(self.now, self.clock())

    def note(self, text: str) -> None:
        """Write a line into the log that the page shows."""
        with self.lock:
            self._serial += 1
            self.notes.append(Note(self._serial, self.now, text))

    def _frame(self, message: CameraTracks, told: Told) -> None:
        stamp = message.stamp
        self.now = max(self.now, stamp.captured_utc)
        latency = None if self.clock is None else max(told.received - stamp.captured_utc, 0.0)
        self._camera(stamp.camera).take_tracks(message, self.monotonic(), latency)
        for event in told.events:
            if isinstance(event, CameraRestarted):
                self._announce(event)
        for key, identity in zip(message.keys, told.identities, strict=True):
            self.people.see(key, identity, stamp.captured_utc)

    def _announce(self, event: Event) -> None:
        self.people.apply(event)
        match event:
            case Match():
                self.counts["matches"] += 1
                self.note(f"Person {event.identity}: {event.other.camera} → {event.track.camera}, similarity {event.similarity:.2f}")
            case MatchUndone():
                self.counts["undone"] += 1
                self.note(f"Match undone, {event.reason}: {event.other.camera} → {event.track.camera}")
            case CameraRestarted():
                self.note(f"{event.camera} has restarted")

    def _gateway(self, health: StageHealth) -> None:
        """The journal and the links of a gateway are no camera: that they fail or are back is a line of the log."""
        before, self._stages[health.stage] = self._stages.get(health.stage, "live"), health.state
        if before != health.state:
            self.note(f"The gateway's {health.stage} is {health.state}")

    def _camera(self, name: str) -> CameraView:
        if name not in self.cameras:
            self.cameras[name] = CameraView(name, self.monotonic(), self.stall_after)
            if len(self.cameras) > self._most_cameras:
                del self.cameras[min(self.cameras.values(), key=lambda one: one.heard).name]
        return self.cameras[name]


def _nowhere(request: Request) -> None:
    raise RuntimeError(f"nobody takes requests: call send_requests with the put of the matching thread before {request}")
