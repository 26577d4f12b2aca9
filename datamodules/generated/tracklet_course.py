"""Quantities that change smoothly from frame to frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Course:
    """A quantity that changes smoothly: ``middle + amplitude sin(2 pi frame / period + phase)``."""

    middle: float
    amplitude: float
    period: float
    phase: float

    def __call__(self, frame: int) -> float:
        """The value at a frame."""
        return self.middle + self.amplitude * math.sin(math.tau * frame / self.period + self.phase)


def draw_course(rng: np.random.Generator, middle: float, amplitude: float) -> Course:
    """A course that swings to and fro within 14 to 40 frames."""
    return Course(middle, amplitude, rng.uniform(14.0, 40.0), rng.uniform(0.0, math.tau))
