"""People who go from camera to camera: who is known again, who is taken for another, and after how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightning_reid.metrics.coverage import Whole, covered_rows, frame_overlaps, rows_by
from lightning_reid.metrics.multi_camera import own_labels
from lightning_reid.metrics.tracked_camera import TrackedCamera, require_cameras


@dataclass(frozen=True)
class HandoverScores:
    """Handovers as they were shown; a share, mean or rate of nothing is NaN.

    Attributes:
        num_handovers: Pairs of visits of one person, one after the other by when they begin, in two different cameras.
        num_found: Those whose two visits came to show the same identity, each the one that it showed last.
        mean_delay: Of those found, from the beginning of the second visit until then, in seconds.
        num_links: How often a track took an identity that had been shown in another camera before.
        num_right: Those that took it from the person whom the track shows: from the camera that showed the identity last.
        num_duplicates: Boxes of an identity that another box of the same camera and frame shows already; must be 0.
        hours: From the first frame of any camera to the last.
    """

    num_handovers: int
    num_found: int
    mean_delay: float
    num_links: int
    num_right: int
    num_duplicates: int
    hours: float

    @property
    def precision(self) -> float:
        """Share of links that are right, in [0, 1]; NaN without links."""
        return _ratio(self.num_right, self.num_links)

    @property
    def recall(self) -> float:
        """Share of handovers that were found, in [0, 1]; NaN without handovers."""
        return _ratio(self.num_found, self.num_handovers)

    @property
    def false_links_per_hour(self) -> float:
        """Links that are wrong, of all cameras together, an hour of recording; NaN for a recording of one moment."""
        return _ratio(self.num_links - self.num_right, self.hours)


class _Sighting(NamedTuple):
    """One shown box that has an identity."""

    time: float
    camera: int
    track: int
    identity: int
    person: int  # whom the track covers, or covered last, or else will cover first; -1 nobody ever
    visit: int  # which visit the box covers; -1 none


class _Visit(NamedTuple):
    begin: float
    camera: int
    number: int


def handover_scores(cameras: Sequence[TrackedCamera]) -> HandoverScores:
    """Score how identities were handed from camera to camera, as a viewer saw it.

    Args:
        cameras: One or more. Among frames of the same time, what the first camera shows comes first.

    Raises:
        ValueError: No camera, or one twice.
        ImportError: The extra ``tracking`` is not installed.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes, handover_scores
        >>> frames, boxes, person = torch.arange(4), torch.tensor([[0.0, 0.0, 10.0, 30.0]]).repeat(4, 1), torch.zeros(4, dtype=torch.int64)
        >>> def seen(name, times, identities):
        ...     shown = ShownBoxes(frames, boxes, tracks=person, identities=torch.tensor(identities))
        ...     return TrackedCamera(name, times, TrueBoxes(frames, boxes, pids=person, visits=person), shown)
        >>> scores = handover_scores([seen("hall", frames.double(), [1, 1, 1, 1]), seen("door", frames.double() + 9, [2, 2, 1, 1])])
        >>> scores.recall, scores.precision, scores.mean_delay  # known again after two seconds
        (1.0, 1.0, 2.0)
    """
    require_cameras(cameras)
    sightings = _sightings(cameras)
    links = _links(sightings)
    handovers = _handovers(cameras)
    shown: dict[tuple[int, int], list[_Sighting]] = defaultdict(list)
    for one in sightings:
        shown[one.camera, one.visit].append(one)
    delays = [
        found - later.begin
        for earlier, later in handovers
        if (found := _first_agreement(shown[earlier.camera, earlier.number], shown[later.camera, later.number])) is not None
    ]
    times = np.concatenate([camera.times.cpu().numpy() for camera in cameras])
    return HandoverScores(
        num_handovers=len(handovers),
        num_found=len(delays),
        mean_delay=_ratio(sum(delays), len(delays)),
        num_links=len(links),
        num_right=sum(links),
        num_duplicates=sum(int((camera.shown.repeated[2] - 1).sum()) for camera in cameras),
        hours=float(np.ptp(times)) / 3600 if len(times) else 0.0,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _sightings(cameras: Sequence[TrackedCamera]) -> list[_Sighting]:
    """All shown boxes that have an identity, by time, then camera, then track."""
    found = []
    for number, (camera, tracks) in enumerate(zip(cameras, own_labels(cameras))):
        covered = covered_rows(camera, frame_overlaps(camera))
        frames = camera.shown.frames.long().cpu().numpy()
        visits = np.append(camera.true.visits.long().cpu().numpy(), -1)[covered]  # row -1 is nobody
        people = _people_of_tracks(np.append(camera.true.pids.long().cpu().numpy(), -1)[covered], tracks, frames)
        columns = (camera.times.cpu().numpy()[frames], tracks, camera.shown.identities.cpu().numpy(), people, visits)
        rows = zip(*(column.tolist() for column in columns))
        found += [_Sighting(time, number, track, identity, *rest) for time, track, identity, *rest in rows if identity >= 0]
    return sorted(found)


def _people_of_tracks(covered: Whole, tracks: Whole, frames: Whole) -> Whole:
    """The pid that each box covers; where it covers none, the last of its track before, or else the first after; -1 where there is none."""
    people = covered.copy()
    labels, numbers = np.unique(tracks, return_inverse=True)
    for rows in rows_by(numbers, len(labels)):
        rows = rows[np.argsort(frames[rows], kind="stable")]
        seen = np.flatnonzero(covered[rows] >= 0)
        if len(seen):
            last = np.searchsorted(seen, np.arange(len(rows)), side="right") - 1
            people[rows] = covered[rows][seen[np.maximum(last, 0)]]
    return people


def _links(sightings: list[_Sighting]) -> list[bool]:
    """Whether each link is right: a track takes an identity that another camera has shown."""
    right = []
    identity_of: dict[int, int] = {}
    shown: dict[int, dict[int, _Sighting]] = defaultdict(dict)
    for one in sightings:
        elsewhere = [other for camera, other in shown[one.identity].items() if camera != one.camera]
        if elsewhere and identity_of.get(one.track) != one.identity:
            source = max(elsewhere, key=lambda other: (other.time, -other.camera))
            right.append(one.person == source.person >= 0)
        identity_of[one.track] = one.identity
        shown[one.identity][one.camera] = one
    return right


def _handovers(cameras: Sequence[TrackedCamera]) -> list[tuple[_Visit, _Visit]]:
    """Visits of one person that follow each other, by when they begin, in different cameras."""
    visits: dict[int, list[_Visit]] = defaultdict(list)
    for number, camera in enumerate(cameras):
        begin: dict[tuple[int, int], float] = {}
        times = camera.times[camera.true.frames.long()]
        for pid, visit, time in zip(camera.true.pids.tolist(), camera.true.visits.tolist(), times.tolist()):
            begin[pid, visit] = min(time, begin.get((pid, visit), time))
        for (pid, visit), time in begin.items():
            visits[pid].append(_Visit(time, number, visit))
    followed = (pair for one in visits.values() for pair in zip(sorted(one), sorted(one)[1:]))
    return [(earlier, later) for earlier, later in followed if earlier.camera != later.camera]


def _first_agreement(earlier: list[_Sighting], later: list[_Sighting]) -> float | None:
    """When the identities that two visits showed last were first the same, looked at after all that was shown at a time."""
    shown: dict[float, dict[int, int]] = defaultdict(dict)
    for one in (*earlier, *later):
        shown[one.time][one.camera] = one.identity
    last: dict[int, int] = {}
    for time in sorted(shown):
        last |= shown[time]
        if len(last) == 2 and len(set(last.values())) == 1:
            return time
    return None
