"""From a cosine to the probability that two pictures show one person, and to "same", "different" or "unknown"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import log
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_reid.arguments import require_count, require_number, require_seed, require_text, shown

Verdict = Literal["same", "different", "unknown"]
Interval = tuple[float, float]
USUAL_RATE = 0.01
"""False match rate and false non-match rate by which a verdict is given where no other are asked for."""


@dataclass(frozen=True)
class Threshold:
    """A cosine beyond which a chosen share of wrong pairs lies, as found on some people, and what it does on others.

    Of a threshold of matches, wrong pairs are those of two people and beyond is above; of non-matches they are those of one person, and
    beyond is below. Intervals hold 95 % of what would have come out of other people.

    Attributes:
        rate: Share of wrong pairs that was allowed, in (0, 1).
        similarity: The cosine, in [-1, 1].
        similarity_interval: Where it would lie, had it been found on other people.
        realized: Share of wrong pairs beyond it, of people it was not found on.
        realized_interval: Its interval, the threshold being as it is.
        right: Share of the other pairs beyond it, of people it was not found on: rightly called a match, or a non-match.
        right_interval: Its interval.
    """

    rate: float
    similarity: float
    similarity_interval: Interval
    realized: float
    realized_interval: Interval
    right: float
    right_interval: Interval

    def __post_init__(self) -> None:
        require_number("rate", self.rate, above=0, below=1)
        require_number("similarity", self.similarity, low=-1, high=1)
        for name, low in (("similarity_interval", -1), ("realized_interval", 0), ("right_interval", 0)):
            _require_interval(name, getattr(self, name), low)
        for name in ("realized", "right"):
            require_number(name, getattr(self, name), low=0, high=1)


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs that were given a probability between ``low`` and ``high``, at equal weight of pairs of one person and of two.

    Attributes:
        low: Of the bin, in [0, 1].
        high: Of the bin.
        share: Weight of its pairs in [0, 1]; nothing else is told of a bin without any.
        predicted: Mean probability that they were given.
        observed: Share of them that is of one person.
    """

    low: float
    high: float
    share: float
    predicted: float
    observed: float

    def __post_init__(self) -> None:
        for one in fields(self):
            require_number(one.name, getattr(self, one.name), low=0, high=1 + 1e-9)


@dataclass(frozen=True)
class Calibration:
    """What cosines of one network say about who is seen, as found on some people and scored on others.

    Attributes:
        model: Name of the network and its image size; of another network the same cosine says another thing.
        data: Name of the data set it was fitted and scored on.
        people: (fitted on, scored on), no one in both.
        genuine: Pairs of one person of those fitted on.
        impostor: Pairs of two people of those fitted on.
        cameras: How many there are, of which pairs are in two; 0 where pairs within a camera count as well.
        seed: Of the split of the people.
        similarities: Cosines, ascending.
        evidence: At each of them the natural logarithm of how many times as frequent it is in pairs of one person as in pairs of two;
            it never falls.
        match: Thresholds above which it is the same person, by false match rates.
        non_match: Thresholds below which it is not, by false non-match rates.
        bins: Reliability of the probabilities, at a prior of 0.5, on the people scored on.

    Raises:
        ValueError: A number is out of its range, or the evidence falls.

    Example:
        >>> from lightning_reid.inference import calibration_path, read_calibration
        >>> calibration = read_calibration(calibration_path("generated-people-small"))
        >>> calibration.people, calibration.calibration_error < 0.05
        ((300, 300), True)
        >>> threshold = calibration.match_at(0.01)
        >>> round(threshold.similarity, 2), [round(end, 3) for end in threshold.realized_interval]  # of others
        (0.37, [0.01, 0.013])
    """

    model: str
    data: str
    people: tuple[int, int]
    genuine: int
    impostor: int
    cameras: int
    seed: int
    similarities: tuple[float, ...]
    evidence: tuple[float, ...]
    match: tuple[Threshold, ...]
    non_match: tuple[Threshold, ...]
    bins: tuple[ReliabilityBin, ...]

    def __post_init__(self) -> None:
        for name in ("model", "data"):
            require_text(name, getattr(self, name))
        if len(self.people) != 2:
            raise ValueError(f"people must be how many were fitted on and scored on, got {shown(self.people)}")
        for name, count in (("people", self.people[0]), ("people", self.people[1]), ("genuine", self.genuine), ("impostor", self.impostor)):
            require_count(name, count)
        require_count("cameras", self.cameras, low=0)
        require_seed("seed", self.seed)
        for value in self.similarities:
            require_number("similarities", value, low=-1, high=1)
        for value in self.evidence:
            require_number("evidence", value)
        if len(self.similarities) < 2 or len(self.similarities) != len(self.evidence):
            raise ValueError(f"need two similarities or more, each with its evidence, got {len(self.similarities)}, {len(self.evidence)}")
        if not bool((np.diff(self.similarities) > 0).all()) or not bool((np.diff(self.evidence) >= 0).all()):
            raise ValueError("similarities must rise, and the evidence must not fall with them")
        for thresholds in (self.match, self.non_match):
            if len({one.rate for one in thresholds}) < len(thresholds):
                raise ValueError("there are two thresholds at one rate")

    @property
    def calibration_error(self) -> float:
        """Expected calibration error on the people scored on, in [0, 1]: mean distance of probability and truth over the bins."""
        return expected_calibration_error(self.bins)

    def match_at(self, false_match_rate: float | None = None) -> Threshold:
        """The threshold above which it is the same person, but for a share of pairs of two people.

        Args:
            false_match_rate: That share; ``None`` for 0.01, or where people were too few to show it, the least above it that there is.

        Raises:
            ValueError: There is none at that rate; the message lists those that are.
        """
        return self._at("false match rate", self.match, false_match_rate)

    def non_match_at(self, false_non_match_rate: float | None = None) -> Threshold:
        """The threshold below which it is not the same person, but for a share of pairs of one person; as ``match_at``."""
        return self._at("false non-match rate", self.non_match, false_non_match_rate)

    def _at(self, name: str, thresholds: Sequence[Threshold], rate: float | None) -> Threshold:
        usual = min((one.rate for one in thresholds if one.rate >= USUAL_RATE), default=USUAL_RATE)
        found = [one for one in thresholds if one.rate == (usual if rate is None else rate)]
        if not found:
            known = ", ".join(f"{one.rate:g}" for one in thresholds) or "none"
            raise ValueError(
                f"the calibration on {self.data} has no threshold at a {name} of {shown(usual if rate is None else rate)}: it has {known}."
                f" Ask for one of them, or calibrate for it, on more people than {sum(self.people)} if need be"
            )
        return found[0]


