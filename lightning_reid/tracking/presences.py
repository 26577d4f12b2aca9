"""When each track was in its camera, and which two tracks hence cannot be of a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lightning_reid.arguments import require_number
from lightning_reid.tracking.match_forest import Pair
from lightning_reid.tracking.record_fields import LATEST, TrackKey


@dataclass(slots=True)
class _Presence:
    entered: float
    seen_until: float
    ended: bool = False
    apart_from: set[TrackKey] = field(default_factory=set)

    @property
    def lasts_until(self) -> float:
        return self.seen_until if self.ended else math.inf


class Presences:
    """The times of tracks. A track that has not ended is taken to last: who is hidden for a moment has not left.

    Args:
        may_share: Whether a person may be in two different cameras at a time.
        slack: Seconds that they may be in two cameras which may not share, because clocks differ.

    Raises:
        ValueError: ``slack`` is negative or no number.
    """

    def __init__(self, may_share: Callable[[str, str], bool], slack: float) -> None:
        require_number("slack", slack, low=0)
        self._may_share, self._slack = may_share, slack
        self._tracks: dict[TrackKey, _Presence] = {}

    def __len__(self) -> int:
        """Tracks that are known."""
        return len(self._tracks)

    def __contains__(self, key: object) -> bool:
        """Whether a track is known."""
        return key in self._tracks

    def add(self, key: TrackKey, entered: float, seen_until: float) -> None:
        """Tell of a new track. One that is known, and a time that is none, are a ``ValueError``."""
        if key in self._tracks:
            raise ValueError(f"{key} has appeared before")
        require_number("entered", entered, low=0, high=LATEST)
        require_number("seen_until", seen_until, low=entered, high=LATEST)
        self._tracks[key] = _Presence(entered, seen_until)

    def see(self, key: TrackKey, seen_until: float) -> bool:
        """Tell that a track was seen until then, and get whether that is later than was known; else ``ValueError``."""
        require_number("seen_until", seen_until, low=0, high=LATEST)
        track = self._known(key)
        later = seen_until > track.seen_until
        track.seen_until = max(seen_until, track.seen_until)
        return later

    def end(self, key: TrackKey) -> None:
        """Tell that a track is over: it lasted until it was seen last. One that is not known is a ``ValueError``."""
        self._known(key).ended = True

    def last_on(self, key: TrackKey) -> None:
        """Tell that a track whose end was told is not over. One that is not known is a ``ValueError``."""
        self._known(key).ended = False

    def ended(self, key: TrackKey) -> bool:
        """Whether a track is over, as far as was told. One that is not known is a ``ValueError``."""
        return self._known(key).ended

    def entered(self, key: TrackKey) -> float:
        """When a track was seen first, in seconds. One that is not known is a ``ValueError``."""
        return self._known(key).entered

    def seen_until(self, key: TrackKey) -> float:
        """When a track was seen last, in seconds. One that is not known is a ``ValueError``."""
        return self._known(key).seen_until

    def transit(self, key: TrackKey, entered: float) -> tuple[float, bool]:
        """Seconds from the last sight of a track to a time, and whether that is all, since the track has ended."""
        return entered - self._known(key).seen_until, self._tracks[key].ended

    def keep_apart(self, one: TrackKey, other: TrackKey) -> None:
        """Tell that two tracks are not of a person, whatever their times. One that is not known is a ``ValueError``."""
        first, second = self._known(one), self._known(other)
        first.apart_from.add(other)
        second.apart_from.add(one)

    def hand_on(self, key: TrackKey, heir: TrackKey) -> None:
        """Keep a track apart from whom another one is kept apart."""
        for one in self._tracks[key].apart_from:
            self.keep_apart(heir, one)

    def remove(self, key: TrackKey) -> None:
        """Let go of a track. One that is not known is a ``ValueError``."""
        for one in self._known(key).apart_from:
            self._tracks[one].apart_from.discard(key)
        del self._tracks[key]

    def require(self, key: TrackKey) -> None:
        """Refuse a track that is not known, by a ``ValueError``."""
        self._known(key)

    def collide(self, one: TrackKey, other: TrackKey) -> bool:
        """Whether two tracks cannot be of a person."""
        a, b = self._tracks[one], self._tracks[other]
        together = min(a.lasts_until, b.lasts_until) - max(a.entered, b.entered)
        if one.camera == other.camera:
            return together >= 0 or other in a.apart_from
        return other in a.apart_from or (together > self._slack and not self._may_share(one.camera, other.camera))

    def collision(self, some: Iterable[TrackKey], others: Iterable[TrackKey]) -> Pair | None:
        """The first two, one of each side, that cannot be of a person; ``None`` if there are none."""
        sides = sorted(some), sorted(others)
        return next(((one, two) for one in sides[0] for two in sides[1] if self.collide(one, two)), None)

    def _known(self, key: TrackKey) -> _Presence:
        if key not in self._tracks:
            raise ValueError(f"{key} is not known: it never appeared, or has been let go of")
        return self._tracks[key]
