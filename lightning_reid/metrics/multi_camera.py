"""How well people are followed: in each camera for itself, and across cameras beside the worst and the best that its tracks allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightning_reid.metrics.coverage import LEAST_OVERLAP, FrameOverlap, Whole, covered_rows, frame_overlaps, rows_by, tracking_engine
from lightning_reid.metrics.tracked_camera import TrackedCamera, require_cameras

_NO_GAP = 1e-9  # the two references are sums in another order: where they are equal, they differ in the last digit


class IdentityScores(NamedTuple):
    """Agreement of true and shown identities; each in [0, 1], NaN where nobody was there and nothing was shown.

    Attributes:
        idf1: Share of boxes with the right identity, under the best one-to-one naming (Ristani et al. 2016, arXiv:1609.01775).
        hota: Geometric mean of how well people are found and how well their boxes are joined (Luiten et al. 2020, arXiv:2009.07736).
    """

    idf1: float
    hota: float


@dataclass(frozen=True)
class CameraScores:
    """How well one camera was tracked.

    Attributes:
        idf1: In [0, 1], as in ``IdentityScores``.
        hota: In [0, 1], likewise.
        mota: ``1 - (misses + false boxes + switches) / true boxes``, at most 1, may be negative; NaN where nobody was there.
        switches: How often somebody's track became another one.
    """

    idf1: float
    hota: float
    mota: float
    switches: int


@dataclass(frozen=True)
class CrossCameraScores:
    """How well people were followed from camera to camera, between two references on the same tracks.

    Attributes:
        shown: Of the identities as they were shown then.
        no_matching: Of each track of each camera as an identity of its own: what tracking alone is worth.
        oracle: Of each track as the person whom it mostly covers. Where two tracks of a camera show one person at one time, the box on the
            person has the identity and the other its own. Identities that change within a track, rightly, can be better than this.
    """

    shown: IdentityScores
    no_matching: IdentityScores
    oracle: IdentityScores

    @property
    def gap_closed(self) -> IdentityScores:
        """Share of the way from no matching to the oracle, below 0 where wrong matches do harm; NaN where there is no way."""
        ways = ((high - low, got - low) for got, low, high in zip(self.shown, self.no_matching, self.oracle))
        return IdentityScores(*(part / whole if whole > _NO_GAP else float("nan") for whole, part in ways))


def camera_scores(camera: TrackedCamera) -> CameraScores:
    """Score the tracks of one camera against visits: whoever left and came back is to be a new track.

    A box shows a person at an intersection over union of 0.5; HOTA is the mean over 0.05, 0.10, up to 0.95.

    Args:
        camera: What was there and what was shown; identities across cameras are not looked at.

    Raises:
        ImportError: The extra ``tracking`` is not installed.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes, camera_scores
        >>> frames, boxes, visit = torch.arange(4), torch.tensor([[0.0, 0.0, 10.0, 30.0]]).repeat(4, 1), torch.zeros(4, dtype=torch.int64)
        >>> tracks = torch.tensor([0, 0, 0, 1])  # the track is lost once
        >>> true, shown = TrueBoxes(frames, boxes, pids=visit, visits=visit), ShownBoxes(frames, boxes, tracks, identities=tracks)
        >>> scores = camera_scores(TrackedCamera("hall", frames.double() / 10, true, shown))
        >>> scores.idf1, scores.mota, scores.switches  # three of four boxes, one fault in four
        (0.75, 0.75, 1)
    """
    frames = frame_overlaps(camera)
    # The engine compares tracks as floats: numbers of more than 53 bits would be one.
    tracks: Whole = np.unique(camera.shown.tracks.cpu().numpy(), return_inverse=True)[1].astype(np.int64)
    sequence = _Sequence.of([frames], [camera.true.visits.long().cpu().numpy()], [tracks])
    clear = tracking_engine().compute_clear_metrics(*sequence, threshold=LEAST_OVERLAP)
    mota = clear["MOTA"] if len(camera.true.frames) else float("nan")
    return CameraScores(**_identity_scores(sequence)._asdict(), mota=mota, switches=clear["IDSW"])


def cross_camera_scores(cameras: Sequence[TrackedCamera]) -> CrossCameraScores:
    """Score the identities that all cameras showed against people, over every frame of every camera.

    A track is an identity of its own while it shows none.

    Args:
        cameras: One or more; the scores do not depend on their order.

    Raises:
        ValueError: No camera, one twice, or one that shows an identity twice in a frame, which has no score.
        ImportError: The extra ``tracking`` is not installed.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes, cross_camera_scores
        >>> frames, boxes, person = torch.arange(4), torch.tensor([[0.0, 0.0, 10.0, 30.0]]).repeat(4, 1), torch.zeros(4, dtype=torch.int64)
        >>> def seen(name, times, identities):
        ...     shown = ShownBoxes(frames, boxes, tracks=person, identities=torch.tensor(identities))
        ...     return TrackedCamera(name, times, TrueBoxes(frames, boxes, pids=person, visits=person), shown)
        >>> cameras = seen("hall", frames.double(), [1, 1, 1, 1]), seen("door", frames.double() + 9, [2, 1, 1, 1])  # known after a frame
        >>> scores = cross_camera_scores(cameras)
        >>> scores.shown.idf1, scores.no_matching.idf1, scores.oracle.idf1, scores.gap_closed.idf1
        (0.875, 0.5, 1.0, 0.75)
    """
    require_cameras(cameras)
    for camera in cameras:
        for frame, identity, count in camera.shown.repeated.T[:1].tolist():
            raise ValueError(
                f"camera {camera.name} shows identity {identity} {count} times in frame {frame}: one person is in one place, mend the "
                "matching; handover_scores counts these without scoring them"
            )
    overlaps = [frame_overlaps(camera) for camera in cameras]
    people = [camera.true.pids.long().cpu().numpy() for camera in cameras]
    alone = own_labels(cameras)
    named = [camera.shown.identities.long().cpu().numpy() for camera in cameras]
    shown = [np.where(identities < 0, own, identities) for identities, own in zip(named, alone)]
    oracle = [_oracle_labels(*one) for one in zip(cameras, overlaps, alone)]
    return CrossCameraScores(*(_identity_scores(_Sequence.of(overlaps, people, labels)) for labels in (shown, alone, oracle)))


def own_labels(cameras: Sequence[TrackedCamera]) -> list[Whole]:
    """A label below 0 for each shown box of each camera, the same for boxes of one track alone."""
    labels: list[Whole] = []
    count = 0
    for camera in cameras:
        tracks, numbers = np.unique(camera.shown.tracks.cpu().numpy(), return_inverse=True)
        labels.append(-1 - count - numbers.astype(np.int64))
        count += len(tracks)
    return labels


class _Sequence(NamedTuple):
    """Frames of one or more cameras, one after another, as the engine wants them."""

    true: list[Whole]
    shown: list[Whole]
    overlaps: list[np.ndarray]

    @classmethod
    def of(cls, overlaps: Sequence[list[FrameOverlap]], true: Sequence[Whole], shown: Sequence[Whole]) -> _Sequence:
        frames = [
            (ours[frame.true], theirs[frame.shown], frame.overlap) for one, ours, theirs in zip(overlaps, true, shown) for frame in one
        ]
        return cls(*map(list, zip(*frames))) if frames else cls([], [], [])


def _identity_scores(sequence: _Sequence) -> IdentityScores:
    if not any(map(len, sequence.true + sequence.shown)):
        return IdentityScores(float("nan"), float("nan"))  # the engine says 0
    engine = tracking_engine()
    identity = engine.compute_identity_metrics(*sequence, threshold=LEAST_OVERLAP)
    return IdentityScores(identity["IDF1"], engine.compute_hota_metrics(*sequence)["HOTA"])


def _oracle_labels(camera: TrackedCamera, frames: list[FrameOverlap], own: Whole) -> Whole:
    """The pid whom a box's track mostly covers (of equally many frames, the lowest), or the own label below 0 of the track."""
    covered = covered_rows(camera, frames)
    pids = np.append(camera.true.pids.long().cpu().numpy(), -1)[covered]  # row -1 is nobody
    labels, strength = own.copy(), np.zeros_like(own)
    tracks, numbers = np.unique(own, return_inverse=True)
    for rows in rows_by(numbers, len(tracks)):
        people, counts = np.unique(pids[rows][pids[rows] >= 0], return_counts=True)
        if len(people):
            labels[rows], strength[rows] = people[counts.argmax()], counts.max()
    # One person is in one place: of boxes of one label in one frame the first below keeps it.
    order = np.lexsort((-strength, pids != labels, labels, camera.shown.frames.long().cpu().numpy()))
    places = np.stack([camera.shown.frames.long().cpu().numpy(), labels])[:, order]
    again = np.append(False, (places[:, 1:] == places[:, :-1]).all(0))[: len(order)]
    labels[order[again]] = own[order[again]]
    return labels
