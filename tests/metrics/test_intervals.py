"""Bootstrap intervals over queries and Student intervals over seeds."""

import pytest
import torch

from lightning_reid.metrics import bootstrap_interval, paired_difference_interval


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_bootstrap_interval_of_equal_values_is_that_value():
    assert bootstrap_interval(torch.full((9,), 0.25)) == pytest.approx((0.25, 0.25))


def test_bootstrap_interval_of_one_value_is_that_value():
    assert bootstrap_interval(torch.tensor([0.5])) == (0.5, 0.5)


def test_bootstrap_interval_approaches_the_normal_one_for_many_values():
    values = torch.rand(4000, generator=seeded())
    low, high = bootstrap_interval(values, num_resamples=4000, generator=seeded(2))
    mean, reach = float(values.mean()), 1.96 * float(values.std()) / 4000**0.5
    assert (low, high) == pytest.approx((mean - reach, mean + reach), abs=reach / 10)


def test_bootstrap_interval_widens_with_confidence():
    values = torch.rand(50, generator=seeded())
    narrow, wide = (bootstrap_interval(values, confidence=c, generator=seeded()) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says():
    draw, hits = seeded(4), 0
    for _ in range(200):
        low, high = bootstrap_interval(torch.rand(60, generator=draw), confidence=0.9, num_resamples=300, generator=draw)
        hits += low <= 0.5 <= high
    assert 0.82 <= hits / 200 <= 0.96  # 0.9 within three standard errors of 200 trials, and a little low for 60 values


def test_bootstrap_interval_is_the_same_without_a_generator_and_leaves_the_global_one_alone():
    values = torch.rand(30, generator=seeded())
    state = torch.get_rng_state()
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert torch.equal(torch.get_rng_state(), state)


def test_bootstrap_interval_takes_a_share_of_queries_as_booleans():
    low, high = bootstrap_interval(torch.tensor([True] * 30 + [False] * 70))
    assert 0.15 < low < 0.3 < high < 0.45


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (torch.zeros(0), {}, r"non-empty list of finite numbers, got shape \(0,\)"),
        (torch.tensor([1.0, float("nan")]), {}, "with 1 NaN or infinite"),
        (torch.ones(3), {"confidence": 1.0}, "0 < confidence < 1"),
        (torch.ones(3), {"num_resamples": 1}, "num_resamples >= 2"),
    ],
)
def test_bootstrap_interval_refuses_bad_input(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)


def test_paired_interval_equals_the_hand_computed_value():
    # differences 1, 2, 3, 4, 5: mean 3, std sqrt(2.5), t(0.975, 4) = 2.776445
    a, b = torch.tensor([11.0, 12, 13, 14, 15]), torch.full((5,), 10.0)
    reach = 2.776445 * 2.5**0.5 / 5**0.5
    assert paired_difference_interval(a, b) == pytest.approx((3 - reach, 3 + reach), abs=1e-5)


def test_paired_interval_ignores_what_the_seeds_share():
    seeds = torch.tensor([0.0, 50.0, -30.0])
    low, high = paired_difference_interval(seeds + torch.tensor([1.0, 1.1, 0.9]), seeds)
    assert 0.7 < low < 1 < high < 1.3


@pytest.mark.parametrize(
    ("a", "b", "confidence", "message"),
    [
        (torch.ones(1), torch.ones(1), 0.95, "two or more pairs"),
        (torch.ones(3), torch.ones(2), 0.95, r"got shapes \(3,\) and \(2,\)"),
        (torch.ones(2), torch.tensor([1.0, float("inf")]), 0.95, "scores must be finite"),
        (torch.ones(2), torch.ones(2), 0.0, "0 < confidence < 1"),
    ],
)
def test_paired_interval_refuses_bad_input(a, b, confidence, message):
    with pytest.raises(ValueError, match=message):
        paired_difference_interval(a, b, confidence)
