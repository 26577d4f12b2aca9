"""Comparisons over seeds: one is primary, the others are corrected for being several, and the verdict follows from the figures."""

from __future__ import annotations

import pytest

from lightning_reid.recipes.workshop.comparisons import Comparison, comparison_of_interval, comparison_of_scores, corrected
from lightning_reid.recipes.workshop.seeds import seed_comparison

SCORES = {  # differences to "worst" in points: 1, 2, 3, 4, 5 and 0, 0, 1, 0, 4
    seed: {"best": 0.50 + 0.01 * (seed + 1), "middle": 0.50 + 0.01 * gain, "worst": 0.50} for seed, gain in enumerate((0, 0, 1, 0, 4))
}
COLUMNS = {name: [SCORES[seed][name] for seed in range(5)] for name in SCORES[0]}


def test_a_comparison_of_scores_equals_the_hand_computed_one():
    # differences 1 to 5 points: mean 3, std sqrt(2.5), t(0.975, 4) = 2.776445; t = 3 / sqrt(0.5) = 4.2426, whose p is 0.01324
    one = comparison_of_scores(("best", "worst"), COLUMNS)
    reach = 0.01 * 2.776445 * 0.5**0.5
    assert (one.mean, one.low, one.high) == pytest.approx((0.03, 0.03 - reach, 0.03 + reach))
    assert one.p == pytest.approx(0.01324, abs=1e-5)


def test_a_p_value_is_read_off_an_interval_as_off_the_scores():
    one = comparison_of_scores(("best", "worst"), COLUMNS)
    assert comparison_of_interval(("best", "worst"), one.mean, (one.low, one.high), seeds=5).p == pytest.approx(one.p, rel=1e-9)
    with pytest.raises(ValueError, match=r"got 5 seeds and 0.9 in \(0.1, 0.5\) for \('best', 'worst'\)"):
        comparison_of_interval(("best", "worst"), 0.9, (0.1, 0.5), seeds=5)


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "verdict"),
    [
        (0.1, 0.5, None, "holds"),
        (0.1, 0.5, 0.04, "holds"),
        (0.1, 0.5, 0.06, "holds, by itself only"),
        (-0.1, 0.5, None, "not shown"),
        (-0.5, -0.1, None, "the opposite"),
        (-0.5, -0.1, 0.06, "the opposite, by itself only"),
        (0.0, 0.5, None, "not shown"),
    ],
)
def test_a_verdict_is_the_intervals_and_of_exploratory_ones_the_corrections_too(low, high, p_holm, verdict):
    assert Comparison("a", "b", (low + high) / 2, low, high, 0.03, p_holm).verdict == verdict


def test_the_primary_comparison_is_tested_by_itself_and_the_others_are_corrected_among_themselves():
    pairs = [("best", "worst"), ("middle", "worst"), ("best", "middle")]
    found = [comparison_of_scores(pair, COLUMNS) for pair in pairs]
    first, second, third = corrected(found, pairs[0])
    assert first.corrected is None
    assert third.p < second.p
    assert third.corrected == pytest.approx(2 * third.p)
    assert second.corrected == pytest.approx(max(second.p, 2 * third.p))
    assert corrected(found, None)[0].corrected is not None
    with pytest.raises(ValueError, match="the primary comparison worst - best is not among those of its table"):
        corrected(found, ("worst", "best"))


def test_a_table_says_which_comparison_is_primary_and_leaves_out_what_was_not_run():
    printed = seed_comparison(SCORES, [("best", "worst"), ("middle", "worst"), ("best", "not run")], ("best", "worst"))
    assert "| best - worst | +3.0 | +1.0 to +5.0 | yes | 0.013 | primary |" in printed
    assert "| middle - worst | +1.0 | -1.2 to +3.2 | no | 0.266 | 0.266 |" in printed
    assert "not run" not in printed
    assert "primary" not in seed_comparison(SCORES, [("best", "worst")])
    assert "primary" not in seed_comparison(SCORES, [("best", "worst"), ("best", "not run")], ("best", "not run"))
    with pytest.raises(ValueError, match="the primary comparison worst - best is none of the pairs"):
        seed_comparison(SCORES, [("best", "worst")], ("worst", "best"))


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({0: {"a": 0.5, "b": 7.5}, 1: {"a": 0.5, "b": 0.4}}, "'b' of seed 0 is 7.5"),
        ({0: {"a": 0.5}, 1: {"a": float("nan")}}, "'a' of seed 1 is nan"),
        ({0: {"a": 0.5}, 1: {"a": 0.5, "b": 0.4}}, "seed 0 has no 'b'"),
        ({0: {"a": 0.5, "b": 0.4}, 1: {"a": 0.5}}, "seed 1 has no 'b'"),
    ],
)
def test_a_table_is_of_fractions_that_every_seed_has(scores, told):
    with pytest.raises(ValueError, match=f"every seed has a fraction in .0, 1. of every method, got: {told}"):
        seed_comparison(scores, [("a", "b")])
