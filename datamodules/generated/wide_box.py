"""Boxes of the wide preset: where a figure lies in its crop, and how large the crop is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.pose import Pose
from lightning_reid.datamodules.generated.surface import Projection
from lightning_reid.datamodules.generated.wide_camera import WideCamera

SIDES = (0.26, 0.72)
"""Least and greatest width of a box over its height."""
LEAST_ROWS, MOST_ROWS = 36, 256
"""Of a crop."""


@dataclass(frozen=True)
class Box:
    """A box around somebody who stands at the origin, in body heights: ``left`` and ``top`` as pixels run, ``width`` and ``height``."""

    left: float
    top: float
    width: float
    height: float


def box_of(rng: np.random.Generator, wide: WideCamera, person: Person, pose: Pose, view: Projection) -> Box:
    """Draw the box that the detector of a camera puts around somebody.

    Args:
        rng: Source of what differs from box to box.
        wide: How its boxes lie.
        person: Who.
        pose: Their joints.
        view: From where, of scale 1 with the ground at the origin.
    """
    left, top, right, bottom = _extent(person, pose, view)
    low, high = wide.fill
    height = (bottom - top) / rng.uniform(low, max(low, high))
    width = (right - left) / rng.uniform(low, max(low, high)) if wide.tight else rng.uniform(0.38, 0.52) * height
    dx, dy = rng.normal(0.0, wide.jitter, 2) * height
    if rng.random() < wide.miss:
        height *= rng.uniform(0.6, 0.85) if rng.random() < 0.5 else rng.uniform(1.1, 1.5)
        dx, dy = dx + rng.uniform(-0.1, 0.1) * height, dy + rng.uniform(-0.18, 0.25) * height
    width = float(np.clip(width * math.exp(rng.normal(0.0, 1.5 * wide.jitter)), SIDES[0] * height, SIDES[1] * height))
    return Box((left + right - width) / 2 + dx, (top + bottom - height) / 2 + dy, width, height)


def rows_of(rng: np.random.Generator, wide: WideCamera) -> int:
    """Draw the height of the crops of a visit, pixels: how far away the person walks."""
    return int(np.clip(round(wide.height * math.exp(rng.normal(0.0, wide.spread))), LEAST_ROWS, MOST_ROWS))


def _extent(person: Person, pose: Pose, view: Projection) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the figure."""
    half = 0.115 * person.shoulders * (0.4 + 0.6 * person.build)
    toes = [(ankle[0], 0.01, ankle[2] + 0.085) for _, _, ankle in pose.legs]
    points = [joint for limb in (*pose.legs, *pose.arms) for joint in limb[1:]] + toes + [(half, 0.76, 0.0), (-half, 0.76, 0.0)]
    if person.bag == "backpack":
        points.append((0.0, 0.68, -0.15))
    pixels = [view(*point) for point in points]
    across = [x for x, _ in pixels]
    return min(across) - 0.025, view(0.0, 1.005, 0.0)[1], max(across) + 0.025, max(y for _, y in pixels) + 0.015
