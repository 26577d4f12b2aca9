"""Messages of cameras in few words: ten frames a second, features of four numbers."""

from __future__ import annotations

import torch

from lightning_reid.tracking import CameraTracks, FrameStamp, TrackEnded, TrackFeature, TrackKey

MODEL = "resnet18"


def frame(camera: str, number: int, *ids: int, epoch: int = 0, offset: float = 0.0) -> CameraTracks:
    """A frame with these tracks; ``offset`` sets the camera's clock, in seconds."""
    boxes = torch.tensor([[100.0 * one, 0, 100.0 * one + 40, 90] for one in range(len(ids))]).reshape(-1, 4)
    return CameraTracks(FrameStamp(camera, number, number / 10, number / 10 + offset), epoch, ids, boxes, torch.ones(len(ids)))


def direction(*numbers: float) -> torch.Tensor:
    """A feature of length 1 that points there."""
    return torch.nn.functional.normalize(torch.tensor(numbers, dtype=torch.float32), dim=0)


def looks(camera: str, track_id: int, feature: torch.Tensor, *seen: int, count: int = 1, epoch: int = 0) -> TrackFeature:
    """The feature of a track that was seen from one frame until another, or in one alone."""
    return TrackFeature(camera, epoch, track_id, feature, count, seen[0] / 10, seen[-1] / 10, MODEL)


def ended(camera: str, track_id: int, number: int, *, epoch: int = 0) -> TrackEnded:
    """The end of a track that was seen until this frame."""
    return TrackEnded(camera, epoch, track_id, number / 10)


def key(camera: str, track_id: int, epoch: int = 0) -> TrackKey:
    """The key of a track."""
    return TrackKey(camera, epoch, track_id)
