"""The tiled search against a full sort, and what it does with duplicates, groups and bad rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.clustering import nearest_neighbors


def drawn(total, width, seed=0, dtype=torch.float32):
    return torch.randn(total, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=40)
@given(total=st.integers(1, 40), k=st.integers(1, 12), tile=st.integers(1, 50), seed=st.integers(0, 999))
def test_neighbors_equal_a_full_sort_whatever_the_tile(total, k, tile, seed):
    points = drawn(total, 5, seed, torch.float64)
    expected = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square().sort(dim=1)
    indices, distances = nearest_neighbors(points, k, tile=tile)
    found = min(k, total)
    assert indices[:, :found].equal(expected.indices[:, :k])
    torch.testing.assert_close(distances[:, :found], expected.values[:, :k])
    assert (indices[:, found:] == -1).all()
    assert distances[:, found:].isinf().all()


@settings(max_examples=30)
@given(copies=st.integers(2, 30), tile=st.integers(1, 40), k=st.integers(1, 5))
def test_every_point_stands_first_in_its_own_list_among_duplicates(copies, tile, k):
    points = torch.cat([drawn(1, 4).expand(copies, 4), drawn(6, 4, seed=1)])
    indices, distances = nearest_neighbors(points, k, tile=tile)
    assert indices[:, 0].equal(torch.arange(len(points)))
    assert (distances[:, 0] == 0).all()
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_a_group_is_left_out_before_the_nearest_are_taken():
    points = torch.tensor([[0.0], [0.1], [0.2], [3.0], [9.0]])
    indices, distances = nearest_neighbors(points, 2, groups=torch.tensor([0, 0, 0, 1, 1]), tile=2)
    assert indices.tolist() == [[3, 4], [3, 4], [3, 4], [2, 1], [2, 1]]
    torch.testing.assert_close(distances[0], torch.tensor([9.0, 81.0]))


def test_lists_of_a_group_without_enough_others_are_padded():
    indices, distances = nearest_neighbors(torch.eye(3), 2, groups=torch.tensor([0, 0, 1]))
    assert indices.tolist() == [[2, -1], [2, -1], [0, 1]] or indices.tolist() == [[2, -1], [2, -1], [1, 0]]
    assert distances[0].tolist() == [2.0, float("inf")]


@pytest.mark.parametrize(
    ("given", "returned"), [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_sixteen_bit_embeddings_are_searched_in_float32(given, returned):
    points = drawn(8, 4).to(given).requires_grad_()
    before = points.detach().clone()
    indices, distances = nearest_neighbors(points, 3)
    assert (indices.dtype, distances.dtype, distances.requires_grad) == (torch.int64, returned, False)
    assert points.equal(before)


def test_no_points_have_no_neighbors():
    indices, distances = nearest_neighbors(torch.empty(0, 8), 4)
    assert indices.shape == distances.shape == (0, 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_rows_that_cannot_be_measured_are_counted_and_the_first_is_named(bad):
    points = torch.ones(9, 2)
    points[4, 1] = points[7, 0] = bad
    with pytest.raises(ValueError, match=r"embeddings: 2 of 9 rows .* the first is row 4"):
        nearest_neighbors(points, 2)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (torch.ones(3, 2), {"k": 0}, "k and tile must be at least 1, got 0 and 2048"),
        (torch.ones(3, 2), {"k": 1, "groups": torch.zeros(2)}, r"for each of the 3 embeddings, got shape \(2,\)"),
        (torch.ones(3), {"k": 1}, r"must be \[N, D\] floats, got torch.float32 of shape \(3,\)"),
        (torch.ones(3, 2).long(), {"k": 1}, r"must be \[N, D\] floats, got torch.int64"),
    ],
)
def test_arguments_out_of_range_are_refused(points, options, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(points, **options)
