"""One camera in three threads: decode, detect and track, embed; what lags drops what is old, and says so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_reid.detection import Detections, PersonDetector
from lightning_reid.detection.detections import checked_detections
from lightning_reid.live.latest_queue import LatestQueue
from lightning_reid.live.sources import FrameSource
from lightning_reid.live.stage_meter import StageMeter
from lightning_reid.tracking import CameraNode, CameraTracks, FrameStamp, StageHealth
from lightning_reid.tracking.records import FromCameras
from lightning_reid.tracking.track_features import DueWork

logger = logging.getLogger(__name__)

Detect = Callable[[FrameStamp, Tensor], Detections]
"""The people of a frame ``[3, H, W]`` uint8 RGB."""
Tell = Callable[[Sequence[FromCameras]], None]
OnPicture = Callable[[FrameStamp, Tensor, CameraTracks], None]
"""Called with each picture and its tracks in the tracking thread; it must be quick."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 1.0
"""Seconds before a camera that is lost is tried again, doubled each time up to the longest."""
STEADY = 10.0
"""Seconds after which a camera that is there is not one that comes and goes: it is tried again at once when it is lost."""
STAGES = ("decode", "track", "embed")


class CameraParts(NamedTuple):
    """What one camera is made of; no part may be another camera's as well.

    Attributes:
        source: Of its frames.
        detect: Finds the people in them; ``detect_with`` makes one of a detector.
        node: Tracks them.

    Example:
        >>> import torch
        >>> from lightning_reid.detection import OpenCVPeopleDetector
        >>> from lightning_reid.live import CameraParts, VideoSource, detect_with
        >>> from lightning_reid.tracking import CameraNode, CameraTracker
        >>> node = CameraNode("door", CameraTracker(max_distance=0), lambda crops: torch.ones(len(crops), 1), model="none")
        >>> CameraParts(VideoSource("door", "rtsp://192.168.0.7/stream"), detect_with(OpenCVPeopleDetector()), node).source.realtime
        True
    """

    source: FrameSource
    detect: Detect
    node: CameraNode


class _Picture(NamedTuple):
    """A frame, and when it was captured by the monotonic clock (decoded, where frames wait)."""

    stamp: FrameStamp
    picture: Tensor
    since: float


class _Embedding(NamedTuple):
    """What the embedding thread is to do for a frame; ``tracks`` where it is to tell them too."""

    since: float
    tracks: tuple[CameraTracks, ...]
    work: DueWork


def detect_with(detector: PersonDetector) -> Detect:
    """A detector as a pipeline takes it; what it says is checked, and a box that cannot be is a ``ValueError`` that names it.

    Example:
        >>> import torch
        >>> from lightning_reid.detection import OpenCVPeopleDetector
        >>> from lightning_reid.live import detect_with
        >>> from lightning_reid.tracking import FrameStamp
        >>> detect = detect_with(OpenCVPeopleDetector(min_height=160))
        >>> detect(FrameStamp("door", 0, 0.0, 0.0), torch.zeros(3, 128, 64, dtype=torch.uint8)).boxes.shape
        torch.Size([0, 4])
    """

    def detect(stamp: FrameStamp, picture: Tensor) -> Detections:
        return checked_detections(detector, [picture], frame_names=[f"frame {stamp.number} of camera {stamp.camera!r}"])[0]

    return detect


