"""Joints of a walking person from the phase of the gait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lightning_reid.datamodules.generated.appearance import Person

SHOULDER, HIP, KNEE, ANKLE = 0.785, 0.53, 0.285, 0.045
"""Heights of the joints above the ground, in body heights."""
UPPER_ARM, FOREARM = 0.15, 0.135
"""Lengths in body heights."""

Arms = Literal["swing", "pockets", "folded", "phone"]
Joint = tuple[float, float, float]
"""Body coordinates, see ``Projection``."""


@dataclass(frozen=True)
class Pose:
    """Joints in body coordinates; index 0 is the person's left, 1 the right."""

    legs: tuple[tuple[Joint, Joint, Joint], tuple[Joint, Joint, Joint]]
    arms: tuple[tuple[Joint, Joint, Joint], tuple[Joint, Joint, Joint]]


def walking_pose(person: Person, phase: float, arms: Arms = "swing") -> Pose:
    """Hip, knee and ankle, and shoulder, elbow and hand, of both sides.

    Args:
        person: Build and stride.
        phase: Radians of the gait cycle; arms swing against the legs, the swinging knee bends.
        arms: Whether they do, or hold a phone (the right one), are folded, or have their hands in pockets.
    """
    opposite = phase + math.pi
    return Pose((_leg(person, 1, phase), _leg(person, -1, opposite)), (_arm(person, 1, opposite, arms), _arm(person, -1, phase, arms)))


def along(start: Joint, stop: Joint, share: float) -> Joint:
    """The point that lies ``share`` of the way from ``start`` to ``stop``."""
    return (start[0] + share * (stop[0] - start[0]), start[1] + share * (stop[1] - start[1]), start[2] + share * (stop[2] - start[2]))


def _leg(person: Person, side: int, phase: float) -> tuple[Joint, Joint, Joint]:
    swing = 0.36 * person.stride * math.sin(phase)
    bend = 0.06 + 0.65 * person.stride * max(0.0, math.cos(phase)) * (0.6 if math.sin(phase) > 0 else 1.0)
    hip = (side * 0.048 * person.build, HIP, 0.0)
    thigh, shin = HIP - KNEE, KNEE - ANKLE
    knee = (hip[0], hip[1] - thigh * math.cos(swing), thigh * math.sin(swing))
    ankle = (hip[0] * 0.85, knee[1] - shin * math.cos(swing - bend), knee[2] + shin * math.sin(swing - bend))
    return hip, knee, ankle


def _arm(person: Person, side: int, phase: float, arms: Arms) -> tuple[Joint, Joint, Joint]:
    swing = 0.42 * person.stride * math.sin(phase)
    bend = 0.3 + 0.25 * max(0.0, math.sin(phase))
    reach = side * 0.108 * person.shoulders * (0.6 + 0.4 * person.build)
    shoulder = (reach, SHOULDER, 0.0)
    if arms == "pockets":
        return shoulder, (reach * 1.4, SHOULDER - 0.97 * UPPER_ARM, -0.045), (reach * 0.95, HIP - 0.01, 0.03)
    if arms == "folded":
        return shoulder, (reach * 1.25, SHOULDER - 0.95 * UPPER_ARM, 0.04), (-0.2 * reach, 0.645 + 0.01 * side, 0.1)
    if arms == "phone" and side < 0:
        return shoulder, (reach * 1.35, SHOULDER - 0.7 * UPPER_ARM, 0.09), (side * 0.055, 0.9, 0.06)
    elbow = (reach * 1.22, shoulder[1] - UPPER_ARM * math.cos(swing), UPPER_ARM * math.sin(swing))
    hand = (reach * 1.2, elbow[1] - FOREARM * math.cos(swing + bend), elbow[2] + FOREARM * math.sin(swing + bend))
    return shoulder, elbow, hand