def probability_of(similarities: Tensor, calibration: Calibration, prior: float = 0.5) -> Tensor:
    """Probability of the same person for cosines of one network: ``logit(p) = evidence(similarity) + logit(prior)``.

    Between the points of the calibration the evidence is interpolated; beyond them it stays as at the last, for nothing was seen there.

    Args:
        similarities: Cosines, float of any shape.
        calibration: Of the network that gave them; ``inference.find_calibration`` looks after that.
        prior: How probable it is beforehand that two pictures show one person, in (0, 1). One in a gallery of 1,000 people is 0.001.

    Returns:
        Float64 of the same shape on the CPU, each in (0, 1).

    Raises:
        ValueError: A cosine is no number in [-1, 1], or ``prior`` is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.inference import calibration_path, read_calibration
        >>> from lightning_reid.metrics import probability_of
        >>> calibration = read_calibration(calibration_path("generated-people-small"))
        >>> [round(one, 2) for one in probability_of(torch.tensor([0.0, 0.25, 0.9]), calibration).tolist()]
        [0.0, 0.41, 1.0]
        >>> round(float(probability_of(torch.tensor(0.9), calibration, prior=0.0001)), 2)  # one of ten thousand people
        0.82
    """
    require_number("prior", prior, above=0, below=1)
    given = similarities.detach().double().cpu()
    if not bool((given.abs() <= 1 + 1e-5).all()):  # NaN is not; a cosine of float16 may be a little above 1
        raise ValueError("similarities must be cosines in [-1, 1]: one is out of range or NaN")
    evidence = torch.from_numpy(np.asarray(np.interp(given.numpy(), calibration.similarities, calibration.evidence)))
    return torch.sigmoid(evidence + log(prior) - log(1 - prior)).reshape(given.shape)


def verdict_of(
    similarity: float, calibration: Calibration, false_match_rate: float | None = None, false_non_match_rate: float | None = None
) -> Verdict:
    """Whether a cosine says that it is the same person: unknown between the two thresholds of the chosen rates.

    Of pairs of two people at most ``false_match_rate`` are called the same, of pairs of one person at most ``false_non_match_rate``
    different. Where a network is so good that the thresholds cross, what lies between them is unknown too.

    Args:
        similarity: In [-1, 1].
        calibration: Of the network that gave it.
        false_match_rate: See ``Calibration.match_at``.
        false_non_match_rate: See ``Calibration.non_match_at``.

    Raises:
        ValueError: The calibration has no threshold at one of the rates, or the cosine is no number in [-1, 1].

    Example:
        >>> from lightning_reid.inference import calibration_path, read_calibration
        >>> from lightning_reid.metrics import verdict_of
        >>> calibration = read_calibration(calibration_path("generated-people-small"))
        >>> [verdict_of(cosine, calibration) for cosine in (0.1, 0.25, 0.9)]
        ['different', 'unknown', 'same']
    """
    require_number("similarity", similarity, low=-1 - 1e-5, high=1 + 1e-5)
    ends = (calibration.non_match_at(false_non_match_rate).similarity, calibration.match_at(false_match_rate).similarity)
    if similarity > max(ends):
        return "same"
    return "different" if similarity < min(ends) else "unknown"


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean over the bins, by their shares, of how far the mean probability is from the share of pairs of one person; in [0, 1]."""
    return sum(one.share * abs(one.predicted - one.observed) for one in bins)


def _require_interval(name: str, value: Interval, low: float) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, got {shown(value)}")
    for end in value:
        require_number(name, end, low=low, high=1)
    if value[0] > value[1]:
        raise ValueError(f"{name} must not fall, got {value[0]:g} to {value[1]:g}")
