"""The search for the preference p* that gives labeled images as many exemplars as identities (SG-AP)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lightning_reid.clustering.affinity_propagation import AffinityPropagation

SAME_COUNTS = 5
"""So many probes in a row with one count end the search (SGC-DPL, step 2b)."""


@dataclass(frozen=True)
class Probe:
    """One run of affinity propagation in the search, from cold messages.

    ``count`` exemplars are among the labeled points. An ``exact`` run is the one whose clusters are asked for; the others estimate its
    count: over neighbor graphs, and stopped early.
    """

    preference: float
    count: int
    exact: bool
    iterations: int
    converged: bool


OnProbe = Callable[[Probe, AffinityPropagation], None]
"""Told of every probe of a search and of the clusters of all points that it found."""

Run = Callable[[float], AffinityPropagation]
"""Affinity propagation of all points, the labeled ones first, with the preferences that a p makes."""


@dataclass(frozen=True)
class PreferenceSearch:
    """What ``search_preference`` found: the preference, and every probe on the way to it.

    Attributes:
        preference: p*, the matching one or the one whose count came nearest.
        wanted: C_l, the labeled identities.
        count: Exemplars among the labeled points in the exact run at p*, which is in ``history``.
        matched: Whether the two are equal.
        reason: Why the search ended, in words.
        history: Every probe in the order it was made.
    """

    preference: float
    wanted: int
    count: int
    matched: bool
    reason: str
    history: tuple[Probe, ...]

    @property
    def violations(self) -> tuple[tuple[Probe, Probe], ...]:
        """Pairs of neighboring probes of one kind, by preference, of which the lower preference gave more exemplars."""
        ordered = sorted(self.history, key=lambda probe: (probe.exact, probe.preference))
        return tuple((a, b) for a, b in pairwise(ordered) if a.exact == b.exact and a.preference < b.preference and a.count > b.count)


@torch.no_grad()
def search_preference(
    levels: Tensor,
    wanted: int,
    num_labeled: int,
    exact: Run,
    estimate: Run,
    *,
    max_probes: int = 20,
    max_exact: int = 2,
    on_probe: OnProbe | None = None,
) -> PreferenceSearch:
    """p* among ``levels`` with which the labeled points have as many exemplars as identities.

    The search starts at the median level and brackets the count that is wanted by cheap estimates: more exemplars, lower p. The next place
    is foretold from the counts so far, and every third time it halves the range as binary search does. Where an estimate fits, or none is
    left to make, the exact run decides. If it does not fit either, estimates are held to be off by as much as this one was, and the search
    goes on. The count need not grow with p everywhere (see ``violations``), nor take every value.

    Args:
        levels: ``[L]`` float, different similarities of labeled pairs, ascending, at least one.
        wanted: C_l, at least 1.
        num_labeled: N_l, the first points.
        exact: The run that counts.
        estimate: A cheaper one whose count comes near.
        max_probes: Estimates at most.
        max_exact: Exact runs at most.
        on_probe: Called with every probe and the clusters it found, in the order they are made.

    Source: SGC-DPL, section 3.3.4.
    """
    history: list[Probe] = []

    def count_at(level: float, run: Run) -> int:
        clusters = run(level)
        count = int((clusters.exemplars < num_labeled).sum())
        history.append(Probe(level, count, run is exact, clusters.iterations, clusters.converged))
        if on_probe is not None:
            on_probe(history[-1], clusters)
        return count

    estimates: dict[int, int] = {}  # place in levels to count, in the order they were made
    decided: dict[int, int] = {}
    target, place, reason = wanted, (len(levels) - 1) // 2, ""
    while not reason:
        if place not in estimates:
            estimates[place] = count_at(levels[place].item(), estimate)
        low, high = _bounds(estimates, target, len(levels))
        stuck = _reason_to_stop(list(estimates.values()), low > high, max_probes, wanted, num_labeled)
        best = min(estimates, key=lambda seen: abs(estimates[seen] - target))
        if estimates[best] != target and not stuck:
            place = _next_place(levels, low, high, estimates, target)
            continue
        if best in decided:
            reason = stuck or f"estimates {estimates[best]} and exact counts {decided[best]} of labeled exemplars do not come together"
            break
        decided[best] = count_at(levels[best].item(), exact)
        if decided[best] == wanted:
            reason = "the counts are equal"
        elif stuck or len(decided) == max_exact:
            counts = sorted(decided.values())
            reason = stuck or f"{max_exact} exact runs gave {counts[0]} to {counts[-1]} labeled exemplars for {wanted} identities"
        else:
            target = max(1, estimates[best] + wanted - decided[best])
    chosen = min(decided, key=lambda seen: abs(decided[seen] - wanted))
    matched = decided[chosen] == wanted
    return PreferenceSearch(levels[chosen].item(), wanted, decided[chosen], matched, reason, tuple(history))


def _bounds(estimates: dict[int, int], target: int, num_levels: int) -> tuple[int, int]:
    """First and last place between what gave fewer and what gave more exemplars than the target; none left: first > last."""
    low = max((place + 1 for place, count in estimates.items() if count < target), default=0)
    return low, min((place - 1 for place, count in estimates.items() if count > target), default=num_levels - 1)


def _next_place(levels: Tensor, low: int, high: int, estimates: dict[int, int], target: int) -> int:
    """Where in ``low..high`` to probe next: the count is taken for a power of -p, as steep as the probes say.

    Every third place halves the range, so that no shape of the count can make the search longer than three binary ones.
    """
    if len(estimates) % 3 == 0 or low >= high:
        return (low + high) // 2
    seen = [(levels[place].item(), count) for place, count in estimates.items()]
    fewer = [(level, count) for level, count in seen if 0 < count < target and level < 0]
    more = [(level, count) for level, count in seen if count > target and level < 0]
    if fewer and more:
        (below, few), (above, many) = max(fewer), min(more)
        foretold = below * (above / below) ** (math.log(target / few) / math.log(many / few))
    elif fewer or more:
        level, count = max(fewer) if fewer else min(more)
        foretold = level * count / target  # one probe tells no slope: -1
    else:
        return (low + high) // 2
    place = int(torch.searchsorted(levels, torch.tensor(foretold, dtype=levels.dtype, device=levels.device)))
    return min(max(place, low), high)


def _reason_to_stop(counts: list[int], exhausted: bool, max_probes: int, wanted: int, num_labeled: int) -> str:
    """Empty while further estimates should be made.

    Where no labeled point or every one is an exemplar, equal counts say that the preference is far off, not that the count stands still.
    """
    spread = f"{min(counts)} to {max(counts)} labeled exemplars for {wanted} identities"
    if len(counts) >= SAME_COUNTS and len(set(counts[-SAME_COUNTS:])) == 1 and 0 < counts[-1] < num_labeled:
        return f"{SAME_COUNTS} probes in a row gave {counts[-1]} labeled exemplars where {wanted} are wanted"
    if exhausted:
        return f"no similarity of a labeled pair is left to try as the preference: {spread}"
    return f"{max_probes} probes did not do: {spread}" if len(counts) >= max_probes else ""
