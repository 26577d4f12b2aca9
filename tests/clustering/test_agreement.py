"""V-measure reporting."""

import math

import pytest
import torch

from lightning_reid.clustering import clustering_agreement


def test_scores_equal_hand_computed_values():
    # clusters {a a b} and {b b c}
    labels, pids = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([1, 1, 2, 2, 2, 3])
    h_pids = -(2 / 6 * math.log(2 / 6) + 3 / 6 * math.log(3 / 6) + 1 / 6 * math.log(1 / 6))
    h_pids_in_clusters = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))  # each cluster is split 2 to 1
    h_clusters_in_pids = 3 / 6 * -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))  # only b is split, 1 to 2
    homogeneity, completeness = 1 - h_pids_in_clusters / h_pids, 1 - h_clusters_in_pids / math.log(2)
    agreement = clustering_agreement(labels, pids)
    assert agreement.homogeneity == pytest.approx(homogeneity)
    assert agreement.completeness == pytest.approx(completeness)
    assert agreement.v_measure == pytest.approx(2 * homogeneity * completeness / (homogeneity + completeness))
    assert (agreement.noise_fraction, agreement.num_clusters) == (0, 2)


def test_noise_is_left_out_of_the_scores_and_reported_beside_them():
    agreement = clustering_agreement(torch.tensor([0, 0, 1, -1]), torch.tensor([1, 1, 2, 1]))
    assert (agreement.homogeneity, agreement.completeness, agreement.v_measure) == (1, 1, 1)
    assert (agreement.noise_fraction, agreement.num_clusters) == (0.25, 2)


def test_splitting_a_mixed_cluster_by_identity_raises_the_v_measure():
    pids = torch.tensor([1, 1, 2, 2, 3, 3])
    mixed, split = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 2, 2, 1, 1])
    assert clustering_agreement(split, pids).v_measure > clustering_agreement(mixed, pids).v_measure


def test_points_of_unknown_identity_are_left_out_of_the_scores():
    assert clustering_agreement(torch.tensor([0, 0, 1]), torch.tensor([1, -1, 2])).homogeneity == 1


def test_all_noise_has_no_scores():
    agreement = clustering_agreement(torch.tensor([-1, -1]), torch.tensor([1, 2]))
    assert math.isnan(agreement.v_measure)
    assert (agreement.noise_fraction, agreement.num_clusters) == (1, 0)


@pytest.mark.parametrize(("labels", "pids"), [([0, 1], [1]), ([], [])])
def test_lengths_that_differ_and_no_points_are_refused(labels, pids):
    with pytest.raises(ValueError, match="same N >= 1 points"):
        clustering_agreement(torch.tensor(labels), torch.tensor(pids))
