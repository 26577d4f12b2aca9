"""Tracking as it happens: threads, sockets and files round ``lightning_reid.tracking``, which knows none."""

from lightning_reid.live.camera_pipeline import CameraParts, detect_with
from lightning_reid.live.live_cameras import LiveCameras
from lightning_reid.live.matching import Listener, MatchingThread, Told
from lightning_reid.live.sources import FrameSource, PictureSource, SourceLostError
from lightning_reid.live.video_source import VideoSource

__all__ = [
    "CameraParts",
    "FrameSource",
    "Listener",
    "LiveCameras",
    "MatchingThread",
    "PictureSource",
    "SourceLostError",
    "Told",
    "VideoSource",
    "detect_with",
]
