"""The people that the page shows: the tracks of each, one crop a camera, and the matches that connect them. It is bounded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_reid.arguments import shown
from lightning_reid.live.page.pictures import jpeg
from lightning_reid.tracking import CameraRestarted, IdentityEvent, Match, MatchUndone, TrackEnded, TrackKey

MOST_TRACKS = 5000
"""Of all people; those of the people who were seen longest ago go first."""
MOST_TRACKS_OF_ONE = 60
LARGER = 1.15
"""A crop replaces the one before if its box is so much larger."""


@dataclass(slots=True)
class Crop:
    """The largest view of a person in a track so far."""

    picture: NDArray[np.uint8] | None
    area: float
    at: float
    version: int
    encoded: bytes | None = None

    def content(self) -> bytes:
        """The crop as JPEG, encoded when it is asked for first."""
        if self.encoded is None:
            assert self.picture is not None
            self.encoded, self.picture = jpeg(self.picture), None
        return self.encoded


@dataclass(slots=True)
class TrackView:
    """A track, and whose it is."""

    key: TrackKey
    identity: int
    entered: float
    seen_until: float
    ended: bool = False
    crop: Crop | None = None


@dataclass(slots=True)
class Person:
    """The tracks that bear one number, and when a browser would see a difference last."""

    tracks: set[TrackKey] = field(default_factory=set)
    version: int = 0


class PeopleView:
    """People, their tracks and matches, kept up to date by what a matcher announces; all calls come under the view's lock.

    Args:
        keep_for: Seconds that a person is kept after they were seen last.
        most: People who are kept; who was seen longest ago goes first.
    """

    def __init__(self, keep_for: float, most: int) -> None:
        self.keep_for, self.most = keep_for, most
        self.version = 0
        self.tracks: dict[TrackKey, TrackView] = {}
        self.people: dict[int, Person] = {}
        self.matches: dict[TrackKey, dict[TrackKey, Match]] = defaultdict(dict)
        self._private: dict[TrackKey, None] = {}

    def identity(self, key: TrackKey) -> int | None:
        """The number that a track bears by now; ``None`` before it was matched or when it is known no longer."""
        track = self.tracks.get(key)
        return None if track is None else track.identity

    def see(self, key: TrackKey, identity: int, at: float) -> None:
        """A track is in a frame, and bears this number."""
        track = self.tracks.get(key)
        if track is None:
            self.tracks[key] = track = TrackView(key, identity, at, at)
            self._join(track, identity)
        elif track.identity != identity:
            self._part(track)
            self._join(track, identity)
        track.seen_until = max(track.seen_until, at)

    def end(self, message: TrackEnded) -> None:
        """A track is over."""
        if (track := self.tracks.get(message.key)) is not None and not track.ended:
            track.ended = True
            track.seen_until = max(message.seen_until, track.entered)
            self._change(track.identity)
        self._private.pop(message.key, None)

    def apply(self, event: Match | MatchUndone | IdentityEvent | CameraRestarted) -> None:
        """Take what a matcher announces."""
        match event:
            case Match() if event.track in self.tracks:
                self.matches[event.track][event.other] = event
                self._change_track(event.track)
            case MatchUndone():
                for one, other in ((event.track, event.other), (event.other, event.track)):
                    self.matches.get(one, {}).pop(other, None)
                    self._change_track(one)
            case IdentityEvent():
                if (track := self.tracks.get(event.track)) is not None:
                    self.see(event.track, event.identity, track.seen_until)
                elif event.previous is None:
                    self.see(event.track, event.identity, event.at)
            case CameraRestarted():
                over = [key for key, one in self.tracks.items() if key.camera == event.camera and key.epoch < event.epoch and not one.ended]
                for key in over:
                    self.end(TrackEnded(*key, self.tracks[key].seen_until))

    def forget(self, identity: int) -> None:
        """All of a person goes, crops first of all; of tracks that still live no crop is kept in future either."""
        for key in list(self.people[identity].tracks if identity in self.people else ()):
            if not self.tracks[key].ended:
                self._private[key] = None
            self._drop(key)

    def wants_crop(self, key: TrackKey, area: float) -> bool:
        """Whether a box of so many pixels shows the person of a track larger than before."""
        track = self.tracks.get(key)
        if track is None or track.ended or key in self._private:
            return False
        return track.crop is None or area > LARGER * track.crop.area

    def put_crop(self, key: TrackKey, picture: NDArray[np.uint8], area: float, at: float) -> None:
        """Keep a crop in place of the one before."""
        track = self.tracks[key]
        self._change(track.identity)
        track.crop = Crop(picture, area, at, self.version)

    def expire(self, now: float) -> None:
        """Let go of people who were not seen for long, and of the oldest where there are too many."""
        seen = sorted((max(self.tracks[key].seen_until for key in one.tracks), number) for number, one in self.people.items())
        surplus, tracks = len(seen) - self.most, len(self.tracks) - MOST_TRACKS
        for at, number in seen:
            if at >= now - self.keep_for and surplus <= 0 and tracks <= 0:
                break
            gone = list(self.people[number].tracks)
            surplus, tracks = surplus - 1, tracks - len(gone)
            for key in gone:
                self._private.pop(key, None)
                self._drop(key)

    def match_between(self, track: TrackKey, other: TrackKey) -> Match | None:
        """The match of two tracks that stands, whoever asked; ``None`` if there is none."""
        return self.matches.get(track, {}).get(other) or self.matches.get(other, {}).get(track)

    def card(self, number: int) -> dict[str, Any]:
        """What a browser is told of a person."""
        tracks = sorted((self.tracks[key] for key in self.people[number].tracks), key=lambda one: (one.entered, one.key))
        return {
            "id": number,
            "tracks": [
                {
                    "key": written_key(one.key),
                    "camera": one.key.camera,
                    "from": round(one.entered, 2),
                    "until": round(one.seen_until, 2),
                    "live": not one.ended,
                    "crop": None if one.crop is None else one.crop.version,
                    "area": 0 if one.crop is None else round(one.crop.area),
                }
                for one in tracks
            ],
            "matches": [
                {
                    "track": written_key(one.track),
                    "other": written_key(one.other),
                    "from": one.other.camera,
                    "to": one.track.camera,
                    "similarity": round(one.similarity, 3),
                    "at": round(one.at, 2),
                }
                for track in tracks
                for one in self.matches.get(track.key, {}).values()
            ],
        }

    def _join(self, track: TrackView, identity: int) -> None:
        track.identity = identity
        person = self.people.setdefault(identity, Person())
        person.tracks.add(track.key)
        self._change(identity)
        if len(person.tracks) > MOST_TRACKS_OF_ONE:
            self._drop(min(person.tracks - {track.key}, key=lambda key: (self.tracks[key].seen_until, key)))

    def _part(self, track: TrackView) -> None:
        person = self.people[track.identity]
        person.tracks.discard(track.key)
        self._change(track.identity)
        if not person.tracks:
            del self.people[track.identity]

    def _drop(self, key: TrackKey) -> None:
        self._part(self.tracks.pop(key))
        self.matches.pop(key, None)

    def _change_track(self, key: TrackKey) -> None:
        if (track := self.tracks.get(key)) is not None:
            self._change(track.identity)

    def _change(self, identity: int) -> None:
        self.version += 1
        if identity in self.people:
            self.people[identity].version = self.version


def written_key(key: TrackKey) -> str:
    """A track's key as one string, which a browser hands back as it is: its numbers may be too large for JavaScript."""
    return f"{key.epoch}/{key.track_id}/{key.camera}"


def read_key(value: object) -> TrackKey:
    """The key that ``written_key`` wrote.

    Raises:
        ValueError: It did not write that.
    """
    epoch, _, rest = value.partition("/") if isinstance(value, str) else ("", "", "")
    track_id, _, camera = rest.partition("/")
    if not (epoch.isdecimal() and track_id.isdecimal() and len(epoch) < 20 and len(track_id) < 20):
        raise ValueError(f"expected the key of a track, epoch/id/camera, got {shown(value)}")
    return TrackKey(camera, int(epoch), int(track_id))
