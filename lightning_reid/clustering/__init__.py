"""Pseudo-labels from embeddings: the sparse Jaccard distance and DBSCAN, affinity propagation, and what refines clusters."""

from lightning_reid.clustering.affinity_propagation import AffinityPropagation, affinity_propagation
from lightning_reid.clustering.agreement import ClusteringAgreement, clustering_agreement
from lightning_reid.clustering.bottom_up import merge_closest_clusters, merges_to_reach
from lightning_reid.clustering.centroids import cluster_centroids, cluster_means, cluster_medoids
from lightning_reid.clustering.density import dbscan, eps_from_share
from lightning_reid.clustering.distances import median_similarity, negative_squared_distances, sampled_median_similarity
from lightning_reid.clustering.inter_camera import PairStatistics, inter_camera_pairs, pair_statistics
from lightning_reid.clustering.jaccard import jaccard_distance
from lightning_reid.clustering.message_passing import MessagePassing
from lightning_reid.clustering.neighbors import nearest_neighbors
from lightning_reid.clustering.pair_masks import inter_camera_masks
from lightning_reid.clustering.part_homogeneity import HomogeneitySplit, part_based_homogeneity
from lightning_reid.clustering.preference_search import PreferenceSearch, Probe, search_preference
from lightning_reid.clustering.semantics_guided import (
    SemanticsGuidedClusters,
    semantics_guided_affinity_propagation,
    semantics_guided_preference,
)
from lightning_reid.clustering.silhouette import silhouette_samples
from lightning_reid.clustering.similarity_ranking import embedding_ranking, similarity_ranking
from lightning_reid.clustering.sparse_affinity_propagation import (
    SimilarityGraph,
    graph_of_similarity,
    similarity_graph,
    sparse_affinity_propagation,
)

__all__ = [
    "AffinityPropagation",
    "ClusteringAgreement",
    "HomogeneitySplit",
    "MessagePassing",
    "PairStatistics",
    "PreferenceSearch",
    "Probe",
    "SemanticsGuidedClusters",
    "SimilarityGraph",
    "affinity_propagation",
    "cluster_centroids",
    "cluster_means",
    "cluster_medoids",
    "clustering_agreement",
    "dbscan",
    "embedding_ranking",
    "eps_from_share",
    "graph_of_similarity",
    "inter_camera_masks",
    "inter_camera_pairs",
    "jaccard_distance",
    "median_similarity",
    "merge_closest_clusters",
    "merges_to_reach",
    "nearest_neighbors",
    "negative_squared_distances",
    "pair_statistics",
    "part_based_homogeneity",
    "sampled_median_similarity",
    "search_preference",
    "semantics_guided_affinity_propagation",
    "semantics_guided_preference",
    "silhouette_samples",
    "similarity_graph",
    "similarity_ranking",
    "sparse_affinity_propagation",
]
