"""What was in a camera and what was shown there at the time: what every score of tracking is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.arguments import require_text, shown


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """The people who were in one camera: N boxes in any order.

    Attributes:
        frames: ``[N]`` integers, the position in ``TrackedCamera.times``.
        boxes: ``[N, 4]`` float, x0, y0, x1, y1 in pixels; a box without area is covered by nothing.
        pids: ``[N]`` integers from 0, the person, the same in all cameras; at most one box a frame.
        visits: ``[N]`` integers from 0, one for each time a person comes into this camera: who comes back is a new visit.

    Raises:
        ValueError: Shapes or dtypes that do not fit, NaN or infinite boxes, a right edge left of the left one, numbers below 0, a person
            twice in a frame, or a visit of two people.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import TrueBoxes
        >>> here = torch.tensor([[0.0, 0.0, 10.0, 30.0]])
        >>> true = TrueBoxes(torch.tensor([0, 1, 9]), here.repeat(3, 1), pids=torch.tensor([4, 4, 4]), visits=torch.tensor([0, 0, 1]))
        >>> len(true.boxes), len(true.visits.unique())  # somebody left and came back
        (3, 2)
    """

    frames: Tensor
    boxes: Tensor
    pids: Tensor
    visits: Tensor

    def __post_init__(self) -> None:
        _require_boxes("true", self.frames, self.boxes, pids=self.pids, visits=self.visits)
        _require_at_least("true", 0, pids=self.pids, visits=self.visits)
        _require_once("true", "pid", self.frames, self.pids)
        visits, people = torch.stack([self.visits, self.pids]).unique(dim=1)
        numbers, counts = visits.unique(return_counts=True)
        if len(numbers) != len(visits):
            visit = numbers[counts > 1][0]
            raise ValueError(f"a visit is of one person, visit {int(visit)} is of pids {people[visits == visit].tolist()}")


@dataclass(frozen=True, eq=False)
class ShownBoxes:
    """What was shown of one camera, as it was shown then: M boxes in any order.

    Attributes:
        frames: ``[M]`` integers, the position in ``TrackedCamera.times``.
        boxes: ``[M, 4]`` float, x0, y0, x1, y1 in pixels.
        tracks: ``[M]`` integers from 0, the track within this camera; at most one box a frame. A tracker that was started anew counts
            from 0 again: give its tracks other numbers.
        identities: ``[M]`` integers, the identity across cameras that the box had on the page at that time, before any correction; -1
            where it had none yet.

    Raises:
        ValueError: Shapes or dtypes that do not fit, NaN or infinite boxes, a right edge left of the left one, numbers too low, or a
            track twice in a frame. An identity twice in a frame is no error here: ``handover_scores`` counts it.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import ShownBoxes
        >>> here = torch.tensor([[0.0, 0.0, 10.0, 30.0]])
        >>> now = ShownBoxes(torch.tensor([0, 0]), here.repeat(2, 1), tracks=torch.tensor([0, 1]), identities=torch.tensor([7, 7]))
        >>> now.repeated.tolist()  # frames, identities and how often each was shown there
        [[0], [7], [2]]
    """

    frames: Tensor
    boxes: Tensor
    tracks: Tensor
    identities: Tensor

    def __post_init__(self) -> None:
        _require_boxes("shown", self.frames, self.boxes, tracks=self.tracks, identities=self.identities)
        _require_at_least("shown", 0, tracks=self.tracks)
        _require_at_least("shown", -1, identities=self.identities)
        _require_once("shown", "track", self.frames, self.tracks)

    @property
    def repeated(self) -> Tensor:
        """``[3, K]``: the frames in which an identity was shown more than once, the identity, and how often."""
        named = self.identities >= 0
        return _repeated(self.frames[named], self.identities[named])


@dataclass(frozen=True, eq=False)
class TrackedCamera:
    """One camera of a recording: its frames, who was there, what was shown.

    Attributes:
        name: Of the camera; others have others.
        times: ``[F]`` float64, capture times of all frames in seconds, ascending, by a clock that all cameras share. Frames that were
            dropped are among them, as nothing was shown there.
        true: Who was there.
        shown: What was shown.

    Raises:
        ValueError: Times that are not float64, finite and ascending, or a box in a frame that is not there.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes
        >>> frames, boxes, person = torch.arange(2), torch.tensor([[0.0, 0.0, 10.0, 30.0]]).repeat(2, 1), torch.tensor([3, 3])
        >>> true, shown = TrueBoxes(frames, boxes, person, visits=person), ShownBoxes(frames, boxes, tracks=person, identities=person)
        >>> TrackedCamera("hall", torch.tensor([0.0, 0.1], dtype=torch.float64), true, shown).name
        'hall'
    """

    name: str
    times: Tensor
    true: TrueBoxes
    shown: ShownBoxes

    def __post_init__(self) -> None:
        require_text("name", self.name)
        if self.times.ndim != 1 or self.times.dtype != torch.float64:  # the seconds since 1970 have steps of 128 in float32
            raise ValueError(f"camera {self.name}: times must be [F] float64, got {list(self.times.shape)} {self.times.dtype}")
        late = (~(self.times.diff() > 0) | ~self.times[1:].isfinite()).nonzero().flatten()
        if len(late) or not bool(self.times[:1].isfinite().all()):
            frame = int(late[0]) + 1 if len(late) else 0
            raise ValueError(f"camera {self.name}: times must be finite and ascending, frame {frame} is at {float(self.times[frame])} s")
        for kind, rows in (("true", self.true), ("shown", self.shown)):
            if len(rows.frames) and int(rows.frames.max()) >= len(self.times):
                raise ValueError(
                    f"camera {self.name} has times for {len(self.times)} frames, and {kind} boxes in frame {int(rows.frames.max())}"
                )


def require_cameras(cameras: Sequence[TrackedCamera]) -> None:
    """Refuse a recording without cameras, or one with a camera twice.

    Raises:
        ValueError: Which of the two it is.
    """
    names = [camera.name for camera in cameras]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"need one or more cameras of different names, got {shown(names)}")


def _require_boxes(kind: str, frames: Tensor, boxes: Tensor, **numbers: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"{kind} boxes must be [N, 4] floating point, got {list(boxes.shape)} {boxes.dtype}")
    for name, rows in {"frames": frames, **numbers}.items():
        if rows.shape != boxes.shape[:1] or rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            raise ValueError(f"{name} of {len(boxes)} {kind} boxes must be [{len(boxes)}] integers, got {list(rows.shape)} {rows.dtype}")
    _require_at_least(kind, 0, frames=frames)
    faults = ((~boxes.isfinite().all(1), "hold NaN or infinite numbers"), ((boxes[:, 2:] < boxes[:, :2]).any(1), "end before they begin"))
    for broken, fault in faults:
        if bool(broken.any()):
            row = int(broken.nonzero()[0])
            raise ValueError(
                f"{int(broken.sum())} of {len(boxes)} {kind} boxes {fault}, the first is row {row}, in frame {int(frames[row])}: "
                f"{boxes[row].tolist()}. Boxes are x0, y0, x1, y1 in pixels; leave out what has no place"
            )


def _require_at_least(kind: str, least: int, **numbers: Tensor) -> None:
    for name, rows in numbers.items():
        if bool((rows.long() < least).any()):  # in uint8, -1 is 255
            raise ValueError(f"{name} of {kind} boxes must be at least {least}, got {int(rows.min())}")


def _require_once(kind: str, name: str, frames: Tensor, numbers: Tensor) -> None:
    frame, number, count = _repeated(frames, numbers)
    if len(frame):
        raise ValueError(f"a {name} has one box a frame, {name} {int(number[0])} has {int(count[0])} {kind} boxes in frame {int(frame[0])}")


def _repeated(frames: Tensor, numbers: Tensor) -> Tensor:
    """``[3, K]``: frames, numbers that are there more than once, how often."""
    pairs, counts = torch.stack([frames, numbers]).unique(dim=1, return_counts=True)
    return torch.cat([pairs, counts[None]])[:, counts > 1]
