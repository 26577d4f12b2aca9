"""Affinity propagation against scikit-learn, against a slow version with every message stored, and where it is told nothing useful."""

import warnings
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AffinityPropagation as ByScikitLearn
from sklearn.exceptions import ConvergenceWarning

from lightning_reid.clustering import affinity_propagation
from lightning_reid.clustering.message_passing import MessagePassing
from lightning_reid.clustering.similarity_ranking import similarity_ranking


def drawn_similarity(seed, total, dim=4):
    points = torch.randn(total, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()


def drawn_preferences(seed, similarity):
    """One for each point: drawn in odd problems, those of eq. 3.3 in even ones. Among them no two exemplars fit equally well."""
    if seed % 2 == 0:
        return similarity_ranking(similarity) * similarity.median() * (0.3, 1, 4)[seed % 3]
    return -1 - 8 * torch.rand(len(similarity), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_scikit_learn(similarity, preference, damping):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ByScikitLearn(affinity="precomputed", random_state=0, preference=np.asarray(preference), damping=damping).fit(
            similarity.numpy()
        )


def assert_same_as_scikit_learn(seed, total, damping):
    similarity = drawn_similarity(seed, total)
    preferences = drawn_preferences(seed, similarity)
    expected = by_scikit_learn(similarity, preferences, damping)
    found = affinity_propagation(similarity, preferences, damping=damping)
    assert found.converged
    assert found.exemplars.tolist() == expected.cluster_centers_indices_.tolist()
    assert found.labels.tolist() == expected.labels_.tolist()
    assert found.iterations == expected.n_iter_


@pytest.mark.parametrize("seed", range(19))
def test_exemplars_labels_and_iterations_equal_scikit_learn(seed):
    assert_same_as_scikit_learn(seed, total=50 + 30 * seed, damping=(0.6, 0.75, 0.9)[seed % 3])


@pytest.mark.slow
def test_exemplars_equal_scikit_learn_on_two_thousand_points():
    assert_same_as_scikit_learn(1, total=2000, damping=0.7)


@pytest.mark.parametrize("seed", range(6))
def test_with_one_preference_only_exemplars_that_fit_equally_well_differ_from_scikit_learn(seed):
    # either of a cluster of two is as good an exemplar: there scikit-learn's noise decides, here the lower index
    similarity = drawn_similarity(seed, 150)
    preference = float(similarity.median())
    expected = by_scikit_learn(similarity, preference, 0.75)
    found = affinity_propagation(similarity, preference, damping=0.75)
    full = similarity.clone()
    full.diagonal().copy_(preference)
    assert len(found.exemplars) == len(expected.cluster_centers_indices_)
    for cluster, exemplar in enumerate(found.exemplars.tolist()):
        members = (found.labels == cluster).nonzero().flatten()
        theirs = expected.cluster_centers_indices_[expected.labels_[exemplar]]
        assert theirs in members
        torch.testing.assert_close(full[members, exemplar].sum(), full[members, theirs].sum(), rtol=0, atol=1e-9)


def slow_exemplars(similarity, preference, damping, iterations):
    """Frey and Dueck's equations, all three matrices stored: who is an exemplar, and the availabilities."""
    total = len(similarity)
    s = similarity.clone()
    s.diagonal().copy_(preference)
    a, r = torch.zeros_like(s), torch.zeros_like(s)
    for _ in range(iterations):
        new = torch.empty_like(s)
        for k in range(total):
            others = (a + s)[:, [j for j in range(total) if j != k]]
            new[:, k] = s[:, k] - others.max(1).values
        r = damping * r + (1 - damping) * new
        for k in range(total):
            positive = r[:, k].clamp(min=0)
            positive[k] = 0
            new[:, k] = (r[k, k] + positive.sum() - positive).clamp(max=0)
            new[k, k] = positive.sum()
        a = damping * a + (1 - damping) * new
    return (a + r).diagonal() > 0, a


@settings(max_examples=25)
@given(seed=st.integers(0, 999), total=st.integers(3, 30), damping=st.sampled_from([0.5, 0.7, 0.9]), iterations=st.integers(1, 30))
def test_messages_equal_the_equations_with_every_matrix_stored(seed, total, damping, iterations):
    similarity = drawn_similarity(seed, total, dim=2)
    preference = drawn_preferences(seed, similarity)
    messages = MessagePassing(similarity)
    options = {"damping": damping, "convergence_iter": 99}
    outcome = messages.run(preference, max_iter=iterations, **options)
    is_exemplar, availability = slow_exemplars(similarity, preference, damping, iterations)
    assert outcome.is_exemplar.equal(is_exemplar)
    messages.run(preference, max_iter=1, **options)  # the pass of the next iteration writes the availabilities of this one
    off_diagonal = ~torch.eye(total, dtype=torch.bool)
    torch.testing.assert_close(messages.availability[off_diagonal], availability[off_diagonal], rtol=0, atol=1e-11)


def test_messages_do_not_depend_on_how_many_rows_are_worked_on_at_a_time(monkeypatch):
    similarity = drawn_similarity(0, 70)
    whole = affinity_propagation(similarity, -3.0, damping=0.8)
    monkeypatch.setattr("lightning_reid.clustering.message_passing.ENTRIES_AT_A_TIME", {"cpu": 200})
    # by its module: as an attribute of the package the name is the function
    monkeypatch.setattr(import_module("lightning_reid.clustering.affinity_propagation"), "ENTRIES_AT_A_TIME", 200)
    parts = affinity_propagation(similarity, -3.0, damping=0.8)
    assert parts.labels.equal(whole.labels)
    assert parts.exemplars.equal(whole.exemplars)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_middle_of_each_group_on_a_line_is_its_exemplar(dtype):
    places = torch.tensor([10.0, 11, 12, 0, 1, 2], dtype=dtype)
    similarity = -(places[:, None] - places).square()
    before = similarity.clone()
    found = affinity_propagation(similarity, -20.0)
    # two exemplars cost 2 * 20 + 4 * 1; one would cost 20 + 3 * 100 and more; the ends of a group have 1 + 4 where the middle has 1 + 1
    assert found.exemplars.tolist() == [1, 4]
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (found.converged, found.labels.dtype, found.exemplars.dtype) == (True, torch.int64, torch.int64)
    assert similarity.equal(before)


def test_float32_finds_the_clusters_of_float64():
    draw = torch.Generator().manual_seed(0)
    centers = torch.randn(20, 32, generator=draw, dtype=torch.float64)
    points = centers[torch.randint(20, (300,), generator=draw)] + 0.3 * torch.randn(300, 32, generator=draw, dtype=torch.float64)
    similarity = -torch.cdist(points, points).square()
    precise, single = (affinity_propagation(part, float(similarity.median()), damping=0.7) for part in (similarity, similarity.float()))
    assert single.labels.equal(precise.labels)
    assert len(precise.exemplars) == 20


@settings(max_examples=30)
@given(seed=st.integers(0, 999), total=st.integers(1, 40), level=st.floats(-30, -0.1))
def test_every_point_joins_its_nearest_exemplar_and_exemplars_join_themselves(seed, total, level):
    similarity = drawn_similarity(seed, total, dim=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = affinity_propagation(similarity, level, damping=0.7)
    if not len(found.exemplars):
        assert not found.converged
        assert (found.labels == -1).all()
        return
    assert found.labels[found.exemplars].equal(torch.arange(len(found.exemplars)))
    nearest = similarity[:, found.exemplars].argmax(1)
    others = torch.ones(total, dtype=torch.bool).index_fill_(0, found.exemplars, False)
    assert found.labels[others].equal(nearest[others])


def test_duplicates_share_a_cluster_and_do_not_keep_the_messages_from_settling():
    similarity = drawn_similarity(3, 40).repeat(3, 3)  # every point three times
    found = affinity_propagation(similarity, -4.0, damping=0.7)
    copies = found.labels.view(3, 40)
    assert found.converged
    assert copies[1].equal(copies[0])
    assert copies[2].equal(copies[0])
    assert 1 < len(found.exemplars) < 40


def test_pairs_that_would_oscillate_for_ever_settle_because_their_ties_are_broken():
    places = torch.tensor([0.0, 1.0, 100.0, 101.0], dtype=torch.float64)
    similarity = -(places[:, None] - places).square()
    options = {"damping": 0.5, "max_iter": 1000, "convergence_iter": 15}
    assert not MessagePassing(similarity).run(torch.full((4,), -9.0, dtype=torch.float64), **options).converged
    found = affinity_propagation(similarity, -9.0, **options)
    assert (found.converged, found.exemplars.tolist(), found.labels.tolist()) == (True, [0, 2], [0, 0, 1, 1])


@pytest.mark.parametrize(("preference", "exemplars", "labels"), [(-1.0, [0], [0, 0, 0, 0]), (0.5, [0, 1, 2, 3], [0, 1, 2, 3])])
def test_equal_points_are_one_cluster_or_each_its_own(preference, exemplars, labels):
    found = affinity_propagation(torch.zeros(4, 4), preference)
    assert (found.exemplars.tolist(), found.labels.tolist()) == (exemplars, labels)
    assert (found.converged, found.iterations) == (True, 0)


def test_equal_points_of_different_preferences_gather_around_the_highest():
    found = affinity_propagation(torch.zeros(5, 5), torch.tensor([-3.0, -3.0, -1.0, -3.0, -3.0]), damping=0.7)
    assert found.labels.tolist() == [0] * 5


def test_one_point_is_its_own_cluster():
    found = affinity_propagation(torch.zeros(1, 1), -7.0)
    assert (found.exemplars.tolist(), found.labels.tolist(), found.converged) == ([0], [0], True)


@pytest.mark.parametrize(("preference", "exemplars"), [([-9.0, -8.0], [1]), ([-1.0, -2.0], [0, 1])])
def test_two_points_join_where_an_exemplar_costs_more_than_the_distance(preference, exemplars):
    found = affinity_propagation(torch.tensor([[0.0, -5.0], [-5.0, 0.0]]), torch.tensor(preference))
    assert found.exemplars.tolist() == exemplars


def test_a_run_from_the_messages_of_another_preference_ends_where_a_cold_run_ends():
    draw = torch.Generator().manual_seed(1)
    points = 6 * torch.randn(12, 8, generator=draw)[torch.arange(120) % 12] + torch.randn(120, 8, generator=draw)
    similarity = -torch.cdist(points, points).square()
    messages = MessagePassing(similarity)
    first = affinity_propagation(similarity, -60.0, damping=0.7, start=messages)
    warm = affinity_propagation(similarity, -90.0, damping=0.7, start=messages)
    cold = affinity_propagation(similarity, -90.0, damping=0.7)
    assert warm.labels.equal(cold.labels)
    assert warm.iterations < cold.iterations
    messages.reset()
    again = affinity_propagation(similarity, -60.0, damping=0.7, start=messages)
    assert (again.iterations, again.exemplars.tolist()) == (first.iterations, first.exemplars.tolist())


def test_a_run_that_does_not_converge_is_named_and_its_last_state_returned():
    with pytest.warns(ConvergenceWarning, match=r"did not converge in 12 iterations, its last state has \d+ exemplars of 60 points"):
        found = affinity_propagation(drawn_similarity(0, 60), -4.0, max_iter=12)
    assert (found.converged, found.iterations) == (False, 12)
    assert len(found.exemplars)
    assert (found.labels >= 0).all()


def test_a_run_that_does_not_converge_is_refused_where_the_caller_says_so():
    with pytest.raises(RuntimeError, match="did not converge in 12 iterations"):
        affinity_propagation(drawn_similarity(0, 60), -4.0, max_iter=12, unconverged="refuse")


def test_without_any_exemplar_every_label_is_minus_one():
    with pytest.warns(ConvergenceWarning, match="has 0 exemplars of 10 points"):
        found = affinity_propagation(drawn_similarity(0, 10), -1000.0, max_iter=1)
    assert found.labels.tolist() == [-1] * 10
    assert found.exemplars.shape == (0,)


def test_asymmetric_similarities_are_taken_on_request_only():
    similarity = drawn_similarity(0, 20)
    similarity[2, 5] -= 1
    with pytest.raises(ValueError, match=r"similarity must be symmetric: entry \(2, 5\) is .*asymmetric=True"):
        affinity_propagation(similarity, -3.0)
    preferences = drawn_preferences(1, similarity)
    expected = by_scikit_learn(similarity, preferences, 0.7)
    assert affinity_propagation(similarity, preferences, damping=0.7, asymmetric=True).labels.tolist() == expected.labels_.tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_similarities_that_are_not_finite_are_counted_and_the_first_row_named(bad):
    similarity = drawn_similarity(0, 9)
    similarity[4, 1] = similarity[7, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinity in 2 of 9 rows, the first is row 4"):
        affinity_propagation(similarity, -1.0)


@pytest.mark.parametrize(
    ("similarity", "preference", "options", "message"),
    [
        (torch.zeros(3, 2), -1.0, {}, r"must be \[N, N\] of N >= 1 points, got shape \(3, 2\)"),
        (torch.zeros(0, 0), -1.0, {}, r"N >= 1 points, got shape \(0, 0\)"),
        (torch.zeros(3, 3).long(), -1.0, {}, "float32 or float64, got torch.int64"),
        (torch.zeros(3, 3), torch.zeros(2), {}, r"one for each of the 3 points, got shape \(2,\)"),
        (torch.zeros(3, 3), float("nan"), {}, "preference holds NaN or infinity: 1 of 1"),
        (torch.zeros(3, 3), -1.0, {"damping": 0.4}, r"damping must be in \[0.5, 1\), got 0.4"),
        (torch.zeros(3, 3), -1.0, {"damping": 1.0}, r"damping must be in \[0.5, 1\), got 1.0"),
        (torch.zeros(3, 3), -1.0, {"max_iter": 0}, "must be at least 1, got 0 and 15"),
        (torch.zeros(3, 3), -1.0, {"unconverged": "ignore"}, '"keep" or "refuse", got \'ignore\''),
        (torch.zeros(3, 3), -1.0, {"start": MessagePassing(torch.zeros(3, 3))}, "the messages of another similarity"),
    ],
)
def test_arguments_out_of_range_are_refused(similarity, preference, options, message):
    with pytest.raises(ValueError, match=message):
        affinity_propagation(similarity, preference, **options)
