"""What a cosine says about who is seen: fitted on some people, scored on others, each of whom weighs the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import exp, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.metrics import Calibration, calibrate_similarity, probability_of, verdict_of
from lightning_reid.metrics.calibrating import fit_evidence, lowest_thresholds, plan_calibration, reliability, share_beyond
from lightning_reid.metrics.calibration import ReliabilityBin, Threshold, expected_calibration_error
from lightning_reid.metrics.labeled_pairs import Pairs, labeled_pairs, people_interval


def people(number: int, images: int = 4, *, cameras: int = 2, noise: float = 0.8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings that lie about a point of each person's own, with pids from 1 and the cameras in turn."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(number, 16, generator=generator)
    pids = torch.arange(1, number + 1).repeat_interleave(images)
    embeddings = centers[pids - 1] + noise * torch.randn(len(pids), 16, generator=generator)
    return embeddings, pids, torch.arange(len(pids)) % cameras


def threshold(rate: float, similarity: float) -> Threshold:
    return Threshold(rate, similarity, (similarity, similarity), rate, (0.0, 1.0), 0.9, (0.0, 1.0))


BY_HAND = Calibration(
    model="a network at 8x4",
    data="by hand",
    people=(10, 10),
    genuine=10,
    impostor=100,
    cameras=2,
    seed=0,
    similarities=(0.0, 0.5, 0.75),
    evidence=(-log(3), 0.0, log(9)),
    match=(threshold(0.1, 0.6), threshold(0.01, 0.7)),
    non_match=(threshold(0.1, 0.5),),
    bins=(),
)


def test_the_evidence_is_interpolated_held_beyond_the_ends_and_added_to_the_prior():
    cosines = torch.tensor([[-1.0, 0.0, 0.25], [0.5, 0.75, 1.0]])
    # odds 1/3, 1/3, sqrt(1/3), 1, 9, 9
    by_hand = torch.tensor([[1 / 4, 1 / 4, 3**-0.5 / (1 + 3**-0.5)], [1 / 2, 9 / 10, 9 / 10]], dtype=torch.float64)
    torch.testing.assert_close(probability_of(cosines, BY_HAND), by_hand)
    # with one in ten the odds are a ninth of that
    torch.testing.assert_close(probability_of(torch.tensor(0.9), BY_HAND, prior=0.1), torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize(("cosine", "verdict"), [(0.71, "same"), (0.7, "unknown"), (0.5, "unknown"), (0.49, "different")])
def test_between_the_thresholds_the_verdict_is_unknown(cosine, verdict):
    assert verdict_of(cosine, BY_HAND) == verdict  # at 0.01 for matches, and 0.1, the least there is above it, for others
    assert verdict_of(0.65, BY_HAND, false_match_rate=0.1) == "same"


def test_between_thresholds_that_cross_it_is_unknown_too():
    crossed = replace(BY_HAND, non_match=(threshold(0.01, 0.8),))
    assert [verdict_of(cosine, crossed) for cosine in (0.69, 0.75, 0.81)] == ["different", "unknown", "same"]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: verdict_of(0.5, BY_HAND, false_match_rate=0.001), r"no threshold at a false match rate of 0\.001: it has 0\.1, 0\.01"),
        (lambda: verdict_of(0.5, replace(BY_HAND, non_match=())), "false non-match rate of 0.01: it has none"),
        (lambda: verdict_of(float("nan"), BY_HAND), "similarity must be a number"),
        (lambda: probability_of(torch.tensor([0.0, float("nan")]), BY_HAND), "one is out of range or NaN"),
        (lambda: probability_of(torch.tensor([1.1]), BY_HAND), "cosines in"),
        (lambda: probability_of(torch.tensor([0.1]), BY_HAND, prior=1.0), "prior must be a number"),
        (lambda: replace(BY_HAND, evidence=(0.0, 1.0, 0.5)), "the evidence must not fall"),
        (lambda: replace(BY_HAND, similarities=(0.0, 0.5, 0.5)), "similarities must rise"),
        (lambda: replace(BY_HAND, evidence=(0.0, 1.0, float("inf"))), "evidence must be a number"),
        (lambda: replace(BY_HAND, match=(threshold(0.1, 0.5), threshold(0.1, 0.6))), "two thresholds at one rate"),
        (lambda: replace(BY_HAND.match[0], realized_interval=(0.5, 0.4)), "realized_interval must not fall"),
    ],
)
def test_what_cannot_be_answered_is_refused(ask, told):
    with pytest.raises(ValueError, match=told):
        ask()


@pytest.mark.parametrize("across", [True, False])
def test_pairs_and_their_weights_are_those_of_a_loop_over_all_images(across):
    embeddings, pids, camids = people(4, images=3)
    embeddings, pids, camids = embeddings[:-1], pids[:-1], camids[:-1]  # one has fewer than the others
    directions = F.normalize(embeddings.double(), dim=1)
    slow: dict[bool, list[tuple[int, int, float]]] = {True: [], False: []}
    for i, j in combinations(range(len(pids)), 2):
        if not across or camids[i] != camids[j]:
            one, other = int(pids[i]), int(pids[j])
            slow[one == other].append((one - 1, other - 1, float(directions[i] @ directions[j])))
    for pairs, same in zip(labeled_pairs(embeddings, pids, camids if across else None), (True, False), strict=True):
        counts = [[two[:2] for two in slow[same]].count(one[:2]) for one in slow[same]]
        weights = np.divide(1, counts) / len({one[:2] for one in slow[same]})
        expected = sorted((*one, weight) for one, weight in zip(slow[same], weights, strict=True))
        found = sorted(zip(*(part.tolist() for part in (pairs.left, pairs.right, pairs.similarities, pairs.weights)), strict=True))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert pairs.total == len(expected)


@pytest.mark.parametrize("most", [1000, 30])
def test_the_order_of_the_rows_changes_no_pair_not_even_where_some_are_drawn(most):
    rows = people(6, images=5)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    for one, other in zip(labeled_pairs(*rows, most=most), labeled_pairs(*(part[order] for part in rows), most=most), strict=True):
        torch.testing.assert_close(one.similarities.sort().values, other.similarities.sort().values)
        assert torch.equal(torch.stack([one.left, one.right]), torch.stack([other.left, other.right]))


def test_of_too_many_pairs_some_are_drawn_of_everybody():
    embeddings, pids, camids = people(10, images=30)
    genuine, impostor = labeled_pairs(embeddings, pids, camids, most=400)
    assert (genuine.total, impostor.total) == (10 * 15 * 15, 45 * 2 * 15 * 15)
    assert 0 < len(genuine.left) <= 400
    assert 0 < len(impostor.left) <= 400
    assert genuine.left.unique().tolist() == list(range(10))
    assert len(torch.stack([impostor.left, impostor.right]).unique(dim=1)[0]) == 45
    everything = F.normalize(embeddings, dim=1).double()
    assert torch.isclose((everything @ everything.T).flatten()[:, None], impostor.similarities[:20], atol=1e-6).any(0).all()


def test_many_images_of_one_person_change_nothing():
    embeddings, pids, camids = people(6)
    times = torch.where(pids == 3, 7, 1)
    more = (part.repeat_interleave(times, dim=0) for part in (embeddings, pids, camids))
    (genuine, impostor), (many, others) = labeled_pairs(embeddings, pids, camids), labeled_pairs(*more)
    for one, other in zip(fit_evidence(genuine, impostor), fit_evidence(many, others), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_people_are_drawn_with_all_their_pairs_and_make_none_with_their_copy():
    _, impostor = labeled_pairs(*people(5, images=2))
    genuine, _ = labeled_pairs(*people(5, images=2))
    draws = torch.Generator().manual_seed(0)
    for pairs in (genuine, impostor):
        shares = list[float]()
        draws.manual_seed(0)
        while len(shares) < 50:
            copies = torch.randint(5, (5,), generator=draws).tolist()
            pairs_of_copies = [(a, a) for a in copies] if pairs is genuine else list(combinations(copies, 2))
            above = total = 0.0
            for a, b in pairs_of_copies:
                if pairs is genuine or a != b:
                    rows = (pairs.left == min(a, b)) & (pairs.right == max(a, b))
                    total += float(pairs.weights[rows].sum())
                    above += float(pairs.weights[rows & (pairs.similarities > 0.2)].sum())
            shares += [above / total] if total else []
        fast = people_interval(pairs, lambda w, pairs=pairs: (w * (pairs.similarities > 0.2)).sum()[None] / w.sum(), num_resamples=50)
        np.testing.assert_allclose(fast[0], np.quantile(shares, [0.025, 0.975]), atol=1e-9)
        assert fast[0, 0] < fast[0, 1]


def test_a_share_has_the_interval_of_its_pairs_though_those_of_two_people_are_taken_together():
    _, impostor = labeled_pairs(*people(8))
    shares, intervals = share_beyond(impostor, [0.1, 0.4])
    above = (impostor.similarities[None] > torch.tensor([[0.1], [0.4]])).double()
    np.testing.assert_allclose(shares, above @ impostor.weights, atol=1e-12)
    np.testing.assert_allclose(intervals, people_interval(impostor, lambda weights: above @ weights / weights.sum()), atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), min_size=1, max_size=12), st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_a_threshold_is_the_lowest_score_above_which_no_more_than_the_share_lies(rows, rate):
    scores, weights = (torch.tensor(part, dtype=torch.float64) for part in zip(*sorted(rows, reverse=True), strict=True))
    allowed = [float(one) for one in scores if float(weights[scores > one].sum()) <= rate * float(weights.sum()) * (1 + 1e-9)]
    assert float(lowest_thresholds(scores, weights, [rate])[0]) == min(allowed)


def test_reliability_is_that_of_a_loop_over_the_bins():
    generator = torch.Generator().manual_seed(0)
    probabilities, weights = torch.rand(2, 200, generator=generator, dtype=torch.float64)
    probabilities[:3] = torch.tensor([0.0, 1.0, 0.2])
    same = torch.rand(200, generator=generator) < probabilities
    bins = reliability(probabilities, same, weights, num_bins=5)
    error = 0.0
    for k, one in enumerate(bins):
        rows = [n for n in range(200) if min(int(probabilities[n] * 5), 4) == k]
        weight = sum(float(weights[n]) for n in rows)
        predicted = sum(float(weights[n] * probabilities[n]) for n in rows) / weight
        observed = sum(float(weights[n]) for n in rows if same[n]) / weight
        assert (one.low, one.high) == (k / 5, (k + 1) / 5)
        assert [one.share, one.predicted, one.observed] == pytest.approx([weight / float(weights.sum()), predicted, observed])
        error += one.share * abs(predicted - observed)
    assert expected_calibration_error(bins) == pytest.approx(error)


def test_of_an_empty_bin_nothing_is_told_and_a_wrong_one_costs_its_share():
    bins = reliability(torch.tensor([0.9, 0.9]), torch.tensor([True, False]), torch.tensor([3.0, 1.0]), num_bins=2)
    assert bins[0] == ReliabilityBin(0.0, 0.5, 0.0, 0.0, 0.0)
    assert expected_calibration_error(bins) == pytest.approx(0.15)  # 0.9 told, 3 of 4 so


def test_the_evidence_is_that_of_blocks_whose_share_never_falls_worked_by_hand():
    persons = torch.tensor([0, 1, 2, 3])
    genuine = Pairs(torch.tensor([0.2, 0.6, 0.8, 0.9]).double(), persons, persons, torch.full((4,), 0.25).double(), 4)
    others = (torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 3, 3]))
    impostor = Pairs(torch.tensor([0.0, 0.3, 0.4, 0.7]).double(), *others, torch.full((4,), 0.25).double(), 4)
    similarities, evidence = fit_evidence(genuine, impostor)
    # 0 | 0.2 0.3 0.4 join to a third | 0.6 0.7 to a half | 0.8 0.9 to one; the ends are bounded by 4 people and their 6 pairs
    np.testing.assert_allclose(similarities, [0, 0.3, 0.65, 0.85, 0.9])
    np.testing.assert_allclose(evidence, [-log(5), -log(2), 0, log(7), log(7)], atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), noise=st.floats(0.1, 5), prior=st.floats(1e-6, 1 - 1e-6))
def test_probabilities_rise_with_the_cosine_and_are_never_0_nor_1(seed, noise, prior):
    similarities, evidence = fit_evidence(*labeled_pairs(*people(6, noise=noise, seed=seed)))
    calibration = replace(BY_HAND, similarities=tuple(similarities.tolist()), evidence=tuple(evidence.tolist()))
    found = probability_of(torch.linspace(-1, 1, 300), calibration, prior)
    assert float(found.diff().min()) > -1e-12  # but for the rounding of the interpolation
    assert 0 < float(found[0]) <= float(found[-1]) < 1
    assert max(exp(evidence[-1]), exp(-evidence[0])) <= 16 + 1e-6  # 15 pairs of people


def test_people_that_were_not_fitted_on_get_probabilities_that_are_right():
    embeddings, pids, camids = people(80)
    found = calibrate_similarity(embeddings, pids, camids, model="m at 8x4", data="drawn")
    assert found.people == (40, 40)
    assert found.calibration_error <= 0.05
    assert [one.rate for one in found.match] == [0.1, 0.01]  # 780 pairs of people cannot show 0.001
    assert [one.rate for one in found.non_match] == [0.1, 0.05]
    for one in (*found.match, *found.non_match):
        assert one.similarity_interval[0] <= one.similarity <= one.similarity_interval[1]
        assert one.realized_interval[0] <= one.realized <= one.realized_interval[1]
        assert one.right_interval[0] <= one.right <= one.right_interval[1]
        assert one.realized == pytest.approx(one.rate, abs=0.06)
        assert one.right > 0.5
    again = torch.randperm(len(pids), generator=torch.Generator().manual_seed(1))
    shuffled = calibrate_similarity(embeddings[again], pids[again], camids[again], model="m at 8x4", data="drawn")
    assert shuffled.people == found.people
    np.testing.assert_allclose(shuffled.evidence, found.evidence, atol=1e-9)
    np.testing.assert_allclose([one.similarity for one in shuffled.match], [one.similarity for one in found.match], atol=1e-6)


def test_nobody_is_fitted_on_and_scored_and_the_seed_says_who_is_which():
    _, pids, camids = people(21)
    camids[pids == 21] = 0  # seen by one camera alone
    fitted, scored, _, _ = plan_calibration(pids, camids)
    assert sorted([*fitted.tolist(), *scored.tolist()]) == list(range(1, 21))
    assert len(fitted) == len(scored) == 10
    assert plan_calibration(pids, camids, seed=1).fitted_on.tolist() != fitted.tolist()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda e, p, c: (e, torch.where(p == 20, 19, p), c),
            "a calibration needs at least 20 people: this set has 19 with images in two cameras",
        ),
        (lambda e, p, c: (e, torch.ones_like(p), c), "at least 20 people: this set has 1 "),
        (lambda e, p, c: (e, p, torch.where(p > 4, 0, c)), "this set has 4 with images in two cameras"),
        (lambda e, p, c: (e, torch.arange(len(p)), None), "this set has 0 with two images"),
        (lambda e, p, c: (e[:0], p[:0], c[:0]), "this set has 0"),
        (lambda e, p, c: (e.index_fill(0, torch.tensor([3]), torch.nan), p, c), "NaN or infinite"),
        (lambda e, p, c: (e.index_fill(0, torch.tensor([3]), 0.0), p, c), "1 of 40 embeddings are zero|1 of [0-9]+ embeddings are zero"),
        (lambda e, p, c: (torch.ones_like(e), p, c), "the embeddings are all alike"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        calibrate_similarity(*change(*people(20)), model="m", data="d")


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        ({"false_match_rates": [0.01]}, "a false match rate of 0.01 needs 100 pairs of people to be fitted on, .* there are 45"),
        ({"false_non_match_rates": [0.05]}, "a false non-match rate of 0.05 needs 20 people to be fitted on, .* there are 10"),
        ({"false_match_rates": [1.0]}, "must be a number in"),
    ],
)
def test_a_rate_that_so_few_people_cannot_show_is_refused(rates, told):
    with pytest.raises(ValueError, match=told):
        calibrate_similarity(*people(20), model="m", data="d", **rates)


def test_ties_and_embeddings_that_say_nothing_are_calibrated_as_such():
    embeddings = torch.eye(2).repeat(40, 1)  # any pair has the cosine 0 or 1, whoever is seen
    pids = torch.arange(20).repeat_interleave(4)
    found = calibrate_similarity(embeddings, pids, torch.arange(80) % 4, model="m", data="d")
    assert float(probability_of(torch.tensor(1.0), found)) == pytest.approx(float(probability_of(torch.tensor(0.0), found)), abs=0.2)
    assert all(one.similarity == 1 and one.realized == 0 for one in found.match)  # nothing is above 1: no stranger, and no match
