"""Who the tracks of a sequence are, who of them is for testing, and what is asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from lightning_reid.datamodules.mot.crops import Tracklet
from lightning_reid.datamodules.readers.random_splits import shuffled

QueryRule = Literal["most-visible", "tallest", "first"]


@dataclass(frozen=True)
class PeopleRules:
    """Who the tracks are, and who of them is for testing.

    Attributes:
        pid_map: Track number to person number (from 1), where one person has several tracks; ``None``: each track is a person of its own.
        test_pids: People to test on; ``None``: drawn.
        test_fraction: Share of the people seen in at least two zones to draw, in [0, 1]; 0 makes a training set only.
        seed: Of the draw.
        query_rule: Which crop (MARS: tracklet) of a test person in a zone is the query: the most visible (then tallest), tallest or first.
    """

    pid_map: dict[int, int] | None = None
    test_pids: Sequence[int] | None = None
    test_fraction: float = 0.5
    seed: int = 0
    query_rule: QueryRule = "most-visible"

    def pid_of(self, mot_id: int) -> int:
        """The number of the person whom a track shows.

        Raises:
            ValueError: ``pid_map`` lacks the track, or the person's number is below 1.
        """
        if self.pid_map is not None and mot_id not in self.pid_map:
            raise ValueError(f"pid_map lacks track {mot_id}; it must name the person of every track, here it knows {sorted(self.pid_map)}")
        pid = mot_id if self.pid_map is None else self.pid_map[mot_id]
        if pid < 1:
            raise ValueError(f"track {mot_id} is person {pid}, but people count from 1 (0 is a distractor, -1 junk): give a pid_map")
        return pid


def choose_test_pids(tracklets: Iterable[Tracklet], rules: PeopleRules) -> frozenset[int]:
    """The people to test on: the given ones, or drawn from those seen in at least two zones.

    Raises:
        ValueError: A given person has no crop, ``test_fraction`` is no fraction, or nobody is seen in two zones.
    """
    cameras: dict[int, set[int]] = defaultdict(set)
    for tracklet in tracklets:
        cameras[tracklet[0].pid].add(tracklet[0].camid)
    if rules.test_pids is not None:
        unknown = sorted(set(rules.test_pids) - cameras.keys())
        if unknown:
            raise ValueError(f"test_pids {unknown} have no crop; there are crops of people {sorted(cameras)}")
        return frozenset(rules.test_pids)
    if not 0 <= rules.test_fraction <= 1:
        raise ValueError(f"test_fraction must lie in [0, 1], got {rules.test_fraction}")
    if rules.test_fraction == 0:
        return frozenset()
    pool = shuffled((pid for pid, seen_by in cameras.items() if len(seen_by) > 1), seed=rules.seed, split=0)
    if not pool:
        raise ValueError(
            f"none of {len(cameras)} people is seen in two zones, so there is nothing to test on: "
            "give other zones, a pid_map that joins tracks, or test_fraction=0 for a training set only"
        )
    return frozenset(pool[: max(1, round(rules.test_fraction * len(pool)))])


def choose_queries(tracklets: Sequence[Tracklet], rule: QueryRule) -> set[int]:
    """Positions of the queries: the best of each person in each zone, as long as every query keeps a match in another zone.

    Args:
        tracklets: Of test people; for Market of one crop each.
        rule: What "best" means.
    """
    best_first = sorted(range(len(tracklets)), key=lambda index: _query_key(tracklets[index], rule))
    remaining: dict[int, Counter[int]] = defaultdict(Counter)
    for tracklet in tracklets:
        remaining[tracklet[0].pid][tracklet[0].camid] += 1
    queried: dict[int, set[int]] = defaultdict(set)
    queries = set()
    for index in best_first:
        pid, camid = tracklets[index][0].pid, tracklets[index][0].camid
        if camid in queried[pid]:
            continue
        left = remaining[pid] - Counter([camid])
        if all(any(other != asked for other in left) for asked in queried[pid] | {camid}):
            remaining[pid] = left
            queried[pid].add(camid)
            queries.add(index)
    return queries


def _query_key(tracklet: Tracklet, rule: QueryRule) -> tuple[float, ...]:
    start, height = tracklet[0].frame, mean(crop.y1 - crop.y0 for crop in tracklet)
    match rule:
        case "most-visible":
            return (-mean(crop.visible for crop in tracklet), -height, start)
        case "tallest":
            return (-height, start)
        case "first":
            return (start,)
    raise ValueError(f"query_rule must be 'most-visible', 'tallest' or 'first', got {rule!r}")
