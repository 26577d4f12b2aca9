"""Scores of re-identification and of tracking: what they are, how sure they are, and what they were measured on."""

from lightning_reid.metrics.clustering_quality import clustering_nmi
from lightning_reid.metrics.handovers import handover_scores
from lightning_reid.metrics.intervals import bootstrap_interval, paired_difference_interval
from lightning_reid.metrics.multi_camera import camera_scores, cross_camera_scores
from lightning_reid.metrics.rank_lists import rank_lists
from lightning_reid.metrics.reassociation import Reassociation, reassociation_scores
from lightning_reid.metrics.reranking import k_reciprocal_rerank
from lightning_reid.metrics.retrieval import retrieval_scores
from lightning_reid.metrics.retrieval_metrics import RetrievalMetrics
from lightning_reid.metrics.scores import RetrievalScores
from lightning_reid.metrics.stamp import ProtocolStamp
from lightning_reid.metrics.tracked_camera import ShownBoxes, TrackedCamera, TrueBoxes
from lightning_reid.metrics.verification import identification_rates, verification_rates

__all__ = [
    "ProtocolStamp",
    "Reassociation",
    "RetrievalMetrics",
    "RetrievalScores",
    "ShownBoxes",
    "TrackedCamera",
    "TrueBoxes",
    "bootstrap_interval",
    "camera_scores",
    "clustering_nmi",
    "cross_camera_scores",
    "handover_scores",
    "identification_rates",
    "k_reciprocal_rerank",
    "paired_difference_interval",
    "rank_lists",
    "reassociation_scores",
    "retrieval_scores",
    "verification_rates",
]
