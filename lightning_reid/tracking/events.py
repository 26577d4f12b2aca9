"""What a matcher announces, and what people who watch ask of it. Nothing announced is rewritten: a correction is a new event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lightning_reid.arguments import require_choice, require_number
from lightning_reid.tracking.record_fields import LATEST, TrackKey, set_checked

LARGEST_SIMILARITY = 1.01
"""A cosine, and what the rounding of float16 adds to it."""
REASONS = ("better match", "twice at a time", "by hand", "forgotten")
"""Why a match is undone."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two tracks are found to be of the same person.

    Attributes:
        track: The one that asked.
        other: The one that was found, of another camera, or of its own if ``MatchingRules.own_camera``.
        similarity: Cosine of their features, large is near.
        identity: Global number of the person, at least 0.
        at: ``captured_utc`` of the frame at which it was found.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import Match, TrackKey
        >>> Match(TrackKey("hall", 0, 3), TrackKey("door", 0, 7), similarity=0.9, identity=0, at=12.0).other.camera
        'door'
    """

    track: TrackKey
    other: TrackKey
    similarity: float
    identity: int
    at: float

    def __post_init__(self) -> None:
        set_checked(self, keys=("track", "other"), counts=("identity",), times=("at",))
        require_number("similarity", self.similarity, low=-LARGEST_SIMILARITY, high=LARGEST_SIMILARITY)
        object.__setattr__(self, "similarity", float(self.similarity))


@dataclass(frozen=True, slots=True)
class MatchUndone:
    """A match that was announced is believed no longer, from now on.

    Attributes:
        track: The one that had asked.
        other: The one that had been found.
        reason: ``"better match"``, ``"twice at a time"`` (the person would be in a camera twice), ``"by hand"`` or ``"forgotten"``.
        at: ``captured_utc`` of the frame at which it was undone.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import MatchUndone, TrackKey
        >>> MatchUndone(TrackKey("hall", 0, 3), TrackKey("door", 0, 7), reason="better match", at=16.0).reason
        'better match'
    """

    track: TrackKey
    other: TrackKey
    reason: str
    at: float

    def __post_init__(self) -> None:
        require_choice("reason", self.reason, REASONS)
        set_checked(self, keys=("track", "other"), times=("at",))


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """From now on a track bears this global number; what was shown before stays as it was shown.

    Attributes:
        track: Whose number it is.
        identity: The number, at least 0.
        previous: The number it bore before; ``None`` for a track that is new.
        at: ``captured_utc`` of the frame from which it holds.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import IdentityEvent, TrackKey
        >>> IdentityEvent(TrackKey("hall", 0, 3), identity=0, previous=1, at=12.0).identity
        0
    """

    track: TrackKey
    identity: int
    previous: int | None
    at: float

    def __post_init__(self) -> None:
        set_checked(self, keys=("track",), counts=("identity",) if self.previous is None else ("identity", "previous"), times=("at",))


@dataclass(frozen=True, slots=True)
class CameraRestarted:
    """A camera told of a new epoch: the tracks of the old one are over.

    Attributes:
        camera: Name of the camera.
        epoch: The new one.
        previous: The one before.
        clock_change: ``captured_utc`` of the first frame of the new epoch less that of the last of the old, in seconds: negative where
            the camera's clock has been set back, and then nobody is found who left another camera in the meantime.
        at: ``captured_utc`` of the first frame of the new epoch.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import CameraRestarted
        >>> CameraRestarted("door", epoch=1, previous=0, clock_change=-3600.0, at=1_700_000_000.0).clock_change < 0
        True
    """

    camera: str
    epoch: int
    previous: int
    clock_change: float
    at: float

    def __post_init__(self) -> None:
        set_checked(self, names=("camera",), counts=("epoch", "previous"), times=("at",))
        require_number("clock_change", self.clock_change, low=-LATEST, high=LATEST)
        object.__setattr__(self, "clock_change", float(self.clock_change))


@dataclass(frozen=True, slots=True)
class UndoMatch:
    """Somebody who watches says that a match is wrong: it is undone, and these two tracks are not matched again.

    Attributes:
        track: One of them.
        other: The other.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import TrackKey, UndoMatch
        >>> UndoMatch(TrackKey("hall", 0, 3), TrackKey("door", 0, 7)).track.camera
        'hall'
    """

    track: TrackKey
    other: TrackKey

    def __post_init__(self) -> None:
        set_checked(self, keys=("track", "other"))


@dataclass(frozen=True, slots=True)
class ForgetIdentity:
    """A person is to be forgotten: all features of all their tracks, and what these tracks will still tell.

    Attributes:
        identity: Global number of the person.

    Raises:
        ValueError: It is no whole number of at least 0.

    Example:
        >>> from lightning_reid.tracking import ForgetIdentity
        >>> ForgetIdentity(7).identity
        7
    """

    identity: int

    def __post_init__(self) -> None:
        set_checked(self, counts=("identity",))


@dataclass(frozen=True, slots=True)
class CameraGone:
    """Whoever watches over nodes says that a camera tells nothing for now: its people are taken to have left, until it tells of them again.

    Without it somebody who was in view of a camera that died would be found nowhere else until their track is forgotten.

    Attributes:
        camera: Name of the camera.

    Raises:
        ValueError: It is no name.

    Example:
        >>> from lightning_reid.tracking import CameraGone
        >>> CameraGone("door").camera
        'door'
    """

    camera: str

    def __post_init__(self) -> None:
        set_checked(self, names=("camera",))


Event: TypeAlias = Match | MatchUndone | IdentityEvent | CameraRestarted
"""What a matcher announces."""
Request: TypeAlias = UndoMatch | ForgetIdentity
"""What people ask of it."""
