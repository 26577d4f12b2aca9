"""What verbs say of a similarity: how probable it is that two pictures show one person, and a verdict."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lightning_reid.metrics import Calibration, probability_of, verdict_of

OF_NOBODY = "calibrated on generated people: of real ones it is far too sure; calibrate on people of your own cameras"
NOT_TAKEN = (
    "similarity only: the calibration that is kept with this network is of generated people, and of real ones far too sure (of pairs of two"
    " real people, 20 of 100 were called the same where 1 was allowed). Calibrate on people of your own cameras (lightning-reid calibrate)"
)


class Judge(NamedTuple):
    """A calibration, and how probable it is beforehand that two pictures show one person.

    Attributes:
        calibration: Of the network that gave the similarities.
        prior: In (0, 1).
    """

    calibration: Calibration
    prior: float

    def probability(self, similarity: float) -> float:
        """How probable it is that two pictures of this cosine, which rounding may have put beyond 1, show one person, in (0, 1)."""
        return float(probability_of(torch.tensor(_cosine(similarity), dtype=torch.float64), self.calibration, self.prior))

    def verdict(self, similarity: float) -> str:
        """``"same"``, ``"different"`` or ``"unknown"``, by the calibration's usual thresholds."""
        above, below = self.calibration.match_at(None), self.calibration.non_match_at(None)
        return verdict_of(_cosine(similarity), self.calibration, above.rate, below.rate)


def is_of_nobody(calibration: Calibration) -> bool:
    """Whether it was found on generated people, of whom real ones differ by more than it knows."""
    return calibration.data.startswith("generated-people")


def shown_probability(probability: float) -> str:
    """A probability to three digits, and never as certain."""
    return f"{probability:.3g}" if 0.001 <= probability <= 0.999 else "> 0.999" if probability > 0.5 else "< 0.001"


def notes_on(calibration: Calibration) -> list[str]:
    """What whoever reads a probability should know of the people behind it."""
    return [OF_NOBODY] if is_of_nobody(calibration) else []


def _cosine(similarity: float) -> float:
    return min(1.0, max(-1.0, similarity))
