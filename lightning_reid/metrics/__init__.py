"""Scores of re-identification: what they are, how sure they are, and what they were measured on."""

from lightning_reid.metrics.clustering_quality import clustering_nmi
from lightning_reid.metrics.intervals import bootstrap_interval, paired_difference_interval
from lightning_reid.metrics.matching import Matching, ProtocolName
from lightning_reid.metrics.rank_lists import RankList, rank_lists
from lightning_reid.metrics.reranking import k_reciprocal_rerank
from lightning_reid.metrics.retrieval import retrieval_scores, scores_from_similarities
from lightning_reid.metrics.retrieval_metrics import RetrievalMetrics
from lightning_reid.metrics.scores import AveragePrecisionRule, RetrievalScores
from lightning_reid.metrics.similarity import MetricName
from lightning_reid.metrics.stamp import ProtocolStamp
from lightning_reid.metrics.verification import OpenSetRates, check_bounds, identification_rates, rates_from_scores, verification_rates

__all__ = [
    "AveragePrecisionRule",
    "Matching",
    "MetricName",
    "OpenSetRates",
    "ProtocolName",
    "ProtocolStamp",
    "RankList",
    "RetrievalMetrics",
    "RetrievalScores",
    "bootstrap_interval",
    "check_bounds",
    "clustering_nmi",
    "identification_rates",
    "k_reciprocal_rerank",
    "paired_difference_interval",
    "rank_lists",
    "rates_from_scores",
    "retrieval_scores",
    "scores_from_similarities",
    "verification_rates",
]
