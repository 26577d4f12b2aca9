"""What a node does for one camera: the boxes of its frames in, messages for the matcher out. It knows no thread and no clock."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.arguments import require_text
from lightning_reid.frame_crops import boxes_within, crop_of, require_frame
from lightning_reid.tracking.appearance_first import CameraTracker
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.records import CameraTracks, FrameStamp, FromCameras, TrackEnded
from lightning_reid.tracking.track_embedding import ClipCollector, usable_boxes
from lightning_reid.tracking.track_features import DueClip, DueWork, EmbedClip, EmbedCrops, Look, TrackFeatures

MOST_BOXES = 1000
"""In a frame: each is compared with each, and a detector that finds more people has a fault."""


class CameraNode:
    """Tracks the people of one camera, and gives each track an embedding that grows with it.

    ``step`` does both in order. Where the network of re-ID may lag behind the frames, one thread calls ``track`` and ``end_tracks``,
    another hands what they leave to do to ``features.step``, in the same order: the two share nothing.

    Source: thesis, sections 8.3 and 8.4: ByteTrack with the appearance repair; a feature of every T frames of a track; their running mean.

    Args:
        camera: Name of the camera.
        tracker: Of this camera alone.
        embed: Network of crops, which tells apart who meets; never asked where the tracker's ``max_distance`` is 0.
        model: Name or digest of the network that makes features.
        embed_clip: Network of clips; ``None`` takes the mean of what ``embed`` makes of the T crops.
        clips: Which frames make a feature.
        max_hidden: Largest share of a box that another one may cover, for a crop of it to be embedded, in [0, 1].
        min_score: Smallest score of a box of which a crop is embedded, in [0, 1].

    Attributes:
        features: Makes features of the clips that are due.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import CameraNode, CameraTracker, ClipCollector, FrameStamp
        >>> def embed(crops):
        ...     return torch.nn.functional.normalize(torch.stack([crop.float().mean((1, 2)) for crop in crops]), dim=1)
        >>> node = CameraNode("door", CameraTracker(), embed, model="mean color", clips=ClipCollector(num_frames=2, spread=0.1))
        >>> frame, box = torch.full((3, 96, 64), 90, dtype=torch.uint8), torch.tensor([[8.0, 4, 40, 90]])
        >>> for number in range(4):
        ...     stamp = FrameStamp("door", number, captured_monotonic=number / 10, captured_utc=number / 10)
        ...     print([type(one).__name__ for one in node.step(stamp, frame, box, torch.tensor([0.9]))])
        ['CameraTracks']
        ['CameraTracks']
        ['CameraTracks', 'TrackFeature']
        ['CameraTracks']
    """

    def __init__(
        self,
        camera: str,
        tracker: CameraTracker,
        embed: EmbedCrops,
        *,
        model: str,
        embed_clip: EmbedClip | None = None,
        clips: ClipCollector[Look] | None = None,
        max_hidden: float = 0.5,
        min_score: float = 0.5,
    ) -> None:
        require_text("camera", camera)
        self.camera, self.tracker = camera, tracker
        self.features = TrackFeatures(embed, model=model, embed_clip=embed_clip)
        self._embed = embed
        self._clips: ClipCollector[Look] = ClipCollector() if clips is None else clips  # an empty one is false
        self._usable = {"max_hidden": max_hidden, "min_score": min_score}
        self._seen: dict[TrackKey, tuple[float, float]] = {}

    @property
    def num_embedded(self) -> int:
        """Crops embedded for features since it was made; ``tracker.num_embedded`` counts those for the repair."""
        return self.features.num_embedded

    def step(self, stamp: FrameStamp, frame: Tensor, boxes: Tensor, scores: Tensor) -> list[FromCameras]:
        """Take one frame of the camera, and tell what follows from it: ``track``, then ``features.step``.

        Returns:
            Who is in the frame, the features that are due, and the ends of tracks, in this order.

        Raises:
            ValueError: As ``track`` and ``features.step`` say.
        """
        tracks, work = self.track(stamp, frame, boxes, scores)
        return [tracks, *self.features.step(work)]

    def track(self, stamp: FrameStamp, frame: Tensor, boxes: Tensor, scores: Tensor) -> tuple[CameraTracks, DueWork]:
        """Take one frame of the camera, and tell who is in it, and what there is to embed and to end.

        Args:
            stamp: When it was captured; frames come in order.
            frame: ``[3, H, W]`` uint8 RGB.
            boxes: ``[K, 4]`` float x0, y0, x1, y1 in pixels, of area; what lies beyond the frame is cut off.
            scores: ``[K]`` float in [0, 1].

        Returns:
            Who is in the frame, and the work that ``features.step`` takes; it holds crops of its own, and nothing of the frame.

        Raises:
            ValueError: The stamp is another camera's, the frame is no image, boxes and scores are not of those shapes or more than
                ``MOST_BOXES``, or a box is as ``CameraTracker`` refuses it or wholly outside.
        """
        self._check(stamp, frame, boxes, scores)
        inside = boxes_within(frame, boxes)
        epoch = self.tracker.epoch
        numbers = inside.numpy(), scores.numpy(), stamp.captured_monotonic
        repaired: dict[int, Tensor] = {}
        tracked = self.tracker.update(*numbers, lambda rows: self._rows(frame, inside, rows, repaired), width=frame.shape[2])
        if tracked.epoch != epoch:  # the matcher ends the tracks of an epoch that is over
            self._forget(self._seen.keys())
        rows = torch.from_numpy(np.flatnonzero(tracked.track_ids >= 0))
        ids = tuple(int(tracked.track_ids[row]) for row in rows)
        found = CameraTracks(stamp, tracked.epoch, ids, inside[rows].float(), scores[rows].float())
        for key in found.keys:
            self._seen[key] = (self._seen.get(key, (stamp.captured_utc, 0.0))[0], stamp.captured_utc)
        usable = usable_boxes(inside, scores, **self._usable)[rows]
        clips = tuple(
            clip
            for key, row, good in zip(found.keys, rows.tolist(), usable.tolist(), strict=True)
            if good and (clip := self._clip(key, stamp, frame, inside[row], repaired.get(row))) is not None
        )
        return found, DueWork(tracked.epoch, clips, self._ends(tracked.epoch))

    def end(self) -> list[FromCameras]:
        """End all tracks that still live: the camera is gone, or the recording is over. ``end_tracks``, then ``features.step``."""
        return [*self.features.step(self.end_tracks())]

    def end_tracks(self) -> DueWork:
        """End all tracks that still live, and begin the next epoch.

        Returns:
            Their ends, for ``features.step``.
        """
        ends = tuple(TrackEnded(*key, seen_until) for key, (_, seen_until) in sorted(self._seen.items()))
        self._forget(self._seen.keys())
        work = DueWork(self.tracker.epoch, ends=ends)
        self.tracker.restart()
        return work

    def _check(self, stamp: FrameStamp, frame: Tensor, boxes: Tensor, scores: Tensor) -> None:
        if stamp.camera != self.camera:
            raise ValueError(f"the node of camera {self.camera!r} got a frame of {stamp.camera!r}")
        try:
            require_frame(frame)
        except ValueError as error:
            raise ValueError(f"camera {self.camera!r}, frame {stamp.number}: {error}") from error
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1] or len(boxes) > MOST_BOXES:
            got = f"{list(boxes.shape)} and {list(scores.shape)}"
            told = f"expected boxes [K, 4] and scores [K], K up to {MOST_BOXES:,}, got {got}"
            raise ValueError(f"camera {self.camera!r}, frame {stamp.number}: {told}")

    def _rows(self, frame: Tensor, boxes: Tensor, rows: NDArray[np.int64], embedded: dict[int, Tensor]) -> NDArray[np.float32]:
        """The embeddings of boxes, which are also left in ``embedded`` by their rows."""
        found = self._embed([crop_of(frame, boxes[row]) for row in rows.tolist()]).cpu()
        embedded |= dict(zip(rows.tolist(), found))
        return found.numpy()

    def _clip(self, key: TrackKey, stamp: FrameStamp, frame: Tensor, box: Tensor, embedding: Tensor | None) -> DueClip | None:
        if not self._clips.wants(key, stamp.captured_utc):
            return None
        looks = self._clips.add(key, stamp.captured_utc, Look(crop_of(frame, box), embedding))
        return None if looks is None else DueClip(key, looks, *self._seen[key])

    def _ends(self, epoch: int) -> tuple[TrackEnded, ...]:
        """The ends of tracks that the tracker will not find again."""
        alive = self.tracker.track_ids
        over = sorted(key for key in self._seen if key.epoch == epoch and key.track_id not in alive)
        ends = tuple(TrackEnded(*key, self._seen[key][1]) for key in over)
        self._forget(over)
        return ends

    def _forget(self, keys: Iterable[TrackKey]) -> None:
        for key in list(keys):
            self._clips.end(key)
            del self._seen[key]
