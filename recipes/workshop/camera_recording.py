"""Cameras that are tracked from a recording: their messages, what a matcher shows for them, and the truth to score it by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes
from lightning_reid.tracking import CameraNode, CameraTracks, FrameStamp, OnlineMatcher, TrackEnded, TrackFeature, TrackKey

Messages = list[CameraTracks | TrackFeature | TrackEnded]


@dataclass(frozen=True)
class Shown:
    """What was on the page: a frame's number, its tracks and the identities that they had then."""

    number: int
    tracks: CameraTracks
    identities: tuple[int, ...]


def name_of(camid: int) -> str:
    """A generated camera's name."""
    return f"camera {camid}"


def record_world(world: GeneratedWorld, detector: WorldDetector, nodes: Mapping[int, CameraNode], *, progress: bool) -> Messages:
    """Let nodes watch a generated world from its first picture to its last; what they tell, in order of capture.

    Args:
        world: Whose pictures they see.
        detector: Of people in these pictures.
        nodes: One for each camid.
        progress: Show a bar on standard error once it takes longer than two seconds.
    """
    told: Messages = []
    for number in late_progress(range(world.num_frames), f"world {world.seed}, frames", total=world.num_frames, disable=not progress):
        for camid, node in nodes.items():
            seconds = number / world.fps
            stamp = FrameStamp(name_of(camid), number, captured_monotonic=seconds, captured_utc=seconds)
            picture, found = torch.from_numpy(world.frame(camid, number)).permute(2, 0, 1), detector(camid, number)
            told += node.step(stamp, picture, found.boxes, found.scores)
    return told + [message for node in nodes.values() for message in node.end()]


def replay(messages: Messages, matcher: OnlineMatcher) -> list[Shown]:
    """Feed a matcher; what it shows at each frame, as it was shown then.

    Raises:
        RuntimeError: A person is twice in a camera at a time.
    """
    shown = []
    for message in messages:
        matcher.feed(message)
        if isinstance(message, CameraTracks):
            shown.append(Shown(message.stamp.number, message, tuple(matcher.identity(key) for key in message.keys)))
    for one, other in matcher.identities.collisions():
        raise RuntimeError(f"{one} and {other} are one person, twice in a camera at a time")
    return shown


def truth_of(world: GeneratedWorld, num_frames: int | None = None) -> list[TrueBoxes]:
    """Who was in each camera of a world, in its first frames; ``None`` for all."""
    frames = range(world.num_frames if num_frames is None else num_frames)
    return [_truth(world, camid, frames) for camid in range(1, world.num_cameras + 1)]


def scored_cameras(
    world: GeneratedWorld, truth: Sequence[TrueBoxes], shown: Sequence[Shown], num_frames: int | None = None
) -> list[TrackedCamera]:
    """What was shown of each camera of a world, beside who was there in so many frames; ``None`` for all."""
    times = torch.arange(world.num_frames if num_frames is None else num_frames, dtype=torch.float64) / world.fps
    by_camera = defaultdict(list)
    for one in shown:
        by_camera[one.tracks.stamp.camera].append(one)
    return [TrackedCamera(name_of(camid), times, true, shown_boxes(by_camera[name_of(camid)])) for camid, true in enumerate(truth, 1)]


def _truth(world: GeneratedWorld, camid: int, numbers: range) -> TrueBoxes:
    rows = [world.truth(camid, number) for number in numbers]
    frames = np.repeat(np.arange(len(numbers)), [len(row.pids) for row in rows])
    boxes, pids, visits = (torch.from_numpy(np.concatenate([getattr(row, name) for row in rows])) for name in ("boxes", "pids", "visits"))
    return TrueBoxes(torch.from_numpy(frames), boxes, pids, visits)


def shown_boxes(shown: Sequence[Shown]) -> ShownBoxes:
    """What was shown of one camera."""
    frames = torch.tensor([one.number for one in shown for _ in one.identities], dtype=torch.int64)
    numbers: dict[TrackKey, int] = {}
    tracks = [numbers.setdefault(key, len(numbers)) for one in shown for key in one.tracks.keys]
    identities = [identity for one in shown for identity in one.identities]
    boxes = torch.cat([one.tracks.boxes for one in shown]) if shown else torch.zeros(0, 4)
    return ShownBoxes(frames, boxes, torch.tensor(tracks, dtype=torch.int64), torch.tensor(identities, dtype=torch.int64))
