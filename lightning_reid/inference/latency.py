"""How long a network takes for a batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def median_milliseconds(run: Callable[[], object], *, repetitions: int = 10, warm_up: int = 2, most_seconds: float = float("inf")) -> float:
    """The median time of a run, in milliseconds, after some that warm up.

    Args:
        run: What is timed.
        repetitions: Runs that are timed, at least 1.
        warm_up: Runs before them.
        most_seconds: No further run begins once those that are timed took so long.
    """
    for _ in range(warm_up):
        run()
    seconds: list[float] = []
    while len(seconds) < repetitions and (not seconds or sum(seconds) < most_seconds):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds)
