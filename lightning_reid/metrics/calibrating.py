"""Fitting a calibration on some people of a labeled set, and scoring it on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, log
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.arguments import require_number, require_seed
from lightning_reid.metrics.calibration import Calibration, ReliabilityBin, Threshold, probability_of
from lightning_reid.metrics.labeled_pairs import Pairs, labeled_pairs, people_interval

LEAST_PEOPLE = 20
"""Half of them are fitted on."""
FALSE_MATCH_RATES, FALSE_NON_MATCH_RATES = (0.1, 0.01, 0.001), (0.1, 0.05, 0.01)
"""At which thresholds are looked for where there are people enough."""
NUM_BINS = 15


@torch.no_grad()
def calibrate_similarity(
    embeddings: Tensor,
    pids: Tensor,
    camids: Tensor | None = None,
    *,
    model: str,
    data: str,
    false_match_rates: Sequence[float] | None = None,
    false_non_match_rates: Sequence[float] | None = None,
    seed: int = 0,
) -> Calibration:
    """What the cosine of two images says about whether they show one person: fitted on half of the people, scored on the other half.

    The log odds that a pair is of one person, both kinds of pairs at equal weight, are the evidence of its cosine, to which any prior can
    be added. They are found by centered isotonic regression (Oron & Flournoy 2017, arXiv:1701.05964): blocks that are joined where shares
    would fall, and lines from one's middle to the next's. Why no curve of a formula: on other generated people the network that comes
    with the library has an error of 0.008 to 0.010 this way and with a logistic curve, each fitted on 140 people, but MobileNetV2 with
    ImageNet's weights 0.02 and 0.033; a beta curve gets terms of the wrong sign there. What isotonic regression does worse, certainty at
    the ends, is bounded: P people and their M = P (P - 1) / 2 pairs cannot show more than odds of M + 1 to 1, nor less than 1 to P + 1
    (the rule of succession), however many images there are of them.

    People with no pair of their own (in two cameras) are left out.

    Args:
        embeddings: ``[N, D]`` float, finite and not zero.
        pids: ``[N]`` int64.
        camids: ``[N]`` int64: pairs within a camera are left out, for people are to be found again in another. ``None`` keeps them.
        model: Name of the network and its image size.
        data: Name of the data set.
        false_match_rates: Shares in (0, 1) of pairs of two people, to find thresholds for; ``None`` for those of 0.1, 0.01, 0.001 that
            the people can show: one over the pairs of people that are fitted on, at least.
        false_non_match_rates: Shares of pairs of one person; ``None`` for those of 0.1, 0.05, 0.01 that they can: one over the people.
        seed: Of the split of the people, and of pairs where there are too many (``labeled_pairs``).

    Raises:
        ValueError: Fewer than 20 people, a rate that so few cannot show, embeddings that are all alike, or those of ``labeled_pairs``.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import calibrate_similarity, probability_of
        >>> pids, noise = torch.arange(40).repeat_interleave(4), torch.randn(160, 40, generator=torch.Generator().manual_seed(0))
        >>> embeddings = torch.eye(40)[pids] + 0.1 * noise
        >>> calibration = calibrate_similarity(embeddings, pids, model="none at 1x1", data="drawn")
        >>> calibration.people, [one.rate for one in calibration.match]
        ((20, 20), [0.1, 0.01])
        >>> [round(one, 2) for one in probability_of(torch.tensor([-0.3, 0.9]), calibration).tolist()]  # 20 people show no more
        [0.05, 0.99]
    """
    plan = plan_calibration(pids, camids, false_match_rates, false_non_match_rates, seed)
    parts = []
    for who in (plan.fitted_on, plan.scored_on):
        theirs = torch.isin(pids, who)
        parts.append(labeled_pairs(embeddings[theirs], pids[theirs], None if camids is None else camids[theirs], seed=seed))
    (genuine, impostor), (scored_genuine, scored_impostor) = parts
    similarities, evidence = fit_evidence(genuine, impostor)
    found = Calibration(
        model=model,
        data=data,
        people=(len(plan.fitted_on), len(plan.scored_on)),
        genuine=genuine.total,
        impostor=impostor.total,
        cameras=0 if camids is None else len(camids.unique()),
        seed=seed,
        similarities=tuple(similarities.tolist()),
        evidence=tuple(evidence.tolist()),
        match=_thresholds(plan.false_match_rates, impostor, scored_impostor, scored_genuine, 1),
        non_match=_thresholds(plan.false_non_match_rates, genuine, scored_genuine, scored_impostor, -1),
        bins=(),
    )
    return replace(found, bins=reliability_of(found, scored_genuine, scored_impostor))


class Plan(NamedTuple):
    """What a calibration is made of, which is known before anything is embedded.

    Attributes:
        fitted_on: ``[P]`` pids.
        scored_on: ``[S]`` pids of others, as many or one fewer.
        false_match_rates: Descending, of thresholds that so many people can show.
        false_non_match_rates: As those.
    """

    fitted_on: Tensor
    scored_on: Tensor
    false_match_rates: list[float]
    false_non_match_rates: list[float]


def plan_calibration(
    pids: Tensor,
    camids: Tensor | None,
    false_match_rates: Sequence[float] | None = None,
    false_non_match_rates: Sequence[float] | None = None,
    seed: int = 0,
) -> Plan:
    """Divide the people that have a pair of their own, by seed, and see at which rates so many can show thresholds.

    Args and errors are those of ``calibrate_similarity``.
    """
    require_seed("seed", seed)
    seen = pids if camids is None else torch.stack([pids, camids]).unique(dim=1)[0]
    people, times = seen.unique(return_counts=True)
    people = people[times > 1]
    if len(people) < LEAST_PEOPLE:
        twice = "two images" if camids is None else "images in two cameras"
        raise ValueError(f"a calibration needs at least {LEAST_PEOPLE} people: this set has {len(people)} with {twice}")
    people = people[torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))]
    number = (len(people) + 1) // 2
    matches = _checked_rates("false match rate", false_match_rates, FALSE_MATCH_RATES, number * (number - 1) // 2, "pairs of people")
    misses = _checked_rates("false non-match rate", false_non_match_rates, FALSE_NON_MATCH_RATES, number, "people")
    return Plan(people[:number], people[number:], matches, misses)


def fit_evidence(genuine: Pairs, impostor: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ascending cosines and the evidence at them, see ``Calibration``.

    Raises:
        ValueError: All cosines are the same.
    """
    from sklearn.isotonic import IsotonicRegression  # takes a second that who only reads a calibration does not wait for

    similarities = torch.cat([genuine.similarities, impostor.similarities]).numpy()
    weights = torch.cat([genuine.weights, impostor.weights]).numpy()
    low, high = similarities.min(), similarities.max()
    if low == high:
        raise ValueError(f"all pairs have the cosine {low:g}: the embeddings are all alike, is the network trained?")
    same = np.repeat([1.0, 0.0], [len(genuine.left), len(impostor.left)])
    fitted = IsotonicRegression().fit_transform(similarities, same, sample_weight=weights)
    shares, block = np.unique(fitted.round(12), return_inverse=True)
    middles = np.bincount(block, weights * similarities) / np.bincount(block, weights)
    num_people = int(impostor.right.max()) + 1
    with np.errstate(divide="ignore"):  # odds of 0 or of 1 to 0 are bounded here
        evidence = np.clip(np.log(shares) - np.log1p(-shares), -log(num_people + 1), log(num_people * (num_people - 1) // 2 + 1))
    points = np.concatenate([[low], middles.clip(low, high), [high]])
    rising = np.diff(points, prepend=-2) > 0  # a block may hold nothing but the least cosine, or the largest
    return points[rising], np.concatenate([evidence[:1], evidence, evidence[-1:]])[rising]


def reliability(probabilities: Tensor, same: Tensor, weights: Tensor, num_bins: int = NUM_BINS) -> tuple[ReliabilityBin, ...]:
    """How often what was given a probability is so, in bins of equal width.

    Args:
        probabilities: ``[M]`` in [0, 1].
        same: ``[M]`` bool, whether it is so.
        weights: ``[M]`` of sum above 0.
        num_bins: From 0 to 1; the last holds 1.
    """
    probabilities, weights = probabilities.double(), weights.double()
    which = (probabilities * num_bins).long().clamp(max=num_bins - 1)
    sums = [torch.bincount(which, weights * of, num_bins).tolist() for of in (torch.ones_like(weights), probabilities, same.double())]
    total = sum(sums[0])
    return tuple(
        ReliabilityBin(
            k / num_bins, (k + 1) / num_bins, weight / total, predicted / weight if weight else 0.0, observed / weight if weight else 0.0
        )
        for k, (weight, predicted, observed) in enumerate(zip(*sums, strict=True))
    )


def reliability_of(calibration: Calibration, genuine: Pairs, impostor: Pairs) -> tuple[ReliabilityBin, ...]:
    """``reliability`` of a calibration's probabilities at a prior of 0.5, pairs of one person and of two at equal weight."""
    probabilities = probability_of(torch.cat([genuine.similarities, impostor.similarities]), calibration)
    same = torch.arange(len(probabilities)) < len(genuine.left)
    return reliability(probabilities, same, torch.cat([genuine.weights, impostor.weights]))


def share_beyond(pairs: Pairs, thresholds: Sequence[float], side: int = 1) -> tuple[list[float], list[tuple[float, float]]]:
    """Weighted share of pairs above each threshold (below with ``side`` -1), and its interval over people."""
    beyond = torch.stack([side * pairs.similarities > side * one for one in thresholds]) * pairs.weights
    people, which = torch.stack([pairs.left, pairs.right]).unique(dim=1, return_inverse=True)  # of whom all pairs are drawn together
    whole = torch.zeros(people.shape[1], dtype=torch.float64).index_add_(0, which, pairs.weights)
    shares = torch.zeros(len(beyond), len(whole), dtype=torch.float64).index_add_(1, which, beyond) / whole
    of_people = Pairs(torch.zeros_like(whole), people[0], people[1], whole, pairs.total)
    interval = people_interval(of_people, lambda weights: shares @ weights / weights.sum())
    return (shares @ whole).clamp(0, 1).tolist(), [(low, high) for low, high in interval.clamp(0, 1).tolist()]


def lowest_thresholds(scores: Tensor, weights: Tensor, rates: Sequence[float]) -> Tensor:
    """``[K]`` lowest of the scores above which lies at most each share ``rates`` of the weight.

    Args:
        scores: ``[M]``, descending.
        weights: ``[M]`` of at least 0.
        rates: Each in (0, 1).
    """
    reached = weights.double().cumsum(0)
    allowed = torch.tensor(list(rates), dtype=torch.float64) * (1 + 1e-12) * reached[-1]
    return scores[torch.searchsorted(reached, allowed, right=True)]


def _thresholds(rates: Sequence[float], fitted: Pairs, wrong: Pairs, right: Pairs, side: int) -> tuple[Threshold, ...]:
    """Found on the wrong pairs ``fitted``, scored on the ``wrong`` and ``right`` pairs of others."""
    if not rates:
        return ()
    fitted = fitted.at((side * fitted.similarities).argsort(descending=True, stable=True))
    scores = side * fitted.similarities
    found = [side * one for one in lowest_thresholds(scores, fitted.weights, rates).tolist()]
    ends = people_interval(fitted, lambda weights: side * lowest_thresholds(scores, weights, rates)).tolist()
    realized, accepted = share_beyond(wrong, found, side), share_beyond(right, found, side)
    rows = zip(rates, found, ends, *realized, *accepted, strict=True)
    return tuple(Threshold(rate, at, (low, high), *rest) for rate, at, (low, high), *rest in rows)


def _checked_rates(name: str, rates: Sequence[float] | None, usual: Sequence[float], units: int, what: str) -> list[float]:
    if rates is None:
        return [rate for rate in usual if rate * units >= 1]
    for rate in rates:
        require_number(name, rate, above=0, below=1)
        if rate * units * (1 + 1e-12) < 1:
            raise ValueError(
                f"a {name} of {rate:g} needs {ceil(1 / rate)} {what} to be fitted on, which is half of them: there are {units}"
            )
    return sorted(set(rates), reverse=True)
