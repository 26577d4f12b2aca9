"""What happens before and between epochs: aligning tracklets, clustering, refinement of pseudo-labels, pruning, pictures."""

from lightning_reid.callbacks.affinity_labels import AffinityPseudoLabels
from lightning_reid.callbacks.block_access import BlockAccessLogger
from lightning_reid.callbacks.bottom_up_clustering import BottomUpClustering
from lightning_reid.callbacks.caie_pruning import CAIEPruning
from lightning_reid.callbacks.cluster_strips import ClusterStripLogger
from lightning_reid.callbacks.cpo_pruning import CPOPruning
from lightning_reid.callbacks.embedding_projector import EmbeddingProjector
from lightning_reid.callbacks.filter_pruning import FilterPruning
from lightning_reid.callbacks.hard_negatives import HardNegativeSampling
from lightning_reid.callbacks.nmi import NMILogger
from lightning_reid.callbacks.progressive_selection import ProgressiveSelection
from lightning_reid.callbacks.pseudo_labels import PseudoLabelClustering
from lightning_reid.callbacks.rank_list import RankListLogger
from lightning_reid.callbacks.redetect_and_link import RedetectAndLink
from lightning_reid.callbacks.refinement import InterCameraMining, PartBasedHomogeneity
from lightning_reid.callbacks.tracklet_memories import TrackletMemories

__all__ = [
    "AffinityPseudoLabels",
    "BlockAccessLogger",
    "BottomUpClustering",
    "CAIEPruning",
    "CPOPruning",
    "ClusterStripLogger",
    "EmbeddingProjector",
    "FilterPruning",
    "HardNegativeSampling",
    "InterCameraMining",
    "NMILogger",
    "PartBasedHomogeneity",
    "ProgressiveSelection",
    "PseudoLabelClustering",
    "RankListLogger",
    "RedetectAndLink",
    "TrackletMemories",
]
