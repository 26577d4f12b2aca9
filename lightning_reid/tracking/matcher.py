"""The matcher of all cameras: messages in, events out, the same events for the same messages."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

from lightning_reid.arguments import require_number, shown
from lightning_reid.tracking.cameras import CameraState, LiveTrack, require_near, require_next_frame
from lightning_reid.tracking.events import CameraGone, CameraRestarted, Event, ForgetIdentity, IdentityEvent, Match, MatchUndone, UndoMatch
from lightning_reid.tracking.handover import MatchingRules
from lightning_reid.tracking.identities import Identities, Undone
from lightning_reid.tracking.query_round import propose_matches
from lightning_reid.tracking.record_fields import LATEST, TrackKey
from lightning_reid.tracking.records import CameraTracks, TrackEnded, TrackFeature
from lightning_reid.tracking.track_memory import TrackMemory
from lightning_reid.tracking.transit import TransitGates

Input = CameraTracks | TrackFeature | TrackEnded | UndoMatch | ForgetIdentity | CameraGone
COMPANY = 0.5
"""Share of its wait after which a track asks along with those that are due: the more ask at once, the better the assignment."""
_EXPIRY_INTERVAL = 1.0
"""Seconds."""


class OnlineMatcher:
    """Matches the people of several cameras while they walk: feed it messages, it answers with events.

    It has no clock, no thread and no file. A message that cannot be right is refused, and leaves everything as it was. A node tells the
    last feature of a track before its end, and who watches over nodes tells of a camera that is gone: until then its tracks last.

    Args:
        rules: How matches are made and undone.
        feature_size: D, numbers of a feature.
        model: Name or digest of the network that all nodes use; features of another are refused.
        gates: Bounds of transit times; they learn from matches that stand when their track ends. ``None`` for none.
        capacity: Most tracks that are remembered.
        keep_for: Seconds that a track is remembered after it was seen last.
        max_ahead: Seconds that a message may be ahead of ``received``.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher, TrackEnded, TrackFeature
        >>> matcher = OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18")
        >>> def frame(camera, number):
        ...     stamp = FrameStamp(camera, number, captured_monotonic=number / 10, captured_utc=number / 10)
        ...     return CameraTracks(stamp, 0, (7,), torch.tensor([[8.0, 4, 24, 60]]), torch.ones(1))
        >>> def looks(camera, seconds):
        ...     return TrackFeature(camera, 0, 7, torch.tensor([0.6, 0.8]), 1, seconds, seconds, "resnet18")
        >>> messages = [frame("door", 0), looks("door", 0.0), TrackEnded("door", 0, 7, seen_until=0.0)]
        >>> messages += [frame("hall", 50), looks("hall", 5.0), frame("hall", 51)]
        >>> for event in [event for message in messages for event in matcher.feed(message)]:
        ...     print(type(event).__name__, event.track.camera, event.identity)
        IdentityEvent door 0
        IdentityEvent hall 1
        Match hall 0
        IdentityEvent hall 0
    """

    def __init__(
        self,
        rules: MatchingRules,
        *,
        feature_size: int,
        model: str,
        gates: TransitGates | None = None,
        capacity: int = 10_000,
        keep_for: float = 3600.0,
        max_ahead: float = 60.0,
    ) -> None:
        require_number("max_ahead", max_ahead, low=0)
        self.rules, self.model, self.max_ahead = rules, model, max_ahead
        self.gates = gates or TransitGates()
        self.memory = TrackMemory(feature_size, capacity, keep_for)
        self.identities = Identities(rules.may_share, rules.clock_slack)
        self.now = 0.0
        self.feature_size = feature_size
        self._cameras: dict[str, CameraState] = {}
        self._live: dict[TrackKey, LiveTrack] = {}
        self._forgotten: dict[TrackKey, None] = {}
        self._next_expiry = 0.0

    def feed(self, message: Input, *, received: float | None = None) -> list[Event]:
        """Take one message, and tell what follows from it.

        Args:
            message: What a camera or somebody who watches tells, in the order of each camera.
            received: When it came, in seconds of the matcher's own host, on the scale of ``captured_utc``; memory expires by it, and a
                camera whose clock is far ahead is refused. A journal keeps it beside the message. ``None`` where capture times are the
                only clock there is, as with recorded videos.

        Returns:
            What is to be announced, in order.

        Raises:
            ValueError: The message cannot be right: of a wrong model, size, order, time or kind. Nothing has changed.
        """
        require_number("received", received, low=0, high=LATEST, optional=True)
        match message:
            case CameraTracks():
                events, at = self._frame(message, received), message.stamp.captured_utc
            case TrackFeature():
                events, at = self._feature(message, received), message.seen_until
            case TrackEnded():
                events, at = self._ended(message, received), message.seen_until
            case UndoMatch():
                events, at = _undone(self.identities.forbid(message.track, message.other), "by hand", self.now), self.now
            case ForgetIdentity():
                events, at = self._forget(message.identity), self.now
            case CameraGone():
                events, at = self._gone(message.camera), self.now
            case _:
                raise ValueError(f"a matcher takes {', '.join(kind.__name__ for kind in Input.__args__)}, got {shown(message)}")
        return events + [IdentityEvent(*one, at) for one in self.identities.renumbered()]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that have told of frames."""
        return tuple(self._cameras)

    def identity(self, track: TrackKey) -> int:
        """The number of the person that a track is of by now.

        Raises:
            ValueError: The track is not known, or no longer.
        """
        return self.identities.number(track)

    def _frame(self, message: CameraTracks, received: float | None) -> list[Event]:
        stamp, camera = message.stamp, message.stamp.camera
        last, at = self._cameras.get(camera), stamp.captured_utc
        require_next_frame(last, message)
        for key in message.keys:
            if key in self.identities and key not in self._live:
                raise ValueError(f"{key} is seen in frame {stamp.number} after its end: two nodes may bear the name {camera!r}")
        self.now = self._time("frame", camera, at, received)
        self._cameras[camera] = CameraState(message.epoch, stamp)
        events: list[Event] = []
        if last is not None and message.epoch > last.epoch:
            events.append(CameraRestarted(camera, message.epoch, last.epoch, at - last.stamp.captured_utc, at))
            for key in [key for key in self._live if key.camera == camera and key.epoch < message.epoch]:
                self._end(key)
        for key in message.keys:
            if key not in self._live:
                self._live[key] = LiveTrack()
                self.identities.appear(key, at, at)
            elif self.identities.presences.ended(key):
                events += _undone(self._back(key), "twice at a time", at)
            self._live[key].in_view = True
            events += _undone(self.identities.see(key, at), "twice at a time", at)
        events += self._round(at)
        self._expire()
        return events

    def _feature(self, message: TrackFeature, received: float | None) -> list[Event]:
        key, live = message.key, self._live.get(message.key)
        size = len(message.feature)
        if message.model != self.model or size != self.feature_size:
            raise ValueError(
                f"{key}: its feature is of {size} numbers by {message.model!r}, expected {self.feature_size} by {self.model!r}:"
                " all nodes must use one network"
            )
        if live is not None and message.num_features <= live.num_features:
            raise ValueError(f"{key}: a mean of {message.num_features} features came after one of {live.num_features}: it was sent twice")
        self.now = self._time("feature", key, message.seen_until, received)
        if key in self._forgotten:
            return []
        if key not in self.identities:
            self._live[key] = live = LiveTrack()
            self.identities.appear(key, message.seen_from, message.seen_until)
        undone = self.identities.see(key, message.seen_until)
        if live is not None:
            live.feature, live.num_features = message.feature, message.num_features
            if (state := self._cameras.get(key.camera)) is not None and key.epoch < state.epoch:
                self._end(key)  # it ended before it had a feature: nobody will tell its end again
                return _undone(undone, "twice at a time", message.seen_until)
        over = self.identities.presences.ended(key)
        if over or self.rules.memory == "live":
            self._remember(key, message.feature, ended=over)
        return _undone(undone, "twice at a time", message.seen_until)

    def _ended(self, message: TrackEnded, received: float | None) -> list[Event]:
        key = message.key
        if key not in self._live:  # by a restart, or it was forgotten, or told twice: over is over
            return []
        if message.seen_until < self.identities.presences.entered(key):
            raise ValueError(f"{key} ended at {message.seen_until}, before it appeared at {self.identities.presences.entered(key)}")
        self.now = self._time("track's end", key, message.seen_until, received)
        undone = self.identities.see(key, message.seen_until)
        self._end(key)
        return _undone(undone, "twice at a time", message.seen_until)

    def _gone(self, camera: str) -> list[Event]:
        """All tracks of a camera have left, as far as anybody knows."""
        for key, live in [(key, live) for key, live in self._live.items() if key.camera == camera]:
            live.in_view = False
            self.identities.end(key)
            if live.feature is not None:
                self._remember(key, live.feature, ended=True)
        return []

    def _back(self, key: TrackKey) -> list[Undone]:
        """A track that was taken to have left has not: matches with where the person was found meanwhile are wrong."""
        feature = self._live[key].feature
        if feature is None or self.rules.memory == "left":
            self.memory.forget([key])
        else:
            self._remember(key, feature, ended=False)
        return self.identities.last_on(key)

    def _forget(self, identity: int) -> list[Event]:
        """The features go, also those to come; a track that is still seen is somebody new, of whom nothing is kept but the boxes."""
        times = {key: (self.identities.presences.entered(key), self.identities.presences.seen_until(key)) for key in self._live}
        keys, undone = self.identities.forget(identity)
        self.memory.forget(keys)
        for key in keys:
            self._forgotten[key] = None
            if key in self._live:
                self._live[key] = LiveTrack(in_view=self._live[key].in_view)
                self.identities.appear(key, *times[key])
        for key in list(self._forgotten)[: max(len(self._forgotten) - self.memory.capacity, 0)]:
            del self._forgotten[key]
        return _undone(undone, "forgotten", self.now)

    def _round(self, at: float) -> list[Event]:
        """Let those who are due ask, if anybody is."""
        waited = {key: self._waited(key, live) for key, live in self._live.items()}
        if max(waited.values(), default=0.0) < 1:
            return []
        asking: dict[TrackKey, Tensor] = {}
        for key in sorted(key for key, wait in waited.items() if wait >= COMPANY):
            live, stamp = self._live[key], self._cameras[key.camera].stamp
            live.asked = stamp.number, stamp.captured_utc
            if live.feature is not None:
                asking[key] = live.feature
        events: list[Event] = []
        for one in propose_matches(asking, self.memory, self.identities, self.rules, self.gates):
            undone = self.identities.link(one.track, one.other, one.similarity, self.rules.margin)
            if undone is not None:  # otherwise a match made just now stands in its way
                events += _undone(undone, "better match", at)
                events.append(Match(one.track, one.other, one.similarity, self.identities.number(one.track), at))
        return events

    def _waited(self, key: TrackKey, live: LiveTrack) -> float:
        """Share of the wait between two queries that has passed; 0 for a track that cannot ask."""
        state = self._cameras.get(key.camera)
        if state is None or state.epoch != key.epoch or not live.in_view or live.num_features < self.rules.min_features:
            return 0.0
        if live.asked is None:
            return math.inf
        return self.rules.waited(state.stamp.number - live.asked[0], state.stamp.captured_utc - live.asked[1])

    def _end(self, key: TrackKey) -> None:
        live, entered = self._live.pop(key), self.identities.presences.entered(key)
        self.identities.end(key)
        last = self.identities.last_sight(key, entered)
        if last is not None and last.camera != key.camera:
            seconds, over = self.identities.presences.transit(last, entered)
            if over:
                self.gates.learn(last.camera, key.camera, seconds)
        if live.feature is None:
            self.identities.drop(key)
        else:
            self._remember(key, live.feature, ended=True)

    def _remember(self, key: TrackKey, feature: Tensor, *, ended: bool) -> None:
        entered, seen_until = self.identities.presences.entered(key), self.identities.presences.seen_until(key)
        gone = self.memory.put(key, feature, entered=entered, seen_until=seen_until, ended=ended)
        self._let_go([] if gone is None else [gone])

    def _expire(self) -> None:
        if self.now < self._next_expiry:
            return
        self._next_expiry = self.now + _EXPIRY_INTERVAL
        oldest = self.now - self.memory.keep_for
        unseen = [key for key in self._live if self.identities.presences.seen_until(key) < oldest]
        for key in unseen:
            del self._live[key]
        self._let_go({*self.memory.expire(self.now), *self.memory.forget(unseen), *unseen})

    def _let_go(self, keys: Iterable[TrackKey]) -> None:
        """Tracks that are remembered no longer, and not seen either, are of nobody's concern."""
        for key in sorted(keys):
            if key not in self._live:
                self.identities.drop(key)

    def _time(self, name: str, key: TrackKey | str, captured: float, received: float | None) -> float:
        """The matcher's time with this message, once it is near enough to it."""
        now = max(self.now, captured if received is None else received)
        require_near(name, key, captured, now, ahead=self.max_ahead, behind=self.memory.keep_for)
        return now


def _undone(matches: Iterable[Undone], reason: str, at: float) -> list[Event]:
    return [MatchUndone(*one, reason, at) for one in matches]
