"""ByteTrack of the library ``trackers``, which is optional, with a say in its first association."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_TRACK = -1
"""In place of the id of a track: of a box that belongs to none, or to one that has not been seen often enough."""

FirstStage = Callable[[NDArray[Any], NDArray[Any], NDArray[np.int64]], NDArray[Any]]
"""Overlaps ``[T, H]`` of all T tracks with the H sure boxes, the tracks' expected boxes ``[T, 4]`` and the rows ``[H]`` of the sure ones,
to the similarities ``[T, H]`` that are matched in place of the overlaps."""

_LIBRARY_FPS = 30.0
"""``lost_track_buffer`` counts frames of that rate, whatever the camera's is."""


class ByteTrack:
    """``trackers.ByteTrackTracker`` on arrays, its first association handed to whoever calls; the arguments are ``CameraTracker``'s.

    The say goes in by the public ``iou=``. That the first overlaps of an update are those of all tracks with the sure boxes is checked
    in each update: a library that matches in another way is an error, not another tracker.

    Raises:
        ModuleNotFoundError: ``trackers`` is not installed.
    """

    def __init__(
        self, *, high_score: float, new_score: float, min_overlap: float, lost_seconds: float, frame_rate: float, min_frames: int
    ) -> None:
        try:
            self._library = import_module("trackers")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("CameraTracker needs trackers: pip install 'lightning-reid[tracking]'", name="trackers") from error
        self._detections = import_module("supervision").Detections  # what trackers takes, and brings along
        self._high_score = high_score
        self._overlap = _overlap_with_a_first_stage(self._library)
        self._tracker = self._library.ByteTrackTracker(
            lost_track_buffer=lost_seconds * _LIBRARY_FPS,
            frame_rate=float(frame_rate),
            track_activation_threshold=new_score,
            minimum_consecutive_frames=min_frames,
            minimum_iou_threshold=min_overlap,
            high_conf_det_threshold=high_score,
            iou=self._overlap,
        )

    @property
    def track_ids(self) -> list[int]:
        """The ids of all tracks, lost ones too, in the order in which a first stage gets them; ``NO_TRACK`` of too young ones."""
        return [int(track.tracker_id) for track in self._tracker.tracks]

    def reset(self) -> None:
        """Forget all tracks; ids begin at 0 again."""
        self._tracker.reset()

    def update(self, boxes: NDArray[Any], scores: NDArray[Any], seconds: float, first_stage: FirstStage) -> NDArray[np.int64]:
        """The ids ``[K]`` of the tracks to which the boxes ``[K, 4]`` of the next frame belong.

        Raises:
            RuntimeError: The installed ``trackers`` matches in another way than this was written for.
        """
        high = np.flatnonzero(scores >= self._high_score)

        def guarded(overlaps: NDArray[Any], expected: NDArray[Any], offered: NDArray[Any]) -> NDArray[Any]:
            if len(expected) != len(self._tracker.tracks) or not np.array_equal(offered, boxes[high]):
                raise self._changed("its first overlaps are not those of all tracks with the sure boxes")
            return first_stage(overlaps, expected, high)

        nothing_to_match = not len(boxes) and not self._tracker.tracks
        self._overlap.first_stage = guarded
        detections = self._detections(xyxy=boxes, confidence=scores, data={"row": np.arange(len(boxes))})
        tracked = self._tracker.update(detections, timestamp=seconds)
        if self._overlap.first_stage is not None and not nothing_to_match:
            raise self._changed("it has not asked for overlaps")
        track_ids = np.full(len(boxes), NO_TRACK, dtype=np.int64)
        if len(tracked):
            track_ids[tracked.data["row"]] = tracked.tracker_id
        return track_ids

    def _changed(self, how: str) -> RuntimeError:
        return RuntimeError(f"the installed trackers does not match as 2.6 does, {how}: pip install 'trackers>=2.6,<2.7'")


def _overlap_with_a_first_stage(library: Any) -> Any:
    """Intersection over union as ``trackers`` asks for it; what is asked for first in an update goes through ``first_stage``."""

    class Overlap(library.IoU):  # made here, for the library is optional
        first_stage: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None

        def compute(self, boxes_1: NDArray[Any], boxes_2: NDArray[Any]) -> NDArray[Any]:  # _compute is not called where a side is empty
            overlaps: NDArray[Any] = super().compute(boxes_1, boxes_2)
            first, self.first_stage = self.first_stage, None
            return overlaps if first is None else first(overlaps, boxes_1, boxes_2)

    return Overlap()
