"""DBSCAN on sparse distances, and the radius rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.cluster import DBSCAN

from lightning_reid.clustering import dbscan, density, jaccard_distance
from lightning_reid.clustering.density import eps_from_share

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "jaccard.npz")


def renumbered(labels):
    """Clusters numbered as they first appear."""
    numbers = {}
    return [-1 if label < 0 else numbers.setdefault(label, len(numbers)) for label in labels.tolist()]


def sparse_of(table):
    """Entries of 1 are left out, zeros are stored."""
    rows, columns = np.nonzero(table < 1)
    return sparse.csr_matrix((table[rows, columns], (rows, columns)), shape=table.shape)


def pairs_at(total, pairs):
    """Symmetric sparse distance with the given ``{(i, j): distance}`` and a stored zero diagonal."""
    table = np.ones((total, total))
    np.fill_diagonal(table, 0)
    for (i, j), value in pairs.items():
        table[i, j] = table[j, i] = value
    return sparse_of(table)


@pytest.mark.parametrize("eps", [0.4, 0.5, 0.6, 0.7])
def test_labels_equal_the_published_pipelines(eps):
    labels = dbscan(jaccard_distance(torch.from_numpy(GOLDEN["feat_norm"]), 8, 3), eps, min_samples=4)
    assert labels.dtype == torch.int64
    assert labels.tolist() == renumbered(GOLDEN[f"dbscan_k8_3_eps{eps}_ms4"])


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), total=st.integers(1, 40), eps=st.sampled_from([1e-9, 0.1, 0.25, 0.6]), min_samples=st.integers(1, 6))
def test_labels_equal_scikit_learn_on_the_dense_matrix(seed, total, eps, min_samples):
    draw = np.random.default_rng(seed)
    table = np.round(np.minimum(draw.random((total, total)) * 6, 1), 1)  # few values: many ties with eps, zeros among them
    table = np.minimum(table, table.T)
    np.fill_diagonal(table, 0)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(table)
    assert dbscan(sparse_of(table), eps, min_samples).tolist() == renumbered(expected)


def test_a_stored_zero_is_a_neighbor_and_an_absent_entry_is_not():
    assert dbscan(pairs_at(4, {(0, 1): 0.0, (0, 2): 0.0, (1, 2): 0.0}), eps=0.5, min_samples=3).tolist() == [0, 0, 0, -1]


def test_a_rim_point_between_two_clusters_goes_to_the_one_that_starts_first():
    # with four neighbors to be core, only 2 and 4 are; 3 is at the rim of both
    pairs = {(0, 2): 0.1, (1, 2): 0.1, (2, 3): 0.3, (3, 4): 0.3, (4, 5): 0.1, (4, 6): 0.1}
    assert dbscan(pairs_at(7, pairs), eps=0.3, min_samples=4).tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_clusters_are_numbered_as_they_first_appear_also_when_a_rim_point_comes_first():
    # the first core point is 2, of the cluster {2, 3, 4}; but 0 is a rim point of 5, whose cluster therefore appears first
    pairs = {(0, 5): 0.1, (5, 6): 0.1, (2, 3): 0.1, (2, 4): 0.1, (3, 4): 0.1}
    assert dbscan(pairs_at(7, pairs), eps=0.2, min_samples=3).tolist() == [0, -1, 1, 1, 1, 0, 0]


def test_all_noise_and_no_points_are_valid_answers():
    assert dbscan(pairs_at(5, {}), eps=0.5).tolist() == [-1] * 5
    assert dbscan(sparse.csr_matrix(np.empty((0, 0))), eps=0.5).tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 1.0}, r"eps must be in \[0, 1\), got 1.0: at 1 the pairs"),
        ({"eps": -0.1}, r"got -0.1"),
        ({"eps": float("nan")}, r"got nan"),
        ({"eps": 0.5, "min_samples": 0}, "min_samples must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dbscan(pairs_at(3, {}), **options)


def test_a_distance_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"must be \[N, N\], got shape \(2, 3\)"):
        dbscan(sparse.csr_matrix(np.ones((2, 3))), 0.5)


def test_eps_is_the_mean_of_the_smallest_share_of_all_pairs():
    pairs = {(0, 1): 0.2, (0, 2): 0.4, (1, 3): 0.1, (2, 4): 0.0}
    # 10 pairs: three of them are 0.0, 0.1, 0.2; six hold the four stored ones and two of 1
    assert eps_from_share(pairs_at(5, pairs), rho=0.3) == pytest.approx(0.1)
    assert eps_from_share(pairs_at(5, pairs), rho=0.6) == pytest.approx((0.7 + 2) / 6)


@settings(max_examples=30)
@given(seed=st.integers(0, 999), rho=st.floats(0.01, 1), at_a_time=st.sampled_from([1, 40, 10**6]))
def test_eps_equals_a_full_sort_however_many_entries_are_read_at_a_time(seed, rho, at_a_time):
    draw = np.random.default_rng(seed)
    table = np.triu(np.minimum(2 * draw.random((20, 20)), 1), 1)
    table += table.T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density, "ENTRIES_AT_A_TIME", at_a_time)
        found = eps_from_share(sparse_of(table), rho)
    assert found == pytest.approx(np.sort(table[np.triu_indices(20, 1)])[: round(rho * 190)].mean())


@pytest.mark.parametrize(("rho", "total"), [(1.6e-3, 10), (0.0, 50), (1.1, 50), (0.5, 1)])
def test_a_share_that_holds_no_pair_is_refused_with_the_way_on(rho, total):
    with pytest.raises(ValueError, match=f"rho={rho} of the pairs of {total} points .* give dbscan a fixed eps"):
        eps_from_share(pairs_at(total, {}), rho)
