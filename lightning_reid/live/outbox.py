"""What a node has yet to tell its gateway: bounded, features thinned, and what must not be lost kept while the gateway is gone."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from lightning_reid.arguments import require_count, require_number
from lightning_reid.tracking import CameraGone, CameraTracks, StageHealth, TrackEnded, TrackFeature, TrackKey, write_message
from lightning_reid.tracking.records import FromCameras

_OVERDUE = 1.25
"""How many intervals a feature is held back where no newer one comes."""


class _Item(NamedTuple):
    order: int
    put_at: float
    slot: Hashable
    """``None`` of a frame, which nothing replaces and which is not sent twice."""
    content: bytes


class Outbox:
    """Holds messages in their order until they are sent and the gateway says that it has taken them.

    Frames and health are of the moment: the oldest go where there are too many, those that waited longer than ``fresh`` are not sent, and
    none is sent twice. Features and ends of tracks are kept, and are sent again after a broken connection. Of a track only the latest
    feature waits; after one it is ``feature_interval`` seconds of capture time until the next, but the last one always goes before the end.
    Safe for many threads.

    Args:
        most_frames: That may wait.
        most_tracks: Whose features and ends may wait; beyond, the oldest are dropped.
        fresh: Seconds that a frame may wait.
        feature_interval: Seconds of capture time between features of one track; 4 are 40 frames at 10 a second.
        clock: Seconds, of any origin.

    Attributes:
        num_sent: Messages that the gateway has taken.
        num_dropped_frames: Frames and health that were never sent or may have been lost.
        num_dropped_tracks: Features or ends that were dropped since too many waited.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from lightning_reid.live.outbox import Outbox
        >>> from lightning_reid.tracking import TrackEnded
        >>> outbox = Outbox()
        >>> outbox.put(TrackEnded("door", 0, 7, seen_until=9.5))
        >>> len(outbox.take()), outbox.take()
        (1, [])
        >>> outbox.connection_lost()
        >>> len(outbox.take())
        1
    """

    def __init__(
        self,
        *,
        most_frames: int = 256,
        most_tracks: int = 2000,
        fresh: float = 2.0,
        feature_interval: float = 4.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require_count("most_frames", most_frames)
        require_count("most_tracks", most_tracks)
        require_number("fresh", fresh, above=0)
        require_number("feature_interval", feature_interval, low=0)
        self.num_sent = self.num_dropped_frames = self.num_dropped_tracks = 0
        self._most_frames, self._most_kept, self._fresh = most_frames, 2 * most_tracks, fresh
        self._thinner, self._clock = _FeatureThinner(feature_interval, most_tracks), clock
        self._guard, self._order = threading.Lock(), 0
        self._frames: deque[_Item] = deque()
        self._kept: dict[Hashable, _Item] = {}
        self._sent: deque[list[_Item]] = deque()

    def __len__(self) -> int:
        """Messages that wait to be sent, or to be taken."""
        with self._guard:
            return len(self._frames) + len(self._kept) + sum(map(len, self._sent))

    def put(self, message: FromCameras | StageHealth | CameraGone) -> None:
        """Hand a message over; it never waits."""
        with self._guard:
            for one in self._thinner.pass_on(message):
                self._add(one)

    def take(self, num_bytes: int = 2**16) -> list[bytes]:
        """The next batch to be sent, oldest first; the caller sends it, and tells what becomes of it.

        Args:
            num_bytes: It has no more, unless a single message has.
        """
        with self._guard:
            while self._frames and self._frames[0].put_at < self._clock() - self._fresh:
                self._frames.popleft()
                self.num_dropped_frames += 1
            batch, size = list[_Item](), 0
            for item in heapq.merge(self._frames, self._kept.values(), key=lambda one: one.order):
                size += len(item.content)
                if batch and size > num_bytes:
                    break
                batch.append(item)
            for item in batch:
                if item.slot is None:
                    self._frames.popleft()
                else:
                    del self._kept[item.slot]
            if batch:
                self._sent.append(batch)
            return [item.content for item in batch]

    def batch_taken(self) -> None:
        """The gateway has taken the oldest batch that was sent.

        Raises:
            ValueError: None was.
        """
        with self._guard:
            if not self._sent:
                raise ValueError("the gateway took a batch that was not sent")
            self.num_sent += len(self._sent.popleft())

    def connection_lost(self) -> None:
        """Take back what was sent and not taken, of which nobody knows whether it arrived: what is kept is sent again.

        A feature goes no second time where a newer one of its track waits, nor does a frame.
        """
        with self._guard:
            unsure = [item for batch in self._sent for item in batch]
            self._sent.clear()
            self.num_dropped_frames += sum(item.slot is None for item in unsure)
            again = {item.slot: item for item in unsure if item.slot is not None and item.slot not in self._kept}
            self._kept = {item.slot: item for item in sorted([*again.values(), *self._kept.values()])}
            self._bound()

    def _add(self, message: FromCameras | StageHealth | CameraGone) -> None:
        self._order += 1
        if isinstance(message, CameraTracks | StageHealth):
            slot = None
        else:
            slot = type(message), message.camera if isinstance(message, CameraGone) else message.key
        item = _Item(self._order, self._clock(), slot, write_message(message))
        if slot is None:
            self._frames.append(item)
        else:
            self._kept.pop(slot, None)
            self._kept[slot] = item
        self._bound()

    def _bound(self) -> None:
        while len(self._frames) > self._most_frames:
            self._frames.popleft()
            self.num_dropped_frames += 1
        while len(self._kept) > self._most_kept:
            del self._kept[next(iter(self._kept))]
            self.num_dropped_tracks += 1


class _FeatureThinner:
    """Lets the feature of a track pass once in a while, and the last one before its end."""

    def __init__(self, interval: float, most_tracks: int) -> None:
        self._interval, self._most_tracks = interval, most_tracks
        self._passed: dict[TrackKey, float] = {}
        self._held: dict[TrackKey, TrackFeature] = {}

    def pass_on(self, message: FromCameras | StageHealth | CameraGone) -> list[FromCameras | StageHealth | CameraGone]:
        """What may go now: the message, perhaps, and features that had been held back."""
        match message:
            case TrackFeature(key=key):
                if message.seen_until < self._passed.get(key, -self._interval) + self._interval:
                    self._held[key] = message
                    return []
                return [self._pass(message)]
            case TrackEnded(key=key):
                self._passed.pop(key, None)
                return [*self._released([key]), message]
            case CameraTracks():
                over = [key for key in self._passed if key.camera == message.stamp.camera and key.epoch < message.epoch]
                last = self._released([key for key in over if key in self._held])
                for key in over:
                    self._passed.pop(key, None)
                at = message.stamp.captured_utc
                late = at - _OVERDUE * self._interval
                due = [key for key in self._held if key.camera == message.stamp.camera and late >= self._passed[key]]
                return [*last, message, *(self._pass(self._held[key]) for key in due)]
            case _:
                return [message]

    def _pass(self, message: TrackFeature) -> TrackFeature:
        self._held.pop(message.key, None)
        self._passed[message.key] = message.seen_until
        while len(self._passed) > self._most_tracks:  # of cameras that never end a track
            oldest = next(iter(self._passed))
            del self._passed[oldest]
            self._held.pop(oldest, None)
        return message

    def _released(self, keys: list[TrackKey]) -> list[TrackFeature]:
        return [self._held.pop(key) for key in keys if key in self._held]
