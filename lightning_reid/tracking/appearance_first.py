"""Tracking within one camera: ByteTrack of the library ``trackers``, with people who meet told apart by appearance first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_reid.arguments import MOST, require_count, require_number
from lightning_reid.tracking.byte_track import NO_TRACK, ByteTrack
from lightning_reid.tracking.departures import Departures

EmbedRows = Callable[[NDArray[np.int64]], ArrayLike]
"""The rows ``[n]`` of this frame's boxes, n at least 1, to embeddings ``[n, D]`` of unit length."""

_CLEAR_OVERLAP = 0.3
"""A box that overlaps another one, or a second track, more shows two people: its embedding may match a track, but is not learned."""
_LEARNING = 0.1
"""Share of a new embedding in the track's."""
_REACH = 1.0
"""How far a track may be from its prediction, in heights of the box: people turn back, but they do not jump."""
_MARGIN = 1 / 3
"""Share of the largest distance by which a match must be nearer than all others of its track and its box."""
_LATEST_SECONDS = 1e12


class TrackedBoxes(NamedTuple):
    """Whose the boxes of a frame are.

    Attributes:
        track_ids: ``[K]`` int64, of each box; ``NO_TRACK`` where it has none.
        epoch: How often the tracker has begun anew; ids of one epoch say nothing about those of another.
    """

    track_ids: NDArray[np.int64]
    epoch: int


