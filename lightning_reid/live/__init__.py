"""Tracking as it happens: threads, sockets and files round ``lightning_reid.tracking``, which knows none.

What needs more than the library itself (extra ``tracking``) is imported by its own name: ``live.gateway``, ``live.node_link``,
``live.serving`` and ``live.page``.
"""

from lightning_reid.live.audit import AuditLog
from lightning_reid.live.camera_pipeline import CameraParts, detect_with
from lightning_reid.live.journal import Journal
from lightning_reid.live.live_cameras import LiveCameras
from lightning_reid.live.matching import Listener, MatchingThread, Told
from lightning_reid.live.outbox import Outbox
from lightning_reid.live.sources import FrameSource, PictureSource, SourceLostError
from lightning_reid.live.video_source import VideoSource

__all__ = [
    "AuditLog",
    "CameraParts",
    "FrameSource",
    "Journal",
    "Listener",
    "LiveCameras",
    "MatchingThread",
    "Outbox",
    "PictureSource",
    "SourceLostError",
    "Told",
    "VideoSource",
    "detect_with",
]
