"""What a matcher knows of each camera and of each live track, and which messages can follow on that."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.records import CameraTracks, FrameStamp


@dataclass(slots=True)
class LiveTrack:
    """A track that has not ended.

    Attributes:
        in_view: Whether a frame has told of it: features alone may be of a track that is over.
        feature: ``[D]`` float16, the mean so far; ``None`` as long as there is none.
        num_features: How many that is of.
        asked: The number and capture time of its camera's frame at which it asked last; ``None`` if it has not yet.
    """

    in_view: bool = False
    feature: Tensor | None = None
    num_features: int = 0
    asked: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class CameraState:
    """The last frame of a camera.

    Attributes:
        epoch: Number of the tracker's run.
        stamp: Of the frame.
    """

    epoch: int
    stamp: FrameStamp


def require_next_frame(last: CameraState | None, message: CameraTracks) -> None:
    """Refuse a frame that cannot come after the last one of its camera.

    Args:
        last: What came last; ``None`` for the first frame of a camera.
        message: What comes.

    Raises:
        ValueError: It is of an older epoch, or its number or time is not later within the epoch; the message tells what may be the cause.
    """
    if last is None or message.epoch > last.epoch:
        return
    stamp, camera = message.stamp, message.stamp.camera
    twice = f"two nodes may bear the name {camera!r}, or a frame was sent twice"
    if message.epoch < last.epoch:
        raise ValueError(f"camera {camera!r}: a frame of epoch {message.epoch} came after one of epoch {last.epoch}: {twice}")
    if stamp.number <= last.stamp.number:
        raise ValueError(f"camera {camera!r}: frame {stamp.number} came after frame {last.stamp.number} of epoch {last.epoch}: {twice}")
    for clock in ("captured_utc", "captured_monotonic"):
        change = getattr(stamp, clock) - getattr(last.stamp, clock)
        if change < 0:
            raise ValueError(
                f"camera {camera!r}, frame {stamp.number}: {clock} went back by {-change:.3f} s within epoch {last.epoch}: after a jump of"
                f" its clock a camera must restart its tracker and tell a new epoch; or {twice}"
            )


def require_near(name: str, key: TrackKey | str, captured: float, now: float, *, ahead: float, behind: float) -> None:
    """Refuse what was captured too far from the matcher's own time to be compared with others.

    Args:
        name: Of the message, for the error.
        key: Whose it is.
        captured: Its ``captured_utc``, in seconds.
        now: The matcher's time.
        ahead: Seconds that it may be in the future.
        behind: Seconds that it may be old.

    Raises:
        ValueError: It is farther off.
    """
    if captured > now + ahead:
        raise ValueError(f"a {name} of {key} is {captured - now:.1f} s ahead of the matcher's clock, more than {ahead:g}: set its clock")
    if captured < now - behind:
        raise ValueError(
            f"a {name} of {key} is {now - captured:.1f} s behind the matcher's clock, tracks are kept for {behind:g}: set its clock"
        )
