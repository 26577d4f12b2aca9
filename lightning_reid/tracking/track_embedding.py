"""How a track becomes one embedding: which boxes are good enough, which frames make a feature, the mean of its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from lightning_reid.arguments import require_count, require_number, shown
from lightning_reid.tracking.record_fields import LATEST, TrackKey

Frame = TypeVar("Frame")
SHORTEST = 1e-3
"""Length that the mean of unit vectors must have to point somewhere: float16 sees no less."""


def usable_boxes(boxes: Tensor, scores: Tensor, *, max_hidden: float = 0.5, min_score: float = 0.5) -> Tensor:
    """Which boxes of a frame show their own person well enough to be embedded: not those that others cover, nor unsure ones.

    Args:
        boxes: ``[K, 4]`` float x0, y0, x1, y1 of all people in the frame, of positive area; those that are not tracked cover as well.
        scores: ``[K]`` float in [0, 1].
        max_hidden: Largest share of a box that another one may cover, in [0, 1]; a small box within a large one is all covered, and the
            large one hardly.
        min_score: Smallest score, in [0, 1].

    Returns:
        ``[K]`` bool.

    Raises:
        ValueError: A shape or bound is not as described, a number is NaN, or a box has no area.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import usable_boxes
        >>> boxes = torch.tensor([[0.0, 0, 10, 20], [4, 0, 14, 20], [30, 0, 40, 20]])  # the second stands before 60 % of the first
        >>> usable_boxes(boxes, torch.tensor([0.9, 0.9, 0.3])).tolist()
        [False, False, False]
        >>> usable_boxes(boxes, torch.tensor([0.9, 0.9, 0.3]), max_hidden=0.6, min_score=0.2).tolist()
        [True, True, True]
    """
    require_number("max_hidden", max_hidden, low=0, high=1)
    require_number("min_score", min_score, low=0, high=1)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"expected boxes [K, 4] and scores [K], got {list(boxes.shape)} and {list(scores.shape)}")
    wrong = ~boxes.isfinite().all(1) | ~scores.isfinite() | (boxes[:, :2] >= boxes[:, 2:]).any(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"box {row} is {boxes[row].tolist()} with score {scores[row].item()}: expected x0 < x1, y0 < y1 and no NaN")
    return (_hidden_shares(boxes) <= max_hidden) & (scores >= min_score)


def _hidden_shares(boxes: Tensor) -> Tensor:
    """Of each box the largest share of its area that one other box covers, ``[K]`` float32."""
    exact = boxes.double()  # 6/10 of a box must be 0.6
    corners = torch.minimum(exact[:, None, 2:], exact[None, :, 2:]) - torch.maximum(exact[:, None, :2], exact[None, :, :2])
    covered = corners.clamp(min=0).prod(2).fill_diagonal_(0)
    shares = covered / (exact[:, 2:] - exact[:, :2]).prod(1)[:, None]
    return shares.float().amax(1) if len(boxes) else shares.new_zeros(0)


class ClipCollector(Generic[Frame]):
    """Collects for each track the T frames of its next feature, some time apart: four in a row at 30 a second are one picture.

    Args:
        num_frames: T, frames of a feature; 4 in the text.
        spread: Seconds from the first of them to the last, at least; 0 takes frames as they come.
        max_age: Seconds after which a collected frame is too old for the feature: a track that was hidden begins anew.
        first_frames: Frames of a track's first feature, 1 to T, which it then has the sooner; they count towards the next as well.
            ``None`` is T.

    Raises:
        ValueError: An argument is out of range, ``max_age`` is less than ``spread``, or ``first_frames`` more than ``num_frames``.

    Example:
        >>> from lightning_reid.tracking import ClipCollector, TrackKey
        >>> clips = ClipCollector(num_frames=2, spread=1.0)
        >>> track = TrackKey("door", 0, 7)
        >>> [clips.add(track, captured, f"frame at {captured}") for captured in (0.0, 0.5, 1.0)]
        [None, None, ['frame at 0.0', 'frame at 1.0']]
    """

    def __init__(self, num_frames: int = 4, spread: float = 1.0, max_age: float = 5.0, first_frames: int | None = None) -> None:
        require_count("num_frames", num_frames, high=1000)
        require_count("first_frames", first_frames, high=num_frames, optional=True)
        require_number("spread", spread, low=0)
        require_number("max_age", max_age, low=spread)
        self.num_frames, self.spread, self.max_age = num_frames, spread, max_age
        self.first_frames = num_frames if first_frames is None else first_frames
        self._collected: dict[TrackKey, list[tuple[float, Frame]]] = {}
        self._begun: set[TrackKey] = set()

    def wants(self, track: TrackKey, captured: float) -> bool:
        """Whether a frame of that time would be taken: its crop need not be cut out otherwise.

        Args:
            track: Whose frame it is.
            captured: Capture time in seconds, not before that of the track's last one.

        Raises:
            ValueError: The time is none, or goes back.
        """
        require_number("captured", captured, low=0, high=LATEST)
        kept = self._collected.get(track)
        if not kept:
            return True
        last = kept[-1][0]
        if captured < last:
            raise ValueError(f"{track}: time went back from {last} to {captured}: a camera whose clock jumps needs a new epoch")
        gap = self.spread / max(self.num_frames - 1, 1)
        return captured - last >= gap * (1 - 1e-6)  # a second in thirds must not wait for the next frame

    def add(self, track: TrackKey, captured: float, frame: Frame) -> list[Frame] | None:
        """Offer a frame of a track that shows it well.

        Args:
            track: Whose frame it is.
            captured: Capture time in seconds, not before that of the track's last one.
            frame: What is collected, a crop for instance.

        Returns:
            The T frames once there are so many, in order of time, and the next feature begins; ``None`` until then. Of a track's first
            feature the ``first_frames``, as soon as there are so many.

        Raises:
            ValueError: The time is none, or goes back.
        """
        if not self.wants(track, captured):
            return None
        kept = [one for one in self._collected.get(track, []) if captured - one[0] <= self.max_age]
        kept.append((captured, frame))
        whole = len(kept) == self.num_frames
        self._collected[track] = [] if whole else kept
        if not whole and (track in self._begun or len(kept) < self.first_frames):
            return None
        self._begun.add(track)
        return [one for _, one in kept]

    def end(self, track: TrackKey) -> None:
        """Drop what was collected of a track that ended; one that had nothing is no error."""
        self._collected.pop(track, None)
        self._begun.discard(track)

    def __len__(self) -> int:
        """Tracks of which frames are waiting."""
        return sum(map(bool, self._collected.values()))


@dataclass(frozen=True, slots=True, eq=False)
class TrackEmbedding:
    """The running mean of a track's features, each brought to length 1 before, and the mean after: no feature counts more for its length.

    Attributes:
        total: ``[D]`` float64, sum of the unit features.
        num_features: How many there are, at least 1.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import TrackEmbedding
        >>> mean = TrackEmbedding.of(torch.tensor([2.0, 0.0])).with_feature(torch.tensor([0.0, 0.5]))
        >>> mean.num_features, [round(one, 3) for one in mean.feature.tolist()]
        (2, [0.707, 0.707])
    """

    total: Tensor
    num_features: int

    @classmethod
    def of(cls, feature: Tensor) -> TrackEmbedding:
        """The mean of a single feature ``[D]`` float.

        Raises:
            ValueError: It is no such vector, holds NaN or infinite numbers, or is zero.
        """
        return cls(_unit(feature), 1)

    def with_feature(self, feature: Tensor) -> TrackEmbedding:
        """The mean with one feature ``[D]`` float more; this one stays as it is.

        Raises:
            ValueError: It is no vector of that size, holds NaN or infinite numbers, is zero, or cancels the others.
        """
        if feature.shape != self.total.shape:
            raise ValueError(f"the features of a track must have the same size, got {list(feature.shape)} after {list(self.total.shape)}")
        total, number = self.total + _unit(feature), self.num_features + 1
        if total.norm() < SHORTEST * number:
            raise ValueError(f"{number} features of a track cancel each other out, their mean points nowhere: the network is broken")
        return TrackEmbedding(total, number)

    @property
    def feature(self) -> Tensor:
        """The mean at length 1, ``[D]`` float16, as it is sent and stored."""
        mean: Tensor = self.total / self.total.norm()
        return mean.half()


def _unit(feature: Tensor) -> Tensor:
    if feature.ndim != 1 or not len(feature) or not feature.is_floating_point():
        raise ValueError(f"a feature must be a float vector [D], got {list(feature.shape)} {feature.dtype}")
    exact = feature.detach().cpu().double()
    length = exact.norm()
    if not length.isfinite() or length == 0:
        raise ValueError(
            f"a feature must be finite and not zero, its length is {length.item()}: the weights are of a diverged training, or a crop is"
            f" empty ({shown(exact[:4].tolist())} ...)"
        )
    unit: Tensor = exact / length
    return unit
