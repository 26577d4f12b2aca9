"""How long people are under way from one camera to another: bounds that are given, or learned from matches made so far."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from lightning_reid.arguments import LARGEST, require_count, require_number, require_switch, shown

REMEMBERED = 200
"""Latest transits of a pair of cameras that its bounds are learned from."""
QUANTILES = (0.05, 0.95)
NARROWEST = 1.0
"""Half the width of learned bounds before they are widened, in seconds, at least: as exact as tracks begin and end."""


class TransitGates:
    """Which transit times are possible from each camera to each other: seconds from the last sight there to the first here.

    A pair of cameras without a gate lets everything through. A learned gate is the middle of the 5th and the 95th percentile of the pair's
    latest 200 transits, give or take ``widen`` times half their distance.

    Args:
        table: Bounds (least, most) in seconds by (camera left, camera entered); negative where views overlap. They are never relearned.
        learn: Whether pairs that are not in the table get bounds of what ``learn`` is told.
        min_matches: Transits of a pair from which on it has learned bounds.
        widen: Factor of at least 1.

    Raises:
        ValueError: An argument is out of range, or a row of the table is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import TransitGates
        >>> gates = TransitGates({("door", "hall"): (5.0, 60.0)})
        >>> gates.bounds("door", "hall"), gates.bounds("hall", "door")
        ((5.0, 60.0), (-inf, inf))
    """

    def __init__(
        self,
        table: Mapping[tuple[str, str], tuple[float, float]] | None = None,
        *,
        learn: bool = False,
        min_matches: int = 20,
        widen: float = 2.0,
    ) -> None:
        require_switch("learn", learn)
        require_count("min_matches", min_matches, low=2, high=REMEMBERED)
        require_number("widen", widen, low=1)
        self._table = dict(table or {})
        for pair, bounds in self._table.items():
            _check_row(pair, bounds)
        self._learns, self._min_matches, self._widen = learn, min_matches, widen
        self._transits: dict[tuple[str, str], deque[float]] = {}
        self._learned: dict[tuple[str, str], tuple[float, float]] = {}

    def bounds(self, left: str, entered: str) -> tuple[float, float]:
        """The least and the most seconds from camera ``left`` to camera ``entered``; infinite ones where there is no gate."""
        pair = (left, entered)
        return self._table.get(pair) or self._learned.get(pair) or (-math.inf, math.inf)

    def allows(self, left: str, entered: str, seconds: float, *, over: bool = True) -> bool:
        """Whether a transit may take so many seconds; one that is not ``over``, since the track before has not ended, may get shorter."""
        least, most = self.bounds(left, entered)
        return least <= seconds and (seconds <= most or not over)

    def learn(self, left: str, entered: str, seconds: float) -> None:
        """Learn from one match that stood until its track ended; nothing, where this pair does not learn.

        Raises:
            ValueError: The seconds are no finite number.
        """
        require_number("seconds", seconds, low=-LARGEST, high=LARGEST)
        pair = (left, entered)
        if not self._learns or pair in self._table:
            return
        transits = self._transits.setdefault(pair, deque(maxlen=REMEMBERED))
        transits.append(float(seconds))
        if len(transits) >= self._min_matches:
            low, high = np.quantile(transits, QUANTILES).tolist()
            middle, half = (low + high) / 2, max((high - low) / 2, NARROWEST) * self._widen
            self._learned[pair] = (middle - half, middle + half)


def _check_row(pair: object, bounds: object) -> None:
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(one, str) for one in pair) and pair[0] != pair[1]):
        raise ValueError(f"a row of the transit table must be named by two different cameras, got {shown(pair)}")
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        raise ValueError(f"the transit times {pair[0]!r} to {pair[1]!r} must be two numbers of seconds, got {shown(bounds)}")
    require_number(f"the least transit time {pair[0]!r} to {pair[1]!r}", bounds[0])
    require_number(f"the largest transit time {pair[0]!r} to {pair[1]!r}", bounds[1], low=bounds[0])
