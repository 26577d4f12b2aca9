"""Pseudo-labels from embeddings: the sparse Jaccard distance and DBSCAN, affinity propagation, and what refines clusters."""

from lightning_reid.clustering.affinity_propagation import affinity_propagation
from lightning_reid.clustering.agreement import clustering_agreement
from lightning_reid.clustering.bottom_up import merge_closest_clusters
from lightning_reid.clustering.camera_graph import mutual_top1, triangle_counts
from lightning_reid.clustering.camera_labels import contradictions, global_labels
from lightning_reid.clustering.density import dbscan
from lightning_reid.clustering.inter_camera import inter_camera_pairs
from lightning_reid.clustering.jaccard import jaccard_distance
from lightning_reid.clustering.neighbors import nearest_neighbors
from lightning_reid.clustering.part_homogeneity import part_based_homogeneity
from lightning_reid.clustering.semantics_guided import semantics_guided_affinity_propagation
from lightning_reid.clustering.sparse_affinity_propagation import sparse_affinity_propagation

__all__ = [
    "affinity_propagation",
    "clustering_agreement",
    "contradictions",
    "dbscan",
    "global_labels",
    "inter_camera_pairs",
    "jaccard_distance",
    "merge_closest_clusters",
    "mutual_top1",
    "nearest_neighbors",
    "part_based_homogeneity",
    "semantics_guided_affinity_propagation",
    "sparse_affinity_propagation",
    "triangle_counts",
]
