"""Who asks when, whom they may be, and who gets whom: the rules by which tracks of different cameras are matched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_number, require_switch, shown
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.track_memory import Mode, TrackMemory
from lightning_reid.tracking.transit import TransitGates

NOBODY = -1
"""The column of a query that gets nobody."""


@dataclass(frozen=True, slots=True)
class MatchingRules:
    """How matches are made and undone.

    Attributes:
        threshold: Cosine that a match must exceed, in [-1, 1]. It belongs to a network: calibrate it on other people than are scored.
        margin: How much better a match must be than one that it undoes, at least 0.
        memory: ``"left"`` matches people who have left another camera, ``"live"`` also those who are still seen there: for views that
            overlap.
        every_n_frames: Captured frames of its camera from one query of a track to the next; ``None`` to go by seconds.
        every_seconds: Seconds of capture time from one query to the next; ``None`` to go by frames.
        overlapping: Pairs of cameras that see a place in common: a person may enter the one before they left the other.
        clock_slack: Seconds by which the clocks of cameras may differ: by so much an entry may come before the exit.
        min_features: Features of which a track's mean must be before it asks.
        num_candidates: Remembered tracks that are looked at a query, nearest first.
        own_camera: Whether those who left a query's own camera are found as well, who come back to it, or whose track broke there. The
            text asks the other cameras alone.

    Raises:
        ValueError: A value is not as described; the message names it.

    Example:
        >>> from lightning_reid.tracking import MatchingRules
        >>> rules = MatchingRules(threshold=0.7, overlapping=(("door", "hall"),))
        >>> rules.may_share("hall", "door"), rules.may_share("door", "yard"), rules.every_n_frames
        (True, False, 40)
    """

    threshold: float
    margin: float = 0.05
    memory: Mode = "left"
    every_n_frames: int | None = 40
    every_seconds: float | None = None
    overlapping: tuple[tuple[str, str], ...] = ()
    clock_slack: float = 0.0
    min_features: int = 1
    num_candidates: int = 10
    own_camera: bool = False
    _pairs: frozenset[frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_number("threshold", self.threshold, low=-1, high=1)
        require_number("margin", self.margin, low=0, high=2)
        require_choice("memory", self.memory, get_args(Mode))
        require_count("every_n_frames", self.every_n_frames, optional=True)
        require_number("every_seconds", self.every_seconds, above=0, optional=True)
        if (self.every_n_frames is None) == (self.every_seconds is None):
            raise ValueError(f"give every_n_frames or every_seconds, the other None, got {self.every_n_frames} and {self.every_seconds}")
        for pair in self.overlapping:
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) and pair[0] != pair[1]):
                raise ValueError(f"overlapping must hold pairs of two different cameras, got {shown(pair)}")
        require_number("clock_slack", self.clock_slack, low=0)
        require_count("min_features", self.min_features)
        require_count("num_candidates", self.num_candidates)
        require_switch("own_camera", self.own_camera)
        object.__setattr__(self, "_pairs", frozenset(frozenset(pair) for pair in self.overlapping))

    def may_share(self, camera: str, other: str) -> bool:
        """Whether a person may be in these two different cameras at a time."""
        return self.memory == "live" or frozenset((camera, other)) in self._pairs

    def rivals(self, camera: str) -> str:
        """A name that cameras have in common whose people compete for one match; an empty one is that of all without overlap."""
        return camera if self.memory == "live" or any(camera in pair for pair in self._pairs) else ""

    def waited(self, frames: int, seconds: float) -> float:
        """How much of the time between two queries has passed since the last: from 1 on a track asks again."""
        return frames / self.every_n_frames if self.every_n_frames is not None else seconds / (self.every_seconds or math.inf)


def admissible(
    memory: TrackMemory, queries: Sequence[TrackKey], entered: Sequence[float], rules: MatchingRules, gates: TransitGates
) -> Tensor:
    """Which remembered tracks a query may be, as far as time tells: exit before entry, and a transit within its gate.

    Where people may be in two cameras at a time, exit need not come first. Of a live track, whose exit is yet to come, it is known that the
    transit will be no longer than until now.

    Args:
        memory: Of the tracks.
        queries: Q tracks that ask.
        entered: When each was seen first, in seconds.
        rules: By which cameras may share people, and clocks differ.
        gates: Bounds of transit times.

    Returns:
        ``[Q, capacity]`` bool.
    """
    if not queries:
        return torch.zeros(0, memory.capacity, dtype=torch.bool)
    low = torch.full((len(queries), len(memory.camera_names) + 1), torch.inf, dtype=torch.float64)  # the last is that of free places
    high = -low
    for row, key in enumerate(queries):
        for number, camera in enumerate(memory.camera_names):
            least, most = gates.bounds(camera, key.camera)
            first = 0.0 if camera == key.camera else -math.inf if rules.may_share(camera, key.camera) else -rules.clock_slack
            low[row, number], high[row, number] = max(least, first), most
    transit = torch.tensor(entered, dtype=torch.float64)[:, None] - memory.seen_until
    return (transit >= low[:, memory.cameras]) & ((transit <= high[:, memory.cameras]) | ~memory.ended)


def assign_one_to_one(similarities: Tensor, *, threshold: float, held: Tensor | None = None, margin: float = 0.0) -> Tensor:
    """Give each query at most one column and each column to at most one query, so that all exceed the threshold by the most together.

    Who holds a column already counts ``margin`` more there, and changes for one only that is better by more than ``margin``.

    Args:
        similarities: ``[Q, C]`` float, large is near; minus infinity where a pair may not be.
        threshold: What the similarity of a new pair must exceed.
        held: ``[Q]`` int64, the column that each query holds, -1 for none; ``None`` if no query holds any.
        margin: At least 0.

    Returns:
        ``[Q]`` int64, a column, -1 for none. A query that holds a column gets -1 where another is worth more there.

    Raises:
        ValueError: A similarity is NaN or plus infinity, ``held`` is of another shape or no column, or a number is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import assign_one_to_one
        >>> similarities = torch.tensor([[0.9, 0.8], [0.8, 0.5]])  # both are nearest to the first
        >>> assign_one_to_one(similarities, threshold=0.4).tolist()
        [1, 0]
        >>> assign_one_to_one(similarities, threshold=0.4, held=torch.tensor([0, -1]), margin=0.1).tolist()
        [0, 1]
    """
    require_number("threshold", threshold, low=-1, high=1)
    require_number("margin", margin, low=0, high=2)
    num_queries, num_columns = similarities.shape
    held = torch.full((num_queries,), NOBODY) if held is None else held
    if similarities.isnan().any() or (similarities == torch.inf).any():
        raise ValueError("similarities must not be NaN or plus infinity: the features are not of a sound network")
    if held.shape != (num_queries,) or ((held < NOBODY) | (held >= num_columns)).any():
        raise ValueError(
            f"held must name a column below {num_columns}, or -1, for each of {num_queries} queries, got {shown(held.tolist())}"
        )
    if not num_queries or not num_columns:
        return torch.full((num_queries,), NOBODY)
    gains = similarities.double() - threshold
    holds = torch.arange(num_columns) == held[:, None]
    own = gains.masked_fill(~holds, -torch.inf).amax(1, keepdim=True)
    gains = torch.where(holds, gains.clamp(min=0) + margin, gains.masked_fill(gains <= own + margin, -torch.inf))
    gains = gains.clamp(min=0)  # whoever gains nothing stays alone
    rows, columns = map(torch.from_numpy, linear_sum_assignment(gains.numpy(), maximize=True))
    assigned = torch.full((num_queries,), NOBODY)
    assigned[rows] = torch.where(gains[rows, columns] > 0, columns, NOBODY)
    return assigned
