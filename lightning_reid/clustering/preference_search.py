"""The search for the preference p* that gives labelled images as many exemplars as identities (SG-AP)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lightning_reid.clustering.affinity_propagation import break_ties, check_options, clusters_around, largest_similarity
from lightning_reid.clustering.message_passing import MessagePassing, Outcome

SAME_COUNTS = 5
"""So many probes in a row with one count end the search (SGC-DPL, step 2b)."""


@dataclass(frozen=True)
class Probe:
    """One run of affinity propagation in the search.

    ``count`` exemplars are among the labelled points; ``warm``: the messages started from those of the run before (from zero in the first
    probe) and were stopped early; else they started from zero and ran to the end.
    """

    preference: float
    count: int
    warm: bool
    iterations: int
    converged: bool


@dataclass(frozen=True)
class PreferenceSearch:
    """What ``semantics_guided_preference`` found.

    Attributes:
        preference: p*, the matching one or the one whose count came nearest; its run from cold messages is in ``history``.
        wanted: C_l, the labelled identities.
        count: Exemplars among the labelled points at p*, from cold messages.
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
        """Pairs of neighbouring probes, by preference, of which the lower preference gave more exemplars."""
        ordered = sorted(self.history, key=lambda probe: probe.preference)
        return tuple((a, b) for a, b in pairwise(ordered) if a.preference < b.preference and a.count > b.count)


@torch.no_grad()
def similarity_ranking(similarity: Tensor) -> Tensor:
    """``SR(i) = N * sum_{j != i} s(i, j) / sum_i sum_{j != i} s(i, j)``: below 1 for points in the middle, above for those at the rim.

    Its mean is 1. Points that are all equal are ranked alike, 1.

    Args:
        similarity: ``[N, N]`` float, not positive off the diagonal (minus squared distances); the diagonal is not used.

    Returns:
        ``[N]``, dtype and device of ``similarity``.

    Raises:
        ValueError: The similarity is not square, floating and finite, or positive somewhere: the quotient would rank nothing.

    Source: SGC-DPL, eq. 3.2.
    """
    largest_similarity(similarity)
    own = similarity.diagonal()
    positive = ((similarity > 0).sum(1) - (own > 0).long()).nonzero().flatten()
    if len(positive):
        raise ValueError(f"similarity must not be positive off the diagonal, as in row {int(positive[0])}: use minus the distances")
    sums = similarity.sum(1, dtype=torch.float64) - own
    total = sums.sum()
    ranking = len(sums) * sums / total if float(total) < 0 else torch.ones_like(sums)
    return ranking.to(similarity.dtype)


@torch.no_grad()
def semantics_guided_preference(
    similarity: Tensor,
    labels: Tensor,
    *,
    damping: float = 0.5,
    max_iter: int = 200,
    convergence_iter: int = 15,
    probe_convergence_iter: int = 10,
    probe_max_iter: int = 50,
    max_probes: int = 20,
    max_cold: int = 3,
) -> PreferenceSearch:
    """p* with which the labelled among all points have as many exemplars as identities, ``s(i, i) = SR(i) p``.

    Search over the sorted similarities of labelled pairs, from their median: more exemplars than identities, lower p. The next place is
    estimated from the counts so far, and every third time it halves the range as binary search does. A probe starts from
    the messages of the one before and looks at the exemplars once they have stood still for ``probe_convergence_iter`` iterations. A
    count that fits is taken only from cold messages, run to the end. If that run contradicts the probe, the search goes on from its count,
    and the warm probes before it no longer bound the range.
    The count need not grow with p everywhere (see ``violations``).

    Args:
        similarity: ``[N, N]`` float32 or float64, minus squared distances, the ``N_l`` labelled points first.
        labels: ``[N_l]`` int64 identities, at least 0; a single identity, or one with a single point, is allowed.
        damping: As for ``affinity_propagation``.
        max_iter: As for ``affinity_propagation``; of the cold runs.
        convergence_iter: As for ``affinity_propagation``; of the cold runs.
        probe_convergence_iter: Of the warm probes.
        probe_max_iter: Of the warm probes, at most ``max_iter``: one that has not settled by then is counted as it stands.
        max_probes: Warm and cold runs at most; one more cold run may follow where nothing fits.
        max_cold: Probes that cold messages may contradict before the search gives up.

    Raises:
        ValueError: Fewer than two labelled points, more labels than points, negative labels, or a similarity out of range.

    Source: SGC-DPL, section 3.3.4, eq. 3.3.
    """
    check_options(damping, min(max_iter, probe_max_iter), min(convergence_iter, probe_convergence_iter), "keep")
    num_labeled = _check_labels(labels, len(similarity))
    largest, ranking = largest_similarity(similarity), similarity_ranking(similarity)
    wanted, levels = len(labels.unique()), _labeled_similarities(similarity, num_labeled)
    messages, history = MessagePassing(similarity), list[Probe]()

    def probe(level: float, final: bool = False) -> int:
        if final:
            messages.reset()
        patience, limit = (convergence_iter, max_iter) if final else (probe_convergence_iter, min(probe_max_iter, max_iter))
        preferences = break_ties(ranking * level, largest)
        outcome = messages.run(preferences, damping=damping, max_iter=limit, convergence_iter=patience)
        count = _labeled_exemplars(similarity, ranking * level, outcome, num_labeled)
        history.append(Probe(level, count, not final, outcome.iterations, outcome.converged))
        return count

    place, reason = (len(levels) - 1) // 2, ""
    while not reason:
        level = levels[place].item()
        count = probe(level)
        if count == wanted:
            count = probe(level, final=True)
        if count == wanted:
            return PreferenceSearch(level, wanted, count, True, "the counts are equal", tuple(history))
        evidence = _evidence(history)
        low, high = _bounds(levels, evidence, wanted)
        place = _next_place(levels, low, high, evidence, wanted)
        reason = _reason_to_stop(history, low > high, max_probes, max_cold, wanted)
    sure = {found.preference for found in history if not found.warm}
    eligible = [found for found in history if not found.warm or found.preference not in sure]
    best = min(eligible, key=lambda found: (abs(found.count - wanted), found.warm))
    count = probe(best.preference, final=True) if best.warm else best.count
    return PreferenceSearch(best.preference, wanted, count, count == wanted, reason, tuple(history))