class CameraTracker:
    """ByteTrack on capture times, with the appearance repair: before the sure boxes are matched by overlap, appearance decides.

    By overlap alone two people who meet and turn back swap their tracks, for each is expected where the other goes. A box that overlaps a
    second box, or the place where a second track is expected, is ambiguous, and only such boxes are embedded, and the first that a track
    gets: whoever meets somebody is known by then. Where the distance to a track's embedding is very small, and smaller by a margin than
    between others, the two are matched before anything else is; all other boxes go the way of ByteTrack. A track learns its embedding from
    boxes that show little of anybody else.

    Source: thesis, section 8.3.2, on ByteTrack (Zhang et al. 2022, arXiv:2110.06864).

    Args:
        high_score: Boxes at least as sure are matched first, in [0, 1]; the text's 0.6 suits YOLOX, 0.5 an SSDLite.
        new_score: Boxes at least as sure may begin a track, in [0, 1]; 0.7 suits YOLOX, 0.55 an SSDLite.
        min_overlap: Smallest intersection over union of a box and a track's expected place, in (0, 1].
        lost_seconds: A track without boxes ends after so long, at least 0.
        frame_rate: Frames a second for which the motion model's noise is meant; the times between frames need not keep to it.
        min_frames: Frames in a row before a track has an id, at least 1.
        max_distance: Largest cosine distance, 1 - cosine, of a match by appearance, in [0, 2]: about what two boxes of one person have by
            the network that embeds. 0 matches by overlap alone and embeds nothing.
        ambiguous_overlap: Intersection over union with a second box or track above which a box is ambiguous, in [0, 1).

    Attributes:
        epoch: How often the tracker has begun anew.
        num_embedded: Boxes embedded since it was made.

    Raises:
        ModuleNotFoundError: ``trackers`` is not installed.
        ValueError: An argument is out of range.

    Example:
        >>> from lightning_reid.tracking import CameraTracker
        >>> tracker = CameraTracker(max_distance=0)  # by overlap alone: nothing is embedded
        >>> walking = [[[8.0 + 2 * number, 4, 40 + 2 * number, 90]] for number in range(4)]
        >>> [tracker.update(boxes, [0.9], number / 10, embed=None).track_ids.tolist() for number, boxes in enumerate(walking)]
        [[-1], [0], [0], [0]]
    """

    def __init__(
        self,
        *,
        high_score: float = 0.6,
        new_score: float = 0.7,
        min_overlap: float = 0.1,
        lost_seconds: float = 1.0,
        frame_rate: float = 30.0,
        min_frames: int = 2,
        max_distance: float = 0.15,
        ambiguous_overlap: float = 0.05,
    ) -> None:
        require_number("high_score", high_score, low=0, high=1)
        require_number("new_score", new_score, low=0, high=1)
        require_number("min_overlap", min_overlap, above=0, high=1)
        require_number("lost_seconds", lost_seconds, low=0, high=MOST)
        require_number("frame_rate", frame_rate, above=0, high=1000)
        require_count("min_frames", min_frames)
        require_number("max_distance", max_distance, low=0, high=2)
        require_number("ambiguous_overlap", ambiguous_overlap, low=0, below=1)
        self.high_score, self.max_distance, self.ambiguous_overlap = high_score, max_distance, ambiguous_overlap
        self.epoch = self.num_embedded = 0
        self._tracker = ByteTrack(
            high_score=high_score,
            new_score=new_score,
            min_overlap=min_overlap,
            lost_seconds=lost_seconds,
            frame_rate=frame_rate,
            min_frames=min_frames,
        )
        self._seconds: float | None = None
        self._embeddings: dict[int, NDArray[np.float64]] = {}
        self._departures = Departures()

    @property
    def track_ids(self) -> set[int]:
        """The ids of the tracks that may still get boxes, those that are lost for the moment among them."""
        return {track for track in self._tracker.track_ids if track != NO_TRACK}

    def restart(self) -> None:
        """Forget all tracks and begin anew at the id 0, in the next epoch: after a reconnect, or another scene."""
        self._tracker.reset()
        self._embeddings, self._seconds, self._departures = {}, None, Departures()
        self.epoch += 1

    def update(self, boxes: ArrayLike, scores: ArrayLike, seconds: float, embed: EmbedRows, *, width: float | None = None) -> TrackedBoxes:
        """Tell whose the boxes of the next frame are.

        A frame without boxes is told too: time goes on for the tracks. Where ``seconds`` is less than the frame's before, the clock was
        set back or the stream has begun again: the tracker restarts, as the epoch says.

        Wrong boxes are refused, not dropped: a detector that gives them has a fault, which a tracker that goes on would hide. They are
        refused before anything has changed, so whoever means to go on drops them, counts them, and calls again.

        Args:
            boxes: ``[K, 4]`` float x0, y0, x1, y1 in pixels, K may be 0.
            scores: ``[K]`` in [0, 1].
            seconds: When the frame was captured, on any clock that starts at 0 or later.
            embed: Called at most once, with the rows of the boxes to embed.
            width: Of the frame, in pixels, by which who leaves at its edges is noticed; ``None`` does not look.

        Raises:
            ValueError: A box holds NaN or infinite numbers or has no area, a score or the time is out of range, or an embedding is not of
                unit length (for the tracks the frame is then one without boxes).
            RuntimeError: The installed ``trackers`` matches in another way than this was written for.
        """
        checked, sure = _checked_boxes(boxes, scores)
        require_number("seconds", seconds, low=0, high=_LATEST_SECONDS)
        if self._seconds is not None and seconds < self._seconds:
            self.restart()
        self._seconds = float(seconds)
        crowding = _largest_overlap_with_another(checked)
        embedded: dict[int, NDArray[np.float64]] = {}

        def appearance_first(overlaps: NDArray[Any], expected: NDArray[Any], high: NDArray[np.int64]) -> NDArray[Any]:
            crowding[high] = np.maximum(crowding[high], _second_largest(overlaps))  # who is hidden is no box, but is expected there
            wanted = (crowding[high] > self.ambiguous_overlap) | self._newcomers(overlaps)
            embedded.update(self._embed(high[wanted & (self.max_distance > 0)], embed))
            if width is not None:
                overlaps = np.where(self._departures.barred(self._tracker.track_ids, checked[high], width, seconds), 0, overlaps)
            return self._by_appearance_first(overlaps, expected, checked, high, embedded)

        track_ids = self._tracker.update(checked, sure, self._seconds, appearance_first)
        self._learn(track_ids, embedded, crowding)
        if width is not None:
            rows = np.flatnonzero(track_ids != NO_TRACK)
            self._departures.keep(self._tracker.track_ids)
            self._departures.see(track_ids[rows].tolist(), checked[rows], width, seconds)
        return TrackedBoxes(track_ids, self.epoch)

    def _newcomers(self, overlaps: NDArray[Any]) -> NDArray[np.bool_]:
        """Which columns of the overlaps ``[T, H]`` are nearest to a track that has no embedding yet."""
        unknown = np.array([track not in self._embeddings for track in self._tracker.track_ids], dtype=bool)
        if not len(unknown):
            return np.zeros(overlaps.shape[1], dtype=bool)
        found: NDArray[np.bool_] = unknown[overlaps.argmax(0)] & (overlaps.max(0) > 0)
        return found

    def _embed(self, rows: NDArray[np.int64], embed: EmbedRows) -> dict[int, NDArray[np.float64]]:
        if not len(rows):
            return {}
        self.num_embedded += len(rows)
        embeddings = np.asarray(embed(rows), dtype=np.float64)
        if embeddings.ndim != 2 or len(embeddings) != len(rows):
            raise ValueError(f"embed was given {len(rows)} rows and answers with {list(embeddings.shape)}: expected [{len(rows)}, D]")
        lengths = np.linalg.norm(embeddings, axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))  # half precision is as exact; NaN is not small
        if len(wrong):
            raise ValueError(
                f"the embedding of box {rows[wrong[0]]} has length {lengths[wrong[0]]:g}: expected unit vectors, normalize them"
            )
        return dict(zip(rows.tolist(), embeddings / lengths[:, None]))

    def _by_appearance_first(
        self,
        overlaps: NDArray[Any],
        expected: NDArray[Any],
        boxes: NDArray[Any],
        high: NDArray[np.int64],
        embedded: dict[int, NDArray[np.float64]],
    ) -> NDArray[Any]:
        """The overlaps ``[T, H]`` with 1 for a pair matched by appearance and 0 for all others of its track and its box."""
        ids = self._tracker.track_ids
        tracks = [row for row, track in enumerate(ids) if track in self._embeddings]
        columns = [column for column, row in enumerate(high) if int(row) in embedded]
        if not tracks or not columns:
            return overlaps
        of_tracks = np.stack([self._embeddings[ids[row]] for row in tracks])
        of_boxes = np.stack([embedded[int(high[column])] for column in columns])
        distances = np.where(_within_reach(expected[tracks], boxes[high[columns]]), 1 - of_tracks @ of_boxes.T, np.inf)
        decided = overlaps.copy()
        for row, column in appearance_matches(distances, max_distance=self.max_distance, margin=self.max_distance * _MARGIN):
            decided[tracks[row], :] = decided[:, columns[column]] = 0
            decided[tracks[row], columns[column]] = 1
        return decided

    def _learn(self, track_ids: NDArray[np.int64], embedded: dict[int, NDArray[np.float64]], crowding: NDArray[Any]) -> None:
        alive = set(self._tracker.track_ids)
        self._embeddings = {track: known for track, known in self._embeddings.items() if track in alive}
        for row, embedding in embedded.items():
            track = int(track_ids[row])
            known = self._embeddings.get(track, embedding)
            # what is far from what the track has learned may be somebody else, whom overlap gave it
            if track != NO_TRACK and crowding[row] < _CLEAR_OVERLAP and 1 - known @ embedding <= self.max_distance:
                mixed = (1 - _LEARNING) * known + _LEARNING * embedding
                self._embeddings[track] = mixed / np.linalg.norm(mixed)


