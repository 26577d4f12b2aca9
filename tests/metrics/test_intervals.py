"""Bootstrap intervals over people or single values and Student intervals over seeds."""

import numpy as np
import pytest
import torch

from lightning_reid.metrics import bootstrap_interval, intervals, paired_difference_interval


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


def clustered(num_people: int, draw: torch.Generator, within: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of 1 to 5 queries of each person, alike for one person, and whose they are, in no order."""
    groups = torch.arange(num_people).repeat_interleave(torch.randint(1, 6, (num_people,), generator=draw))
    groups = groups[torch.randperm(len(groups), generator=draw)]
    of_person = torch.rand(num_people, generator=draw)
    return of_person[groups] + within * torch.randn(len(groups), generator=draw), 100 + 3 * groups


def test_the_interval_over_people_equals_every_draw_spelled_out_in_float64(monkeypatch):
    values, groups = clustered(9, seeded(5))
    monkeypatch.setattr(intervals, "_BLOCK_ELEMENTS", 30)  # three resamples at a time
    found = bootstrap_interval(values, groups, confidence=0.8, num_resamples=50, generator=seeded(6))
    people = sorted(set(groups.tolist()))
    draws = torch.cat(
        [torch.randint(9, (len(rows), 9), generator=generator) for generator in [seeded(6)] for rows in torch.empty(50).split(3)]
    )
    means = []
    for row in draws.tolist():
        drawn = [value for place in row for value, person in zip(values.double().tolist(), groups.tolist()) if person == people[place]]
        means.append(sum(drawn) / len(drawn))
    assert found == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])), abs=1e-12)


def test_where_every_person_has_one_query_people_are_drawn_as_queries_are():
    values = torch.rand(40, generator=seeded())
    assert bootstrap_interval(values, torch.arange(40)) == pytest.approx(bootstrap_interval(values), abs=1e-12)


def test_the_interval_over_people_does_not_depend_on_the_order_of_queries_or_on_what_people_are_called():
    values, groups = clustered(20, seeded(7))
    order = torch.randperm(len(values), generator=seeded(8))
    expected = pytest.approx(bootstrap_interval(values, groups), abs=1e-12)
    assert bootstrap_interval(values[order], groups[order]) == expected
    assert bootstrap_interval(values, groups.int() - 5000) == expected


def test_queries_that_go_together_widen_the_interval_and_over_people_it_covers_the_truth_as_often_as_it_says():
    draw, covered, widths = seeded(9), {True: 0, False: 0}, {True: 0.0, False: 0.0}
    for _ in range(150):
        values, groups = clustered(40, draw)
        for by_person in (True, False):
            options = {"confidence": 0.9, "num_resamples": 200, "generator": draw}
            low, high = bootstrap_interval(values, groups if by_person else None, **options)
            covered[by_person] += low <= 0.5 <= high
            widths[by_person] += high - low
    assert widths[True] > 1.5 * widths[False]
    assert 0.82 <= covered[True] / 150 <= 0.97
    assert covered[False] / 150 < 0.75  # 0.9 was promised


def test_every_query_weighs_the_same_however_many_its_person_has():
    values, groups = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([4, 4, 4, 7])
    # both times the first person: 1; both times the second: 0; one of each, half of the time: 3/4 and not the mean of 1 and 0
    assert bootstrap_interval(values, groups, confidence=0.3) == (0.75, 0.75)
    assert bootstrap_interval(values, groups, confidence=0.9) == (0.0, 1.0)


def test_one_person_alone_is_refused_with_the_way_on():
    with pytest.raises(ValueError, match="needs two people or more, all 3 values are of person 8: print the score without an interval"):
        bootstrap_interval(torch.rand(3), torch.tensor([8, 8, 8]))


@pytest.mark.parametrize("groups", [torch.zeros(2, dtype=torch.int64), torch.zeros(3), torch.ones(3, dtype=torch.bool)])
def test_groups_that_are_no_person_of_each_value_are_refused(groups):
    with pytest.raises(ValueError, match="groups must be 3 integers, one for each value, got torch"):
        bootstrap_interval(torch.rand(3), groups)


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
