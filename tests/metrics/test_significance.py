"""P-values of paired differences, alone and among others, against SciPy's test and a slow version of Holm's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from lightning_reid.metrics import holm_adjusted, paired_difference_interval, paired_difference_p_value


def holm_step_by_step(p_values: list[float]) -> list[float]:
    """The smallest that is left is multiplied by how many are left, and never falls below what was adjusted before it."""
    left, adjusted, least = dict(enumerate(p_values)), {}, 0.0
    while left:
        place = min(left, key=lambda one: left[one])
        least = max(least, min(1.0, len(left) * left[place]))
        adjusted[place] = least
        del left[place]
    return [adjusted[place] for place in range(len(p_values))]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holms_p_values_are_those_of_the_rule_taken_step_by_step(p_values):
    assert holm_adjusted(torch.tensor(p_values, dtype=torch.float64)).tolist() == pytest.approx(holm_step_by_step(p_values), abs=1e-15)


def test_holms_p_values_equal_the_hand_computed_ones():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 is no smaller than the 0.06 before it, 0.9 * 1
    assert holm_adjusted(torch.tensor([0.03, 0.9, 0.01, 0.02]).double()).tolist() == pytest.approx([0.06, 0.9, 0.04, 0.06])


@given(seed=st.integers(0, 99), seeds=st.integers(2, 9), shift=st.floats(-3, 3))
def test_the_p_value_is_that_of_scipys_paired_test_and_agrees_with_the_interval(seed, seeds, shift):
    a, b = torch.randn(2, seeds, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    p = paired_difference_p_value(a + shift, b)
    assert p == pytest.approx(ttest_rel((a + shift).numpy(), b.numpy()).pvalue, rel=1e-9)
    low, high = paired_difference_interval(a + shift, b)
    assert (low > 0 or high < 0) == (p < 0.05)


def test_differences_that_are_all_the_same_are_certain_and_none_at_all_is_none():
    a = torch.tensor([0.5, 0.75, 1.0])
    assert paired_difference_p_value(a, a - 0.25) == 0
    assert paired_difference_p_value(a, a) == 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(1), torch.ones(1), "two or more pairs"),
        (torch.ones(3), torch.ones(2), r"got shapes \(3,\) and \(2,\)"),
        (torch.ones(2), torch.tensor([1.0, float("nan")]), "scores must be finite, got 1 differences"),
    ],
)
def test_a_p_value_of_bad_scores_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_difference_p_value(a, b)


@pytest.mark.parametrize("p_values", [torch.tensor([[0.1]]), torch.tensor([0.1, 1.1]), torch.tensor([float("nan")])])
def test_p_values_that_are_none_are_refused(p_values):
    with pytest.raises(ValueError, match=r"list of numbers in \[0, 1\]"):
        holm_adjusted(p_values)
