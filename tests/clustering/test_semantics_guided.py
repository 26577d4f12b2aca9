"""The ranking of eq. 3.2 by hand, the search of p* on identities that can and cannot be told apart, and SG-AP as a whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.clustering import affinity_propagation, semantics_guided_affinity_propagation
from lightning_reid.clustering.affinity_propagation import AffinityPropagation
from lightning_reid.clustering.preference_search import PreferenceSearch, Probe, search_preference
from lightning_reid.clustering.semantics_guided import semantics_guided_preference
from lightning_reid.clustering.similarity_ranking import embedding_ranking, similarity_ranking


def identities(num, each, spread=0.5, seed=0, dim=16):
    """``num * each`` embeddings around as many centers, and their identities."""
    draw = torch.Generator().manual_seed(seed)
    pids = torch.arange(num).repeat_interleave(each)
    return torch.randn(num, dim, generator=draw)[pids] + spread * torch.randn(num * each, dim, generator=draw), pids


def minus_distances(points):
    return -torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()


def test_ranking_equals_hand_computed_values():
    places = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    # sums over the others: -1 - 9 = -10, -1 - 4 = -5, -9 - 4 = -13; together -28, times N = 3
    torch.testing.assert_close(similarity_ranking(minus_distances(places)), torch.tensor([30, 15, 39], dtype=torch.float64) / 28)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), total=st.integers(2, 30), diagonal=st.floats(-5, 5))
def test_ranking_has_mean_one_and_does_not_read_the_diagonal(seed, total, diagonal):
    similarity = minus_distances(torch.randn(total, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    ranking = similarity_ranking(similarity)
    assert ranking.mean().item() == pytest.approx(1)
    torch.testing.assert_close(similarity_ranking(similarity.fill_diagonal_(diagonal)), ranking)


def test_points_that_are_all_equal_rank_alike():
    assert similarity_ranking(torch.zeros(4, 4)).tolist() == [1] * 4


def test_positive_similarities_are_not_ranked():
    similarity = -torch.ones(4, 4)
    similarity[2, 3] = 0.5
    with pytest.raises(ValueError, match="must not be positive off the diagonal, as in row 2"):
        similarity_ranking(similarity)


def test_the_found_preference_gives_as_many_labeled_exemplars_as_identities_from_cold_messages():
    points, pids = identities(30, 8)
    labels = pids[:80]
    similarity = minus_distances(points)
    search = semantics_guided_preference(similarity, labels, damping=0.7)
    assert (search.matched, search.wanted, search.count, search.reason) == (True, 10, 10, "the counts are equal")
    found = affinity_propagation(similarity, similarity_ranking(similarity) * search.preference, damping=0.7)
    assert int((found.exemplars < 80).sum()) == 10
    assert (search.history[-1].preference, search.history[-1].exact, search.history[-1].count) == (search.preference, True, 10)


def test_the_search_starts_at_the_median_of_the_labeled_similarities():
    points, pids = identities(12, 6, spread=1.0)
    similarity = minus_distances(points)
    search = semantics_guided_preference(similarity, pids[:36], damping=0.7)
    levels = similarity[:36, :36][torch.ones(36, 36).triu(1).bool()].sort().values
    assert search.history[0].preference == levels[(len(levels) - 1) // 2].item()
    assert all(probe.preference in levels for probe in search.history)


def test_more_clusters_than_identities_lower_the_preference_and_a_count_out_of_reach_is_explained():
    # one identity in two places far apart: even the lowest similarity as a preference leaves an exemplar in each
    places, _ = identities(2, 10, spread=0.1)
    search = semantics_guided_preference(minus_distances(20 * places), torch.zeros(20).long(), damping=0.7)
    assert (search.matched, search.wanted) == (False, 1)
    assert search.count > 1
    assert "labeled exemplars" in search.reason
    lower = [probe.preference for probe in search.history if not probe.exact]
    assert lower == sorted(lower, reverse=True)
    assert len(search.history) <= 25
    assert [probe.count for probe in search.history if probe.exact] == [search.count]


def test_a_count_that_falls_where_the_preference_rises_is_reported():
    probes = tuple(Probe(level, count, False, 9, True) for level, count in [(-4.0, 7), (-1.0, 9), (-3.0, 5), (-2.0, 9)])
    exact = Probe(-2.5, 4, True, 9, True)  # an estimate and the run it estimates contradict each other, not the order
    search = PreferenceSearch(-4.0, 7, 7, True, "the counts are equal", (*probes, exact))
    assert search.violations == ((probes[0], probes[2]),)


def counting(curve):
    """Runs whose ``count`` labeled exemplars are ``curve(p)`` of 100 labeled points; their calls are listed."""
    calls = []

    def run(preference: float) -> AffinityPropagation:
        calls.append(preference)
        return AffinityPropagation(torch.zeros(100).long(), torch.arange(curve(preference)), iterations=1, converged=True)

    return run, calls


LEVELS = torch.arange(-400.0, 0.0) / 4


def test_estimates_that_are_right_leave_one_exact_run():
    curve = lambda p: round(400 / (-p) ** 0.5)  # noqa: E731
    exact, exact_calls = counting(curve)
    estimate, estimate_calls = counting(curve)
    search = search_preference(LEVELS, 60, 100, exact, estimate)
    assert (search.matched, search.count, curve(search.preference)) == (True, 60, 60)
    assert exact_calls == [search.preference]
    assert len(estimate_calls) <= 5  # of 400 levels: a bisection makes eight or nine


@settings(max_examples=60)
@given(wanted=st.integers(1, 90), off=st.integers(-6, 6), power=st.floats(0.1, 2))
def test_estimates_that_are_off_by_a_constant_are_corrected_after_the_first_exact_run(wanted, off, power):
    curve = lambda p: max(0, min(100, round(10 * (400 / -p) ** power)))  # noqa: E731
    exact, exact_calls = counting(curve)
    estimate, _ = counting(lambda p: max(0, min(100, curve(p) + off)))
    search = search_preference(LEVELS, wanted, 100, exact, estimate)
    assert search.count == curve(search.preference)
    assert len(exact_calls) <= 2
    assert len(search.history) <= 22
    assert search.matched == (search.count == wanted)
    assert search.reason == "the counts are equal" or not search.matched
    counts = {curve(level) for level in LEVELS.tolist()}
    if wanted in counts and off == 0 and 0 < wanted < 100:
        # where the count hardly changes with p, five equal ones in a row end the search, as section 3.3.4 has it
        assert search.matched or search.reason.startswith("5 probes in a row gave")


def test_a_count_that_is_never_reached_is_explained_after_exact_runs_of_the_nearest():
    exact, exact_calls = counting(lambda p: 20 if p < -50 else 40)
    estimate, _ = counting(lambda p: 20 if p < -50 else 40)
    search = search_preference(LEVELS, 33, 100, exact, estimate)
    assert (search.matched, search.count, len(exact_calls)) == (False, 40, 1)
    assert "5 probes in a row gave" in search.reason or "no similarity of a labeled pair is left" in search.reason


def test_exact_runs_are_bounded():
    exact, exact_calls = counting(lambda p: 7)
    estimate, _ = counting(lambda p: round(-p) % 97)
    search = search_preference(LEVELS, 33, 100, exact, estimate, max_exact=2)
    assert (search.matched, search.count) == (False, 7)
    assert len(exact_calls) <= 2


@settings(max_examples=25)
@given(seed=st.integers(0, 999), total=st.integers(2, 30), shift=st.floats(-20, 20))
def test_the_ranking_of_embeddings_is_that_of_their_similarity(seed, total, shift):
    points = torch.randn(total, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift
    torch.testing.assert_close(embedding_ranking(points), similarity_ranking(minus_distances(points)))


def test_embeddings_that_are_all_equal_rank_alike():
    assert embedding_ranking(torch.ones(4, 3)).tolist() == [1] * 4


def test_neighbors_alone_give_the_clusters_of_all_points():
    points, pids = identities(40, 8, spread=0.4)
    dense, sparse = (
        semantics_guided_affinity_propagation(points[:120], pids[:120], points[120:], damping=0.7, neighbors=k) for k in (None, 30)
    )
    assert sparse.search.matched
    assert sparse.clusters.labels.equal(dense.clusters.labels)
    assert sparse.clusters.exemplars.equal(dense.clusters.exemplars)


def test_one_unlabeled_image_among_neighbors_is_a_cluster_of_its_own():
    points, pids = identities(5, 4)
    found = semantics_guided_affinity_propagation(points[:19], pids[:19], points[19:], damping=0.7, neighbors=6)
    assert (found.clusters.labels.tolist(), found.clusters.exemplars.tolist()) == ([0], [0])
    with pytest.raises(ValueError, match="neighbors must be None or at least 1"):
        semantics_guided_affinity_propagation(points[:19], pids[:19], points[19:], neighbors=0)


def test_everyone_of_the_probes_is_told_with_its_clusters():
    points, pids = identities(12, 6, spread=1.0)
    told = []
    search = semantics_guided_preference(
        minus_distances(points), pids[:36], damping=0.7, on_probe=lambda probe, clusters: told.append((probe, clusters))
    )
    assert tuple(probe for probe, _ in told) == search.history
    assert [int((clusters.exemplars < 36).sum()) for _, clusters in told] == [probe.count for probe, _ in told]
    assert all(clusters.labels.shape == (72,) for _, clusters in told)


def test_an_asymmetric_similarity_is_refused():
    similarity = minus_distances(identities(4, 4)[0])
    similarity[3, 5] *= 2
    with pytest.raises(ValueError, match="similarity must be symmetric: entry"):
        semantics_guided_preference(similarity, torch.arange(8) // 4)


def test_unlabeled_images_are_clustered_by_identity():
    points, pids = identities(40, 8, spread=0.4)
    found = semantics_guided_affinity_propagation(points[:120], pids[:120], points[120:], damping=0.7)
    assert found.search.matched
    assert found.clusters.labels.equal(pids[120:] - 15)
    assert (pids[120:][found.clusters.exemplars] - 15).equal(torch.arange(25))


def test_the_same_input_gives_the_same_search():
    points, pids = identities(20, 6, spread=1.0)
    first, second = (semantics_guided_affinity_propagation(points[:60], pids[:60], points[60:], damping=0.7) for _ in range(2))
    assert first.search == second.search
    assert first.clusters.labels.equal(second.clusters.labels)


def test_one_unlabeled_image_is_a_cluster_of_its_own():
    points, pids = identities(5, 4)
    found = semantics_guided_affinity_propagation(points[:19], pids[:19], points[19:], damping=0.7)
    assert (found.clusters.labels.tolist(), found.clusters.exemplars.tolist()) == ([0], [0])


def test_no_unlabeled_image_is_refused():
    points, pids = identities(3, 4)
    with pytest.raises(ValueError, match="no unlabeled points to cluster"):
        semantics_guided_affinity_propagation(points, pids, points[:0])


def test_embeddings_that_are_not_finite_are_named():
    points, pids = identities(4, 4)
    points[9, 3] = torch.nan
    with pytest.raises(ValueError, match="unlabeled: 1 of 8 rows hold NaN"):
        semantics_guided_affinity_propagation(points[:8], pids[:8], points[8:])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(1).long(), r"two or more of the 6 points, the first ones, got shape \(1,\)"),
        (torch.zeros(7).long(), r"two or more of the 6 points, the first ones, got shape \(7,\)"),
        (torch.tensor([0, -1, 1]), "identities from 0 on, 1 of 3 are negative"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        semantics_guided_preference(minus_distances(identities(3, 2)[0]), labels)


def test_lengths_and_widths_that_differ_are_refused():
    points, pids = identities(4, 4)
    with pytest.raises(ValueError, match=r"must be \[N_l, D\], \[N_l\] and \[N_u, D\], got \(8, 16\), \(7,\), \(8, 16\)"):
        semantics_guided_affinity_propagation(points[:8], pids[:7], points[8:])


@pytest.mark.parametrize("neighbors", [None, 12])
def test_labeled_points_that_are_clustered_with_the_others_have_the_exemplars_that_the_search_counted(neighbors):
    generator = torch.Generator().manual_seed(0)
    centers = 6 * torch.randn(12, 4, generator=generator).repeat_interleave(8, 0)
    points = (centers + torch.randn(96, 4, generator=generator)).double()
    labels = torch.arange(4).repeat_interleave(8)
    found = semantics_guided_affinity_propagation(points[:32], labels, points[32:], with_labeled=True, neighbors=neighbors)
    assert len(found.clusters.labels) == 96
    assert int((found.clusters.exemplars < 32).sum()) == found.search.count == 4
    alone = semantics_guided_affinity_propagation(points[:32], labels, points[32:], neighbors=neighbors)
    assert len(alone.clusters.labels) == 64
    assert alone.search == found.search
