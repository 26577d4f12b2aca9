"""The units of a network dealt to the stages of a pipeline: consecutive ones to each, the largest stage as small as can be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import add

from lightning_reid.arguments import require_count, require_number

MOST_BYTES = 2**62

Span = tuple[int, int]
"""The first unit of a stage, and the first one after it."""


def partition(
    costs: Sequence[float], num_stages: int, *, sizes: Sequence[int] | None = None, limit: int | None = None
) -> tuple[range, ...]:
    """Cut U units into S consecutive stages, none empty, of which the most expensive is as cheap as possible.

    Of several such cuts the one with the smallest sum of squares is taken, in which the other stages are balanced too; of those the one
    whose first stage is shortest, then whose second is. Costs are added without rounding, so that this is the same everywhere.

    Source: the text on pipelined training for re-identification, figure and algorithm 1 ("balance the computation of each working node");
    by dynamic programming, in S U^2 steps.

    Args:
        costs: ``[U]`` finite numbers >= 0 that add up (seconds), one of each unit, in the order in which they run.
        num_stages: S, from 1 to U.
        sizes: ``[U]`` whole numbers >= 0: bytes of each unit, for ``limit``.
        limit: Bytes that no stage may exceed.

    Returns:
        The units of each stage: S ranges that follow each other from 0 to U.

    Raises:
        ValueError: There are more stages than units, an argument is out of range, only one of ``sizes`` and ``limit`` is given, or no cut
            is within the limit: the message names the least that would do.

    Example:
        >>> from lightning_reid.networks.partition import partition
        >>> partition([3, 1, 1, 4, 2], 2)  # 5 and 6; one unit less in the first would make 4 and 7
        (range(0, 3), range(3, 5))
        >>> partition([3, 1, 1, 4, 2], 2, sizes=[1, 1, 1, 1, 9], limit=9)
        (range(0, 4), range(4, 5))
    """
    _check(costs, num_stages, sizes, limit)
    stages = _sums(_without_rounding(costs))
    if sizes is not None and limit is not None:
        bytes_of = _sums([int(size) for size in sizes])
        least = _least(bytes_of, max, len(costs), num_stages)[num_stages][0]
        if least > limit:
            raise ValueError(f"no cut into {num_stages} stages is within limit={limit:,} bytes: the least that would do is {least:,}")
        stages = {span: cost for span, cost in stages.items() if bytes_of[span] <= limit}
    largest = _least(stages, max, len(costs), num_stages)[num_stages][0]
    return _most_even({span: cost for span, cost in stages.items() if cost <= largest}, len(costs), num_stages)


def _sums(numbers: Sequence[int]) -> dict[Span, int]:
    """The sum of every stage that there could be."""
    until = [0, *accumulate(numbers)]
    return {(first, end): until[end] - until[first] for end in range(1, len(until)) for first in range(end)}


def _least(stages: Mapping[Span, int], combined: Callable[[int, int], int], num_units: int, num_stages: int) -> list[dict[int, int]]:
    """``[s][u]``: the least that s of these stages from unit u to the last one come to, wherever there are such."""
    tables = [{num_units: 0}]
    for _ in range(num_stages):
        rest, table = tables[-1], dict[int, int]()
        for (first, end), cost in stages.items():
            if end in rest:
                total = combined(cost, rest[end])
                table[first] = min(total, table.get(first, total))
        tables.append(table)
    return tables


def _most_even(stages: Mapping[Span, int], num_units: int, num_stages: int) -> tuple[range, ...]:
    """The cut into these stages with the smallest sum of squares, the earliest of several."""
    squares = {span: cost**2 for span, cost in stages.items()}
    tables, cut, first = _least(squares, add, num_units, num_stages), list[range](), 0
    for here, rest in zip(tables[:0:-1], tables[-2::-1], strict=True):
        ends = (end for end in rest if (first, end) in squares and squares[first, end] + rest[end] == here[first])
        cut.append(range(first, min(ends)))
        first = cut[-1].stop
    return tuple(cut)


def _without_rounding(costs: Sequence[float]) -> list[int]:
    """The costs as whole multiples of one power of two, which floats are."""
    ratios = [float(cost).as_integer_ratio() for cost in costs]
    finest = max(denominator for _, denominator in ratios)
    return [numerator * (finest // denominator) for numerator, denominator in ratios]


def _check(costs: Sequence[float], num_stages: int, sizes: Sequence[int] | None, limit: int | None) -> None:
    for unit, cost in enumerate(costs):
        require_number(f"costs[{unit}]", cost, low=0, high=sys.float_info.max)
    require_count("num_stages", num_stages)
    if num_stages > len(costs):
        raise ValueError(f"num_stages must be at most the number of units, got {num_stages} for {len(costs)}: a stage has at least one")
    if (sizes is None) != (limit is None):
        raise ValueError("sizes and limit belong together: give both or neither")
    require_count("limit", limit, low=0, high=MOST_BYTES, optional=True)
    if sizes is not None and len(sizes) != len(costs):
        raise ValueError(f"sizes must be one of each unit, got {len(sizes)} for {len(costs)}")
    for unit, size in enumerate(sizes or ()):
        require_count(f"sizes[{unit}]", size, low=0, high=MOST_BYTES)
