"""Affinity propagation over neighbors against the dense one, and the graph it runs on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from lightning_reid.clustering import affinity_propagation, sparse_affinity_propagation
from lightning_reid.clustering.sparse_affinity_propagation import SimilarityGraph, graph_of_similarity, similarity_graph


def drawn(total, dim=4, seed=0, dtype=torch.float64):
    return torch.randn(total, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(points):
    return -torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()


@settings(max_examples=30)
@given(total=st.integers(2, 30), k=st.integers(1, 12), copies=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_graph_holds_the_nearest_of_every_point_in_both_directions(total, k, copies, seed):
    points = drawn(total, seed=seed).repeat(copies, 1)
    graph = similarity_graph(points, k)
    rows, columns = graph.rows, graph.columns
    table = dense(points)
    torch.testing.assert_close(graph.similarities, table[rows, columns], atol=1e-12, rtol=0)
    assert (rows != columns).all()
    assert (columns[graph.reverse].equal(rows), rows[graph.reverse].equal(columns)) == (True, True)
    assert graph.similarities[graph.reverse].equal(graph.similarities)
    keys = rows * graph.total + columns
    assert (keys.diff() > 0).all()
    taken = min(k, len(points) - 1)
    assert len(columns) <= 2 * taken * len(points)
    kth = table.fill_diagonal_(-torch.inf).topk(taken, dim=1).values[:, -1]
    for row in range(len(points)):
        held = graph.similarities[graph.starts[row] : graph.starts[row + 1]]
        assert (held >= kth[row] - 1e-12).sum() >= taken


@settings(max_examples=30)
@given(total=st.integers(2, 30), k=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_graph_of_a_matrix_is_that_of_its_points(total, k, seed):
    points = drawn(total, seed=seed)
    by_matrix, by_points = graph_of_similarity(dense(points), k), similarity_graph(points, k)
    for name in ("starts", "columns", "reverse"):
        assert getattr(by_matrix, name).equal(getattr(by_points, name))
    torch.testing.assert_close(by_matrix.similarities, by_points.similarities, atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_complete_graph_gives_what_the_dense_similarity_gives(seed):
    points = drawn(40 + 15 * seed, seed=seed)
    preference = -4.0 if seed % 2 else -1 - 8 * torch.rand(len(points), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = affinity_propagation(dense(points), preference, damping=0.75)
    found = sparse_affinity_propagation(similarity_graph(points, len(points) - 1), preference, damping=0.75)
    assert found.labels.equal(expected.labels)
    assert found.exemplars.equal(expected.exemplars)
    assert (found.iterations, found.converged) == (expected.iterations, True)


def test_few_neighbors_suffice_where_identities_stand_apart():
    centers = 8 * drawn(25, 16, seed=1, dtype=torch.float32)
    pids = torch.arange(25).repeat_interleave(12)
    points = centers[pids] + drawn(300, 16, seed=2, dtype=torch.float32)
    found = sparse_affinity_propagation(similarity_graph(points, 20), -100.0, damping=0.7)
    assert found.labels.equal(pids)
    assert len(found.exemplars) == 25


def test_a_point_without_an_exemplar_among_its_neighbors_is_one_itself():
    places = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    with pytest.warns(ConvergenceWarning):
        # after one round only the two inner points could be exemplars; they are none yet, the preferred end is
        found = sparse_affinity_propagation(similarity_graph(places, 1), torch.tensor([5.0, -50.0, -50.0, -50.0]), max_iter=1)
    assert found.exemplars.tolist()[0] == 0
    assert (found.labels >= 0).all()
    assert found.labels[found.exemplars].equal(torch.arange(len(found.exemplars)))
    assert found.labels[3] != found.labels[0]  # three steps away along the graph


def test_duplicates_share_a_cluster():
    points = drawn(30, seed=3, dtype=torch.float32).repeat(3, 1)
    found = sparse_affinity_propagation(similarity_graph(points, 12), -4.0, damping=0.7)
    copies = found.labels.view(3, 30)
    assert found.converged
    assert copies[1].equal(copies[0])
    assert copies[2].equal(copies[0])


@pytest.mark.parametrize(("preference", "labels"), [(-1.0, [0, 0, 0, 0]), (0.5, [0, 1, 2, 3])])
def test_equal_points_in_a_complete_graph_are_one_cluster_or_each_its_own(preference, labels):
    assert sparse_affinity_propagation(similarity_graph(torch.ones(4, 2), 3), preference).labels.tolist() == labels


def test_a_run_that_does_not_converge_is_refused_where_the_caller_says_so():
    with pytest.raises(RuntimeError, match="did not converge in 2 iterations"):
        sparse_affinity_propagation(similarity_graph(drawn(20), 5), -4.0, max_iter=2, unconverged="refuse")


def test_without_any_exemplar_every_label_is_minus_one():
    with pytest.warns(ConvergenceWarning, match="has 0 exemplars of 20 points"):
        found = sparse_affinity_propagation(similarity_graph(drawn(20), 5), -1000.0, max_iter=1)
    assert found.labels.tolist() == [-1] * 20
    assert found.exemplars.shape == (0,)


def test_a_graph_of_one_point_or_without_neighbors_is_refused():
    with pytest.raises(ValueError, match="got 1 points and k = 3"):
        similarity_graph(torch.ones(1, 2), 3)
    with pytest.raises(ValueError, match="got 5 points and k = 0"):
        similarity_graph(torch.ones(5, 2), 0)


def test_similarities_and_preferences_that_do_not_fit_are_refused():
    graph = similarity_graph(drawn(5), 2)
    broken = SimilarityGraph(graph.starts, graph.columns, graph.similarities * torch.nan, graph.reverse)
    with pytest.raises(ValueError, match="similarities of the graph hold NaN"):
        sparse_affinity_propagation(broken, -1.0)
    with pytest.raises(ValueError, match=r"one for each of the 5 points, got shape \(4,\)"):
        sparse_affinity_propagation(graph, torch.zeros(4))