def _check_labels(labels: Tensor, total: int) -> int:
    if labels.ndim != 1 or not 2 <= len(labels) <= total:
        raise ValueError(f"need labels of two or more of the {total} points, the first ones, got shape {tuple(labels.shape)}")
    if bool((labels < 0).any()):
        raise ValueError(f"labels must be identities from 0 on, {int((labels < 0).sum())} of {len(labels)} are negative")
    return len(labels)


def _labeled_similarities(similarity: Tensor, num_labeled: int) -> Tensor:
    """The different similarities of pairs of labelled points, ascending."""
    levels: Tensor = torch.cat([similarity[row, row + 1 : num_labeled] for row in range(num_labeled - 1)]).unique()
    return levels


def _evidence(history: list[Probe]) -> list[Probe]:
    """All cold runs, and the warm probes since the last of them: it showed that messages still followed older preferences before."""
    cold = [place for place, found in enumerate(history) if not found.warm]
    return [history[place] for place in cold] + history[cold[-1] + 1 if cold else 0 :]


def _bounds(levels: Tensor, evidence: list[Probe], wanted: int) -> tuple[int, int]:
    """First and last place in ``levels`` between what gave fewer and what gave more exemplars than wanted; none left: first > last."""
    places = torch.searchsorted(levels, torch.tensor([found.preference for found in evidence], dtype=levels.dtype, device=levels.device))
    found = list(zip(places.tolist(), (found.count for found in evidence)))
    low = max((place + 1 for place, count in found if count < wanted), default=0)
    return low, min((place - 1 for place, count in found if count > wanted), default=len(levels) - 1)


def _next_place(levels: Tensor, low: int, high: int, evidence: list[Probe], wanted: int) -> int:
    """Where in ``low..high`` to probe next: the count is taken for a power of -p, as steep as the probes say.

    Every third place halves the range, so that no shape of the count can make the search longer than three binary ones.
    """
    if len(evidence) % 3 == 0 or low >= high:
        return (low + high) // 2
    fewer = [(found.preference, found.count) for found in evidence if 0 < found.count < wanted and found.preference < 0]
    more = [(found.preference, found.count) for found in evidence if found.count > wanted and found.preference < 0]
    if fewer and more:
        (below, few), (above, many) = max(fewer), min(more)
        estimate = below * (above / below) ** (math.log(wanted / few) / math.log(many / few))
    elif fewer or more:
        level, count = max(fewer) if fewer else min(more)
        estimate = level * count / wanted  # one probe tells no slope: -1
    else:
        return (low + high) // 2
    place = int(torch.searchsorted(levels, torch.tensor(estimate, dtype=levels.dtype, device=levels.device)))
    return min(max(place, low), high)


def _labeled_exemplars(similarity: Tensor, preferences: Tensor, outcome: Outcome, num_labeled: int) -> int:
    return int((clusters_around(similarity, preferences, outcome).exemplars < num_labeled).sum())


def _reason_to_stop(history: list[Probe], exhausted: bool, max_probes: int, max_cold: int, wanted: int) -> str:
    """Empty while the search should go on."""
    counts = [found.count for found in history]
    spread = f"{min(counts)} to {max(counts)} labelled exemplars for {wanted} identities"
    if len(counts) >= SAME_COUNTS and len(set(counts[-SAME_COUNTS:])) == 1:
        return f"{SAME_COUNTS} probes in a row gave {counts[-1]} labelled exemplars where {wanted} are wanted"
    if exhausted:
        return f"no similarity of a labelled pair is left to try as the preference: {spread}"
    if sum(not found.warm for found in history) >= max_cold:
        return f"{max_cold} probes that fitted did not fit from cold messages: {spread}"
    return f"{max_probes} probes did not do: {spread}" if len(counts) >= max_probes else ""
