"""The silhouette against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples as by_scikit_learn

from lightning_reid.clustering.silhouette import silhouette_samples


@settings(max_examples=40)
@given(seed=st.integers(0, 999), total=st.integers(5, 40), clusters=st.integers(2, 5), tile=st.sampled_from([1, 60, 1 << 24]))
def test_scores_equal_scikit_learn_on_the_clustered_points_whatever_the_tile(seed, total, clusters, tile):
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(total, 4, generator=draw, dtype=torch.float64)
    labels = torch.randint(-1, clusters, (total,), generator=draw)
    labels[:3] = torch.tensor([0, 1, 1])  # two clusters, and more points than clusters, as scikit-learn asks for
    scores = silhouette_samples(points, labels, tile=tile)
    clustered = labels >= 0
    if len(labels[clustered].unique()) < int(clustered.sum()):
        np.testing.assert_allclose(scores[clustered], by_scikit_learn(points[clustered], labels[clustered]), atol=1e-7)
    assert scores[~clustered].isnan().all()


def test_scores_equal_hand_computed_values():
    positions = torch.tensor([[0.0], [2.0], [100.0], [10.0], [13.0], [16.0]])
    scores = silhouette_samples(positions, torch.tensor([0, 0, -1, 1, 1, 1]))
    # first point: a = 2, b = (10 + 13 + 16) / 3 = 13; fourth: a = (3 + 6) / 2 = 4.5, b = (10 + 8) / 2 = 9
    assert scores[0].item() == pytest.approx(11 / 13)
    assert scores[3].item() == pytest.approx(0.5)
    assert scores[2].isnan()


def test_float32_scores_of_unit_embeddings_are_right_to_1e_4():
    draw = torch.Generator().manual_seed(0)
    centers = torch.randn(20, 128, generator=draw)
    labels = torch.randint(20, (400,), generator=draw)
    points = torch.nn.functional.normalize(centers[labels] + 0.8 * torch.randn(400, 128, generator=draw))
    np.testing.assert_allclose(silhouette_samples(points, labels), by_scikit_learn(points.double(), labels), atol=1e-4)


def test_a_cluster_of_one_point_scores_zero():
    assert silhouette_samples(torch.tensor([[0.0], [5.0], [6.0]]), torch.tensor([0, 1, 1]))[0] == 0


def test_points_that_are_all_the_same_score_zero():
    assert silhouette_samples(torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 1])).tolist() == [0] * 6


@pytest.mark.parametrize(("labels", "found"), [([0, 0, 0, -1], "got 1 with 3 of 4 points"), ([-1] * 4, "got 0 with 0 of 4 points")])
def test_fewer_than_two_clusters_are_refused(labels, found):
    with pytest.raises(ValueError, match=f"silhouette: needs at least two clusters, {found}"):
        silhouette_samples(torch.ones(4, 2), torch.tensor(labels))


def test_nan_is_reported_with_the_step_that_met_it():
    points = torch.ones(4, 2)
    points[1] = torch.nan
    with pytest.raises(ValueError, match="silhouette: embeddings: 1 of 4 rows hold NaN"):
        silhouette_samples(points, torch.tensor([0, 0, 1, 1]))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"silhouette: 4 embeddings need as many labels, got shape \(3,\)"):
        silhouette_samples(torch.ones(4, 2), torch.zeros(3).long())
