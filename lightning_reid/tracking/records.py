"""The messages of multi-camera tracking: what cameras tell a matcher, and what it answers.

They are frozen and check themselves, so what exists can be believed. Their one form on wires and in journals is that of ``wire``. Times are
seconds since 1970 of capture, ``captured_utc``; whoever stamps frames takes the host's clock once an epoch and adds what its monotonic
clock says has passed since, so no correction of that clock makes them jump within an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, shown
from lightning_reid.tracking.record_fields import LATEST, MOST_ID, TrackKey, same_record, set_checked, set_tensor

MOST_PEOPLE = 10_000
"""In one frame."""
FARTHEST_FROM_UNIT = 1e-2
"""Of the length of a feature: float16 rounds it by some thousandths."""
STATES = ("live", "stalled", "gone")


@dataclass(frozen=True, slots=True)
class FrameStamp:
    """When and where a frame was captured.

    Attributes:
        camera: Name of the camera, 1 to 100 printable characters.
        number: Counts the captured frames of an epoch, those that were dropped afterwards included; at least 0.
        captured_monotonic: Seconds of the capturing host's monotonic clock; comparable within that host alone.
        captured_utc: Seconds since 1970; comparable across hosts as far as their clocks agree.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import FrameStamp
        >>> FrameStamp("door", number=40, captured_monotonic=4.0, captured_utc=1_700_000_004.0).camera
        'door'
    """

    camera: str
    number: int
    captured_monotonic: float
    captured_utc: float

    def __post_init__(self) -> None:
        set_checked(self, names=("camera",), counts=("number",), times=("captured_monotonic", "captured_utc"))


@dataclass(frozen=True, slots=True, eq=False)
class CameraTracks:
    """The people that the tracker of one camera sees in one frame; a frame without anybody is told too, time passes by it.

    Attributes:
        stamp: Of the frame.
        epoch: Number of the tracker's run, larger after each restart.
        track_ids: K different ids, each at least 0; K may be 0.
        boxes: ``[K, 4]`` float32 on the CPU, x0 < x1 and y0 < y1 in pixels.
        scores: ``[K]`` float32 in [0, 1].

    Raises:
        ValueError: A value is not as described, NaN among them; the message names camera and value.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import CameraTracks, FrameStamp
        >>> stamp = FrameStamp("door", 40, 4.0, 1_700_000_004.0)
        >>> seen = CameraTracks(stamp, epoch=0, track_ids=(7,), boxes=torch.tensor([[8.0, 4, 24, 60]]), scores=torch.ones(1))
        >>> seen.keys
        (TrackKey(camera='door', epoch=0, track_id=7),)
    """

    stamp: FrameStamp
    epoch: int
    track_ids: tuple[int, ...]
    boxes: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.stamp, FrameStamp):
            raise ValueError(f"stamp must be a FrameStamp, got {shown(self.stamp)}")
        set_checked(self, counts=("epoch",))
        if not isinstance(self.track_ids, tuple) or len(self.track_ids) > MOST_PEOPLE:
            raise ValueError(f"track_ids must be a tuple of up to {MOST_PEOPLE:,} ids, got {shown(self.track_ids)}")
        for one in self.track_ids:
            require_count("an id of track_ids", one, low=0, high=MOST_ID)
        object.__setattr__(self, "track_ids", tuple(map(int, self.track_ids)))
        if len(set(self.track_ids)) != len(self.track_ids):
            raise ValueError(f"camera {self.stamp.camera!r}, frame {self.stamp.number}: an id stands twice in {shown(self.track_ids)}")
        set_tensor(self, "boxes", torch.float32, (len(self.track_ids), 4))
        set_tensor(self, "scores", torch.float32, (len(self.track_ids),))
        wrong = (self.boxes[:, :2] >= self.boxes[:, 2:]).any(1) | (self.scores < 0) | (self.scores > 1)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"camera {self.stamp.camera!r}, frame {self.stamp.number}: expected x0 < x1, y0 < y1 and a score in [0, 1],"
                f" got {self.boxes[row].tolist()} with {self.scores[row].item():g}"
            )

    @property
    def keys(self) -> tuple[TrackKey, ...]:
        """The key of each track, in order."""
        return tuple(TrackKey(self.stamp.camera, self.epoch, one) for one in self.track_ids)

    @override
    def __eq__(self, other: object) -> bool:
        return same_record(self, other)

    @override
    def __hash__(self) -> int:
        return hash((self.stamp, self.epoch, self.track_ids))


@dataclass(frozen=True, slots=True, eq=False)
class TrackFeature:
    """How a track looks so far: the running mean of its features, which replaces the one told before.

    It is float16 from the start, as it travels and is stored: what is replayed is what was matched.

    Attributes:
        camera: Name of the camera.
        epoch: Number of the tracker's run.
        track_id: Id that the tracker gave.
        feature: ``[D]`` float16 on the CPU, of length 1; other floats are rounded.
        num_features: How many features the mean is of, at least 1.
        seen_from: ``captured_utc`` of the first frame of the track.
        seen_until: ``captured_utc`` of the latest one, not before.
        model: Name or digest of the network: features of two networks cannot be compared.

    Raises:
        ValueError: A value is not as described, NaN among them; the message names track and value.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import TrackFeature
        >>> told = TrackFeature("door", 0, 7, torch.tensor([0.6, 0.8]), num_features=1, seen_from=4.0, seen_until=5.5, model="resnet18")
        >>> told.feature.dtype, told.key.track_id
        (torch.float16, 7)
    """

    camera: str
    epoch: int
    track_id: int
    feature: Tensor
    num_features: int
    seen_from: float
    seen_until: float
    model: str

    def __post_init__(self) -> None:
        set_checked(self, names=("camera", "model"), counts=("epoch", "track_id", "num_features"), times=("seen_from", "seen_until"))
        require_count("num_features", self.num_features)
        require_number("seen_until", self.seen_until, low=self.seen_from, high=LATEST)
        set_tensor(self, "feature", torch.float16, None)
        length = self.feature.double().norm().item()
        if abs(length - 1) > FARTHEST_FROM_UNIT:
            raise ValueError(f"{self.key}: its feature must have length 1, got {length:.4g}: normalize it (TrackEmbedding does)")

    @property
    def key(self) -> TrackKey:
        """The track that it is about."""
        return TrackKey(self.camera, self.epoch, self.track_id)

    @override
    def __eq__(self, other: object) -> bool:
        return same_record(self, other)

    @override
    def __hash__(self) -> int:
        return hash((self.key, self.num_features, self.seen_until))


@dataclass(frozen=True, slots=True)
class TrackEnded:
    """The tracker has given a track up: the person has left the camera.

    Attributes:
        camera: Name of the camera.
        epoch: Number of the tracker's run.
        track_id: Id that the tracker gave.
        seen_until: ``captured_utc`` of the last frame in which it was seen, not of the moment when it was given up.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import TrackEnded
        >>> TrackEnded("door", 0, 7, seen_until=9.5).key
        TrackKey(camera='door', epoch=0, track_id=7)
    """

    camera: str
    epoch: int
    track_id: int
    seen_until: float

    def __post_init__(self) -> None:
        set_checked(self, names=("camera",), counts=("epoch", "track_id"), times=("seen_until",))

    @property
    def key(self) -> TrackKey:
        """The track that it is about."""
        return TrackKey(self.camera, self.epoch, self.track_id)


@dataclass(frozen=True, slots=True)
class StageHealth:
    """How a stage of a camera's pipeline does; for those who watch, a matcher has no use for it.

    Attributes:
        camera: Name of the camera.
        stage: Name of the stage, for example ``"decode"``.
        at: Seconds since 1970.
        state: ``"live"``, ``"stalled"`` or ``"gone"``.
        processed: Items since the start.
        dropped: Items dropped since the start, because the stage lagged.
        queued: Items that wait.
        latency: Seconds from capture to the end of the stage, 95th percentile of the last ones.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import StageHealth
        >>> StageHealth("door", "decode", at=9.5, state="live", processed=95, dropped=0, queued=1, latency=0.02).dropped
        0
    """

    camera: str
    stage: str
    at: float
    state: str
    processed: int
    dropped: int
    queued: int
    latency: float

    def __post_init__(self) -> None:
        require_choice("state", self.state, STATES)
        set_checked(self, names=("camera", "stage"), counts=("processed", "dropped", "queued"), times=("at", "latency"))


FromCameras: TypeAlias = CameraTracks | TrackFeature | TrackEnded
"""What cameras tell a matcher."""
