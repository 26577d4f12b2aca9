"""Who and what crosses a tracklet: people who walk by or beside, and things in front.

Lengths are in heights of the box that a faultless detector would draw, x to the right and y down from the middle of the labeled person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lightning_reid.datamodules.generated.appearance import Bottom, Person, Top, draw_person
from lightning_reid.datamodules.generated.camera import Camera
from lightning_reid.datamodules.generated.photograph import Visit
from lightning_reid.datamodules.generated.surface import Color, shaded
from lightning_reid.datamodules.generated.tracklet_course import Course, draw_course
from lightning_reid.datamodules.generated.tracklet_presets import TrackletNoise, TrackletPreset

STRETCH = 16
"""Frames for which somebody's crossing is drawn at once: a tracklet may have any number of them."""

Clothes = tuple[tuple[Top, ...], tuple[Bottom, ...]]


@dataclass(frozen=True)
class Passerby:
    """A second person who crosses the picture while the first is followed.

    Attributes:
        person: Who.
        yaw: Direction of walking, radians.
        phase: Of the gait, radians at frame 0.
        across: How far beside the labeled person, without ``speed``.
        speed: How fast that changes, a frame.
        meeting: Frame of the nearest approach.
        nearer: How far the feet are below those of the labeled person; below 0 for who walks behind.
        followed: Frames, from the first to before the second, in which the box is on this person.
    """

    person: Person
    yaw: float
    phase: float
    across: Course
    speed: float
    meeting: int
    nearer: float
    followed: tuple[int, int] = (0, 0)

    @property
    def size(self) -> float:
        """Factor of the height: who is nearer to the camera looks larger."""
        return 1.0 + 1.2 * self.nearer

    def x(self, frame: int) -> float:
        """Place across the picture in a frame, measured from the labeled person."""
        return self.across(frame) + self.speed * (frame - self.meeting)


@dataclass(frozen=True)
class Obstacle:
    """A thing in front of everybody that moves through the picture; ``half`` is its half width."""

    kind: Literal["pole", "wall", "bike"]
    half: float
    top: float
    tone: Color
    speed: float
    meeting: float

    def x(self, frame: int) -> float:
        """Place of its middle across the picture in a frame."""
        return self.speed * (frame - self.meeting)


@dataclass(frozen=True)
class Stretch:
    """What is drawn for 16 frames at once; most of it happens within them. ``companion_followed`` as ``Passerby.followed``."""

    passing: tuple[Passerby, ...]
    obstacles: tuple[Obstacle, ...]
    companion_followed: tuple[int, int]


def draw_companion(rng: np.random.Generator, preset: TrackletPreset, visit: Visit, clothes: Clothes) -> Passerby:
    """Draw somebody who walks beside the person of ``visit`` all the time."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    return Passerby(
        person=draw_person(rng, preset.domain.wardrobe, *clothes),
        yaw=visit.yaw + rng.normal(0.0, 0.15),
        phase=rng.uniform(0.0, math.tau),
        across=draw_course(rng, side * rng.uniform(0.17, 0.32), rng.normal(0.0, 0.03)),
        speed=0.0,
        meeting=0,
        nearer=_draw_depth(rng, preset.noise),
    )


def draw_stretch(rng: np.random.Generator, preset: TrackletPreset, camera: Camera, clothes: Clothes, first: int) -> Stretch:
    """Draw what happens in the 16 frames from ``first``."""
    noise = preset.noise
    passing = (_draw_passing(rng, preset, camera, clothes, first),) if rng.random() < noise.passing else ()
    obstacles = (_draw_obstacle(rng, first),) if rng.random() < noise.obstacle else ()
    begin = first + int(rng.integers(STRETCH - 8))
    followed = (begin, begin + int(rng.integers(3, 9))) if rng.random() < noise.switch else (0, 0)
    return Stretch(passing, obstacles, followed)


def _draw_depth(rng: np.random.Generator, noise: TrackletNoise) -> float:
    return rng.uniform(0.02, 0.09) if rng.random() < noise.in_front else -rng.uniform(0.02, 0.12)


def _draw_passing(rng: np.random.Generator, preset: TrackletPreset, camera: Camera, clothes: Clothes, first: int) -> Passerby:
    meeting = first + int(rng.integers(STRETCH))
    side = 1.0 if rng.random() < 0.5 else -1.0
    speed = side * rng.uniform(0.035, 0.1)
    begin = meeting + int(rng.integers(-1, 2))
    toward = 90.0 if side > 0 else 270.0  # who crosses is mostly seen from the side
    usual = camera.yaws[int(rng.integers(len(camera.yaws)))]
    return Passerby(
        person=draw_person(rng, preset.domain.wardrobe, *clothes),
        yaw=math.radians((toward if rng.random() < 0.6 else usual) + rng.normal(0.0, 16.0)),
        phase=rng.uniform(0.0, math.tau),
        across=Course(rng.normal(0.0, 0.03), 0.0, 1.0, 0.0),
        speed=speed,
        meeting=meeting,
        nearer=_draw_depth(rng, preset.noise),
        followed=(begin, begin + int(rng.integers(3, 9))) if rng.random() < preset.noise.switch else (0, 0),
    )


def _draw_obstacle(rng: np.random.Generator, first: int) -> Obstacle:
    kinds: tuple[Literal["pole", "wall", "bike"], ...] = ("pole", "wall", "bike")
    kind = kinds[int(rng.integers(3))]
    half = {"pole": rng.uniform(0.025, 0.09), "wall": rng.uniform(0.15, 0.4), "bike": rng.uniform(0.15, 0.22)}[kind]
    base: Color = (70.0, 92.0, 50.0) if rng.random() < 0.4 else (140.0, 136.0, 130.0)
    return Obstacle(
        kind=kind,
        half=half,
        top=rng.uniform(0.0, 0.2),
        tone=shaded(base, rng.uniform(0.4, 1.3)),
        speed=(1.0 if rng.random() < 0.5 else -1.0) * rng.uniform(0.05, 0.12),
        meeting=first + rng.uniform(0.0, STRETCH),
    )