def appearance_matches(distances: NDArray[Any], *, max_distance: float, margin: float) -> list[tuple[int, int]]:
    """Pairs of rows and columns whose distance is very small, and the smallest of its row and of its column by a margin.

    So no two pairs share a row or a column, and of two people who look alike neither is matched.

    Args:
        distances: ``[T, K]``; infinite for pairs that cannot be.
        max_distance: Largest distance of a pair.
        margin: By so much all others of its row and its column are larger, above 0.
    """
    found = []
    for row, column in zip(*np.nonzero(distances <= max_distance)):
        rivals = np.concatenate([np.delete(distances[row], column), np.delete(distances[:, column], row)])
        if (rivals >= distances[row, column] + margin).all():
            found.append((int(row), int(column)))
    return found


def _largest_overlap_with_another(boxes: NDArray[Any]) -> NDArray[Any]:
    """The largest intersection over union ``[K]`` of each box with any of the others."""
    corner, other = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared, areas = (other - corner).clip(min=0).prod(-1), (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    overlaps: NDArray[Any] = shared / (areas[:, None] + areas - shared)
    np.fill_diagonal(overlaps, 0)
    largest: NDArray[Any] = overlaps.max(1, initial=0)
    return largest


def _second_largest(overlaps: NDArray[Any]) -> NDArray[Any]:
    """Of the overlaps ``[T, H]`` the second largest of each column, 0 where there is none."""
    second: NDArray[Any] = np.sort(overlaps, axis=0)[-2] if len(overlaps) > 1 else np.zeros(overlaps.shape[1])
    return second


def _within_reach(expected: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.bool_]:
    centers = [(one[:, :2] + one[:, 2:]) / 2 for one in (expected, boxes)]
    near: NDArray[np.bool_] = np.linalg.norm(centers[0][:, None] - centers[1], axis=-1) <= _REACH * (boxes[:, 3] - boxes[:, 1])
    return near


def _checked_boxes(boxes: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    checked, sure = np.asarray(boxes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] != 4 or sure.shape != checked.shape[:1]:
        raise ValueError(f"expected boxes [K, 4] and scores [K], got {list(checked.shape)} and {list(sure.shape)}")
    faults = (
        (~np.isfinite(checked).all(1), "holds NaN or infinite numbers"),
        (~(checked[:, 2:] > checked[:, :2]).all(1), "has no area (expected x0 < x1 and y0 < y1)"),
        (~((sure >= 0) & (sure <= 1)), "has a score outside [0, 1]"),
    )
    for wrong, fault in faults:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"box {row}, {checked[row].tolist()} with score {sure[row]:g}, {fault}: drop it, or mend the detector")
    return checked, sure
