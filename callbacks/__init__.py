"""What happens before and between epochs: aligning tracklets, clustering, refinement of pseudo-labels, pictures."""

from lightning_reid.callbacks.embedding_projector import EmbeddingProjector
from lightning_reid.callbacks.pseudo_labels import PseudoLabelClustering
from lightning_reid.callbacks.rank_list import RankListLogger
from lightning_reid.callbacks.redetect_and_link import RedetectAndLink
from lightning_reid.callbacks.refinement import InterCameraMining, PartBasedHomogeneity

__all__ = ["EmbeddingProjector", "InterCameraMining", "PartBasedHomogeneity", "PseudoLabelClustering", "RankListLogger", "RedetectAndLink"]
