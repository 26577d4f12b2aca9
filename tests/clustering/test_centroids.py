from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.clustering.centroids import cluster_means, cluster_medoids
from lightning_reid.clustering.distances import median_similarity, negative_squared_distances, sampled_median_similarity


def drawn(total: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(total, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), clusters=st.integers(1, 5))
def test_means_and_medoids_are_those_of_a_loop(seed, clusters):
    points = drawn(30, seed=seed)
    noisy = torch.randint(-1, clusters, (30 - clusters,), generator=torch.Generator().manual_seed(seed))
    labels = torch.cat([torch.arange(clusters), noisy])
    means, medoids = cluster_means(points, labels), cluster_medoids(points, labels)
    for cluster in range(clusters):
        members = (labels == cluster).nonzero().flatten()
        mean = points[members].mean(0)
        torch.testing.assert_close(means[cluster], mean)
        assert medoids[cluster] == members[(points[members] - mean).square().sum(1).argmin()]


def test_of_members_at_equal_distance_the_first_is_the_medoid():
    assert cluster_medoids(torch.tensor([[9.0], [0.0], [2.0]]), torch.tensor([-1, 0, 0])).tolist() == [1]
    assert cluster_medoids(torch.ones(3, 2), torch.tensor([0, 0, 0])).tolist() == [0]


def test_a_cluster_without_members_has_a_mean_of_zeros():
    assert cluster_means(torch.ones(2, 2), torch.tensor([1, -1]), num_clusters=3).tolist() == [[0, 0], [1, 1], [0, 0]]


@settings(max_examples=25)
@given(seed=st.integers(0, 999), total=st.integers(2, 40))
def test_the_median_leaves_the_diagonal_out(seed, total):
    points = drawn(total, seed=seed)
    similarity = negative_squared_distances(points)
    others = [similarity[i, j].item() for i in range(total) for j in range(total) if i != j]
    expected = sorted(others)[(len(others) - 1) // 2]
    assert median_similarity(similarity) == expected
    assert sampled_median_similarity(points) == pytest.approx(expected, abs=1e-9)


def test_a_median_of_some_rows_comes_near():
    points = drawn(3000, 8)
    assert sampled_median_similarity(points, num_rows=300) == pytest.approx(median_similarity(negative_squared_distances(points)), rel=0.05)
