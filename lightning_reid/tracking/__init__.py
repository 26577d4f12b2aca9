"""Multi-camera tracking online: messages, embeddings of tracks, the memory of tracks, handovers, identities, the matcher."""

from lightning_reid.tracking.appearance_first import CameraTracker
from lightning_reid.tracking.camera_node import CameraNode
from lightning_reid.tracking.events import (
    CameraGone,
    CameraRestarted,
    ForgetIdentity,
    IdentityEvent,
    Match,
    MatchUndone,
    UndoMatch,
)
from lightning_reid.tracking.handover import MatchingRules, assign_one_to_one
from lightning_reid.tracking.identities import Identities
from lightning_reid.tracking.matcher import OnlineMatcher
from lightning_reid.tracking.matcher_state import matcher_state, restore_matcher
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.records import CameraTracks, FrameStamp, StageHealth, TrackEnded, TrackFeature
from lightning_reid.tracking.track_embedding import ClipCollector, TrackEmbedding, usable_boxes
from lightning_reid.tracking.track_memory import TrackMemory
from lightning_reid.tracking.transit import TransitGates
from lightning_reid.tracking.wire import read_message, write_message

__all__ = [
    "CameraGone",
    "CameraNode",
    "CameraRestarted",
    "CameraTracker",
    "CameraTracks",
    "ClipCollector",
    "ForgetIdentity",
    "FrameStamp",
    "Identities",
    "IdentityEvent",
    "Match",
    "MatchUndone",
    "MatchingRules",
    "OnlineMatcher",
    "StageHealth",
    "TrackEmbedding",
    "TrackEnded",
    "TrackFeature",
    "TrackKey",
    "TrackMemory",
    "TransitGates",
    "UndoMatch",
    "assign_one_to_one",
    "matcher_state",
    "read_message",
    "restore_matcher",
    "usable_boxes",
    "write_message",
]
