"""Scores of re-identification and of tracking: what they are, how sure they are, and what they were measured on.

What needs scikit-learn or torchmetrics is imported on first use: they take seconds, and a command that embeds two pictures does not wait.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_reid.metrics.calibrating import calibrate_similarity
from lightning_reid.metrics.calibration import Calibration, probability_of, verdict_of
from lightning_reid.metrics.camera_pairs import CameraPairs, camera_pair_failures
from lightning_reid.metrics.handovers import handover_scores
from lightning_reid.metrics.intervals import bootstrap_interval, paired_difference_interval
from lightning_reid.metrics.multi_camera import camera_scores, cross_camera_scores
from lightning_reid.metrics.pair_distances import PairDistances, pair_distances
from lightning_reid.metrics.rank_lists import rank_lists
from lightning_reid.metrics.reassociation import Reassociation, reassociation_scores
from lightning_reid.metrics.reranking import k_reciprocal_rerank
from lightning_reid.metrics.retrieval import retrieval_scores
from lightning_reid.metrics.scores import RetrievalScores
from lightning_reid.metrics.significance import holm_adjusted, paired_difference_p_value
from lightning_reid.metrics.stamp import ProtocolStamp
from lightning_reid.metrics.tracked_camera import ShownBoxes, TrackedCamera, TrueBoxes
from lightning_reid.metrics.verification import identification_rates, verification_rates

if TYPE_CHECKING:
    from lightning_reid.metrics.clustering_quality import clustering_nmi
    from lightning_reid.metrics.projection import embedding_map
    from lightning_reid.metrics.retrieval_metrics import RetrievalMetrics

__all__ = [
    "Calibration",
    "CameraPairs",
    "PairDistances",
    "ProtocolStamp",
    "Reassociation",
    "RetrievalMetrics",
    "RetrievalScores",
    "ShownBoxes",
    "TrackedCamera",
    "TrueBoxes",
    "bootstrap_interval",
    "calibrate_similarity",
    "camera_pair_failures",
    "camera_scores",
    "clustering_nmi",
    "cross_camera_scores",
    "embedding_map",
    "handover_scores",
    "holm_adjusted",
    "identification_rates",
    "k_reciprocal_rerank",
    "pair_distances",
    "paired_difference_interval",
    "paired_difference_p_value",
    "probability_of",
    "rank_lists",
    "reassociation_scores",
    "retrieval_scores",
    "verdict_of",
    "verification_rates",
]

_HOMES = {"RetrievalMetrics": "retrieval_metrics", "clustering_nmi": "clustering_quality", "embedding_map": "projection"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
