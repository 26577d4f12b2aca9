"""Pseudo-labels from embeddings: the sparse Jaccard distance, DBSCAN, cross-camera neighbours, and the splitting of imperfect clusters."""

from lightning_reid.clustering.agreement import ClusteringAgreement, clustering_agreement
from lightning_reid.clustering.centroids import cluster_centroids
from lightning_reid.clustering.density import dbscan, eps_from_share
from lightning_reid.clustering.inter_camera import PairStatistics, inter_camera_pairs, pair_statistics
from lightning_reid.clustering.jaccard import jaccard_distance
from lightning_reid.clustering.neighbours import nearest_neighbours
from lightning_reid.clustering.pair_masks import inter_camera_masks
from lightning_reid.clustering.part_homogeneity import HomogeneitySplit, part_based_homogeneity
from lightning_reid.clustering.silhouette import silhouette_samples

__all__ = [
    "ClusteringAgreement",
    "HomogeneitySplit",
    "PairStatistics",
    "cluster_centroids",
    "clustering_agreement",
    "dbscan",
    "eps_from_share",
    "inter_camera_masks",
    "inter_camera_pairs",
    "jaccard_distance",
    "nearest_neighbours",
    "pair_statistics",
    "part_based_homogeneity",
    "silhouette_samples",
]