class CameraPipeline:
    """Runs the stages of one camera, each in its own thread.

    Where frames come at their own time, a stage that lags drops the oldest: decoding never waits, and an embedding that lags drops clips
    and no frames. Otherwise each waits for the next, and nothing is dropped. A camera that is lost has its tracks ended, and is tried again
    until it is back. Any other fault is of the program: it ends the pipeline, and ``failed`` is told.

    Args:
        parts: Of the camera.
        tell: Takes what the camera tells, in order. Where frames wait, all that follows from one comes together.
        stop: Ends the pipeline; what was decoded by then is still told.
        failed: Called with the stage and what it raised.
        over: Called once nothing more will be told.
        on_picture: Gets each picture that was tracked; ``None`` for nobody.
    """

    def __init__(
        self,
        parts: CameraParts,
        tell: Tell,
        *,
        stop: threading.Event,
        failed: Callable[[str, Exception], None],
        over: Callable[[], None],
        on_picture: OnPicture | None = None,
    ) -> None:
        self.parts, self.camera, self.realtime = parts, parts.source.camera, parts.source.realtime
        self.meters = {stage: StageMeter(self.camera, stage) for stage in STAGES}
        self.num_losses = 0  # how often the camera was there, and then was not
        self._tell, self._stop, self._failed, self._over, self._on_picture = tell, stop, failed, over, on_picture
        self._frames = LatestQueue[_Picture | None](drops=self.realtime)  # None is a break, which is never dropped
        self._embedding = LatestQueue[_Embedding](drops=self.realtime)
        self._gone, self._epoch = True, parts.node.tracker.epoch
        stages = {"decode": self._decode, "track": self._track, "embed": self._embed}
        self._threads = [
            threading.Thread(target=self._run, args=(stage, run), name=f"{self.camera} {stage}", daemon=True)
            for stage, run in stages.items()
        ]

    def start(self) -> None:
        """Let the camera run."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until the camera is over."""
        for thread in self._threads:
            thread.join()

    def health(self) -> list[StageHealth]:
        """How each stage fares."""
        waiting = {"decode": 0, "track": len(self._frames), "embed": len(self._embedding)}
        return [
            self.meters[stage].health(queued=waiting[stage], gone=self._gone, idle=stage != "decode" and not waiting[stage])
            for stage in STAGES
        ]

    def _run(self, stage: str, run: Callable[[], None]) -> None:
        torch.set_num_threads(1)  # of this thread: cameras and stages share the processors already
        try:
            run()
        except Exception as error:  # told by LiveCameras.wait, in the thread of whoever watches
            self._frames.abandon()
            self._embedding.abandon()
            self._failed(stage, error)
        finally:
            if stage == STAGES[-1]:
                self._over()

    def _decode(self) -> None:
        wait, told = FIRST_WAIT, False
        while not self._stop.is_set():
            begun = time.monotonic()
            why = self._watch()
            if not self.parts.source.endless or self._stop.is_set():
                break
            if not self._gone or not told:
                logger.warning("%s; it will be tried again until it is back", why)
                told = True
            wait = FIRST_WAIT if not self._gone and time.monotonic() - begun > STEADY else wait
            self.num_losses += not self._gone
            self._break(gone=True)
            self._stop.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        self._break(gone=True)
        self._frames.close()

    def _watch(self) -> str:
        """Hand on the frames of the source until it ends, and tell why it did."""
        try:
            with closing(self.parts.source.frames(self._stop)) as frames:
                for stamp, picture in frames:
                    if self._gone:
                        logger.info("camera %r is there", self.camera)
                    if stamp.number == 0:
                        self._break(gone=False)
                    since = stamp.captured_monotonic if self.realtime else time.monotonic()
                    if self._frames.put(_Picture(stamp, picture, since)) is not None:
                        self.meters["track"].drop(1)
                    self.meters["decode"].done(1, since)
        except OSError as error:
            if not self.parts.source.endless:
                raise
            return str(error)
        return f"camera {self.camera!r}: its stream has ended"

    def _break(self, *, gone: bool) -> None:
        """What comes next is of another epoch, if anything does."""
        self._frames.put(None)
        self._gone = gone

    def _track(self) -> None:
        node, begun = self.parts.node, False
        for frame in self._frames:
            if frame is None:
                if begun:
                    self._embed_later(_Embedding(time.monotonic(), (), node.end_tracks()))
                begun = False
                continue
            begun = True
            found = self.parts.detect(frame.stamp, frame.picture)
            tracks, work = node.track(frame.stamp, frame.picture, found.boxes, found.scores)
            if tracks.epoch != self._epoch and self.realtime:
                self._embedding.join()  # or features of the epoch before would follow on the first frame of this one
            self._epoch = tracks.epoch
            self.meters["track"].done(1, frame.since)
            if self._on_picture is not None:
                self._on_picture(frame.stamp, frame.picture, tracks)
            if self.realtime:
                self._tell([tracks])
            self._embed_later(_Embedding(frame.since, () if self.realtime else (tracks,), work))
        self._embedding.close()

    def _embed_later(self, item: _Embedding) -> None:
        if not self.realtime:
            self._embedding.put(item)
        elif item.work.clips:
            without = item._replace(work=item.work._replace(clips=())) if item.work.ends else None
            dropped = self._embedding.put(item, rest=without)
            self.meters["embed"].drop(0 if dropped is None else len(dropped.work.clips))
        elif item.work.ends:
            self._embedding.put(item, rest=item)

    def _embed(self) -> None:
        for item in self._embedding:
            told = self.parts.node.features.step(item.work)
            self.meters["embed"].done(len(item.work.clips), item.since)
            self._tell([*item.tracks, *told])
