"""The sparse k-reciprocal Jaccard distance against the published pipelines' numbers and a plain float64 version."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.clustering import dbscan, jaccard_distance, weight_overlap

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "jaccard.npz")


def dense(distance):
    """Absent entries are 1."""
    table = np.ones(distance.shape)
    entries = distance.tocoo()
    table[entries.row, entries.col] = entries.data
    return table


def plain_jaccard(points, k1, k2):
    """Sets and loops, as the text of the method reads."""
    points, total = points.double(), len(points)
    squared = (points[:, None] - points[None]).square().sum(2).numpy()
    ranked = np.argsort(squared, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in ranked[i, :k] if i in ranked[j, :k]}

    weights = np.zeros((total, total))
    for i in range(total):
        core = reciprocal(i, k1)
        expanded = set(core)
        for j in core:
            candidates = reciprocal(j, round(k1 / 2) + 1)
            if len(candidates & core) > 2 / 3 * len(candidates):
                expanded |= candidates
        near = sorted(expanded)
        weights[i, near] = np.exp(-squared[i, near]) / np.exp(-squared[i, near]).sum()
    weights = np.stack([weights[ranked[i, :k2]].mean(0) for i in range(total)])
    common = np.minimum(weights[:, None], weights[None]).sum(2)
    return np.maximum(1 - common / (2 - common), 0)


def clustered_points(total, width, seed, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    centers = torch.randn(max(1, total // 8), width, generator=draw, dtype=dtype)
    own = torch.randint(len(centers), (total,), generator=draw)
    return centers[own] + 0.4 * torch.randn(total, width, generator=draw, dtype=dtype)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith(("openunreid", "spcl"))])
def test_distance_equals_the_published_pipelines(name):
    _, scale, k1, k2 = name.split("_")
    distance = jaccard_distance(torch.from_numpy(GOLDEN[f"feat_{scale}"]), int(k1[1:]), int(k2))
    np.testing.assert_allclose(dense(distance), GOLDEN[name], rtol=0, atol=1e-5)


@settings(max_examples=25)
@given(total=st.integers(1, 60), k1=st.integers(1, 35), share=st.floats(0, 1), seed=st.integers(0, 999), unit=st.booleans())
def test_distance_equals_the_plain_algorithm_also_with_fewer_points_than_neighbors(total, k1, share, seed, unit):
    points = clustered_points(total, 6, seed, torch.float64)
    points, k2 = F.normalize(points) if unit else points, max(1, round(share * k1))
    distance = jaccard_distance(points, k1, k2)
    assert distance.dtype == np.float64
    np.testing.assert_allclose(dense(distance), plain_jaccard(points, k1, k2), rtol=0, atol=1e-9)


def test_float32_stays_within_1e_5_of_the_plain_algorithm_and_is_returned():
    points = F.normalize(clustered_points(300, 64, seed=5))
    distance = jaccard_distance(points, 20, 6)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(dense(distance), plain_jaccard(points, 20, 6), rtol=0, atol=1e-5)


@pytest.mark.parametrize("terms", [1, 50, 10**9])
def test_distance_does_not_depend_on_how_many_rows_are_worked_on_at_a_time(terms, monkeypatch):
    points = clustered_points(80, 6, seed=1)
    whole = dense(jaccard_distance(points, 10, 3))
    monkeypatch.setattr(weight_overlap, "TERMS_IN_FLIGHT", terms)
    np.testing.assert_array_equal(dense(jaccard_distance(points, 10, 3)), whole)


def test_distance_is_symmetric_to_the_last_bit_with_a_stored_zero_diagonal():
    distance = jaccard_distance(clustered_points(200, 6, seed=2), 15, 4)
    assert (distance != distance.T).nnz == 0
    entries = distance.tocoo()
    assert sorted(entries.row[(entries.row == entries.col) & (entries.data == 0)]) == list(range(200))
    assert entries.data.min() >= 0
    assert entries.data.max() <= 1


@settings(max_examples=25)
@given(seed=st.integers(0, 999))
def test_distance_follows_a_permutation_of_the_points(seed):
    points, order = clustered_points(50, 6, seed, torch.float64), torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    table = dense(jaccard_distance(points, 12, 4))
    np.testing.assert_allclose(dense(jaccard_distance(points[order], 12, 4)), table[np.ix_(order, order)], atol=1e-9)


def test_pairs_without_common_surroundings_are_not_stored():
    far_apart = torch.cat([torch.zeros(8, 2), torch.full((8, 2), 50.0)]) + torch.rand(16, 2, generator=torch.Generator().manual_seed(0))
    distance = jaccard_distance(far_apart, 6, 2)
    assert distance[:8, 8:].nnz == 0


def test_distances_above_the_largest_wanted_are_not_stored_and_the_labels_stay():
    points = clustered_points(150, 6, seed=7)
    whole, near = jaccard_distance(points, 12, 4), jaccard_distance(points, 12, 4, max_distance=0.5)
    table = dense(whole)
    np.testing.assert_array_equal(dense(near), np.where(table <= 0.5, table, 1))
    assert near.nnz == (table <= 0.5).sum()
    assert dbscan(near, 0.5).equal(dbscan(whole, 0.5))


def test_duplicates_stay_stored_and_cluster():
    points = torch.cat([torch.randn(1, 8).expand(5, 8), 9 + 5 * torch.randn(40, 8, generator=torch.Generator().manual_seed(3))])
    distance = jaccard_distance(points, 5, 1)
    assert distance[:5, :5].nnz == 25
    np.testing.assert_allclose(distance[:5, :5].toarray(), 0, atol=1e-6)
    assert dbscan(distance, eps=0.01, min_samples=4)[:5].tolist() == [0] * 5


def test_embeddings_that_are_all_the_same_are_near_each_other():
    distance = jaccard_distance(torch.ones(50, 4))
    assert distance.nnz == 50 * 50
    assert distance.data.max() < 0.5


def test_huge_and_tiny_lengths_give_finite_distances():
    for scale in (1e15, 1e-15):
        values = jaccard_distance(scale * clustered_points(40, 6, seed=4), 8, 3).data
        assert np.isfinite(values).all()


def test_one_point_is_at_no_distance_from_itself_and_no_points_make_an_empty_matrix():
    assert jaccard_distance(torch.ones(1, 3)).toarray().tolist() == [[0]]
    assert jaccard_distance(torch.ones(1, 3)).nnz == 1
    assert jaccard_distance(torch.empty(0, 3)).shape == (0, 0)


def test_arguments_are_left_as_they_were():
    points = clustered_points(30, 6, seed=6)
    before = points.clone()
    jaccard_distance(points, 5, 2)
    assert points.equal(before)


def test_nan_embeddings_are_counted_and_the_first_is_named():
    points = torch.ones(4, 2)
    points[2] = torch.nan
    with pytest.raises(ValueError, match=r"1 of 4 rows hold NaN, .* the first is row 2"):
        jaccard_distance(points)


def test_a_largest_distance_above_1_is_refused():
    with pytest.raises(ValueError, match=r"max_distance must be a number in \[0, 1\], got 1.5"):
        jaccard_distance(torch.ones(4, 2), max_distance=1.5)


@pytest.mark.parametrize(("k1", "k2"), [(0, 0), (5, 6), (5, 0)])
def test_list_lengths_out_of_order_are_refused(k1, k2):
    with pytest.raises(ValueError, match=r"k[12] must be a whole number"):
        jaccard_distance(torch.ones(4, 2), k1, k2)
