"""Stages of a pipeline by dynamic programming, beside every cut there is."""

from __future__ import annotations

import doctest
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, pairwise

import pytest

from lightning_reid.networks import partition as module
from lightning_reid.networks.partition import partition

# fmt: off
NVAN_MILLISECONDS = [
    29.81,
    40.24, 30.43, 29.77,
    47.6, 24.04, 23.98, 73.56, 23.08, 76.42,
    44.56, 24.9, 25.67, 23.98, 62.44, 27.82, 63.88, 27.1, 60.14,
    138.06, 101.16, 94.73,
    1.19,
]
# fmt: on
"""Forward and backward of NVAN() on two clips of four frames of 128 x 64, as ``measure_units`` gave them on one core (torch 2.14, float32,
while other programs ran): the stem, the blocks of the four stages with the non-local blocks behind the last ones of the second and third,
pooling and neck."""


def every_cut(num_units: int, num_stages: int) -> list[tuple[range, ...]]:
    """All of them, those with the earliest cuts first."""
    inner = combinations(range(1, num_units), num_stages - 1)
    return [tuple(range(first, end) for first, end in pairwise((0, *cuts, num_units))) for cuts in inner]


def best_of_every_cut(costs: list[float], num_stages: int, sizes: list[int] | None = None, limit: int | None = None):
    """The slow way, in fractions; ``None`` where no cut is within the limit."""

    def worth(cut: tuple[range, ...]) -> tuple[Fraction, Fraction]:
        stages = [sum(Fraction(costs[unit]) for unit in stage) for stage in cut]
        return max(stages), sum(stage**2 for stage in stages)

    allowed = [
        cut
        for cut in every_cut(len(costs), num_stages)
        if limit is None or max(sum(sizes[unit] for unit in stage) for stage in cut) <= limit
    ]
    return min(allowed, key=worth, default=None)  # the first of the best


def random_costs(draw: random.Random, num_units: int) -> list[float]:
    """Of few values, so that cuts tie, zeros among them; or any; or of very different magnitude."""
    kind = draw.randrange(3)
    if kind == 0:
        return [float(draw.randrange(4)) for _ in range(num_units)]
    return [draw.random() if kind == 1 else 10 ** draw.uniform(-300, 300) for _ in range(num_units)]


def test_no_cut_is_better_than_the_programmes_and_ties_go_to_even_stages_then_early_cuts():
    draw, refused = random.Random(0), 0
    for _ in range(1000):
        num_units = draw.randint(1, 9)
        num_stages, costs = draw.randint(1, num_units), random_costs(draw, num_units)
        assert partition(costs, num_stages) == best_of_every_cut(costs, num_stages)
        sizes, limit = [draw.randrange(6) for _ in range(num_units)], draw.randrange(12)
        expected = best_of_every_cut(costs, num_stages, sizes, limit)
        if expected is None:
            refused += 1
            least = min(max(sum(sizes[unit] for unit in stage) for stage in cut) for cut in every_cut(num_units, num_stages))
            with pytest.raises(ValueError, match=rf"is within limit={limit} bytes: the least that would do is {least}$"):
                partition(costs, num_stages, sizes=sizes, limit=limit)
            assert partition(costs, num_stages, sizes=sizes, limit=least)
        else:
            assert partition(costs, num_stages, sizes=sizes, limit=limit) == expected
    assert 100 < refused < 900


def test_ties_worked_by_hand():
    # 4 | 1 | 1 2 0 and 4 | 1 1 | 2 0 and 4 | 1 1 2 | 0 have a largest stage of 4, and squares of 26, 24 and 32
    assert partition([4, 1, 1, 2, 0], 3) == (range(0, 1), range(1, 3), range(3, 5))
    # nothing costs anything: the first stages are as short as can be
    assert partition([0, 0, 0, 0], 3) == (range(0, 1), range(1, 2), range(2, 4))


def test_sums_that_rounding_would_confuse_are_told_apart():
    # 2^53 + 1 is no float: rounded, both cuts would have a largest stage of 2^53 and the same squares
    assert partition([2.0**53, 1.0, 2.0**53 - 2], 2) == (range(0, 1), range(1, 3))
    assert partition([2.0**53 - 2, 1.0, 2.0**53], 2) == (range(0, 2), range(2, 3))


def test_one_stage_is_all_units_and_as_many_stages_as_units_are_one_each():
    assert partition([1, 2, 3], 1) == (range(0, 3),)
    assert partition([1, 2, 3], 3) == (range(0, 1), range(1, 2), range(2, 3))


def test_a_limit_may_cost_balance():
    # without it 2 2 | 2 2; the bytes leave only 2 2 2 | 2
    assert partition([2, 2, 2, 2], 2) == (range(0, 2), range(2, 4))
    assert partition([2, 2, 2, 2], 2, sizes=[1, 1, 1, 5], limit=5) == (range(0, 3), range(3, 4))


def test_a_hundred_units_are_dealt_in_no_time():
    draw = random.Random(1)
    costs = [draw.random() for _ in range(100)]
    cut = partition(costs, 8)
    assert [unit for stage in cut for unit in stage] == list(range(100))
    assert max(sum(costs[unit] for unit in stage) for stage in cut) < 1.1 * sum(costs) / 8


def test_four_stages_of_a_measured_network_are_nearly_even_where_equal_numbers_of_units_are_not():
    ideal = sum(NVAN_MILLISECONDS) / 4

    def largest(stages: Sequence[range]) -> float:
        return max(sum(NVAN_MILLISECONDS[unit] for unit in stage) for stage in stages)

    assert largest(partition(NVAN_MILLISECONDS, 4)) <= 1.15 * ideal
    assert largest([range(0, 6), range(6, 12), range(12, 18), range(18, 23)]) > 1.4 * ideal


def test_more_stages_than_units_are_refused_by_name():
    with pytest.raises(ValueError, match="num_stages must be at most the number of units, got 3 for 2"):
        partition([1, 2], 3)
    with pytest.raises(ValueError, match="num_stages must be at most the number of units, got 1 for 0"):
        partition([], 1)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1", True, None])
def test_a_cost_that_cannot_be_is_refused_by_its_unit(value):
    with pytest.raises(ValueError, match=r"costs\[1\] must be a number"):
        partition([1.0, value], 1)


@pytest.mark.parametrize("value", [-1, 1.5, "1", True, 2**63])
def test_a_count_that_cannot_be_is_refused_by_name(value):
    with pytest.raises(ValueError, match="num_stages must be"):
        partition([1.0, 1.0], value)
    with pytest.raises(ValueError, match=r"sizes\[0\] must be a whole number"):
        partition([1.0], 1, sizes=[value], limit=1)
    with pytest.raises(ValueError, match="limit must be a whole number"):
        partition([1.0], 1, sizes=[1], limit=value)


def test_sizes_and_limit_come_together_and_one_of_each_unit():
    for options in ({"sizes": [1, 1]}, {"limit": 4}):
        with pytest.raises(ValueError, match="sizes and limit belong together"):
            partition([1.0, 1.0], 1, **options)
    with pytest.raises(ValueError, match="sizes must be one of each unit, got 1 for 2"):
        partition([1.0, 1.0], 1, sizes=[1], limit=4)


def test_the_examples_run():
    assert doctest.testmod(module).failed == 0
