"""What happens in one tracklet, frame by frame: where the person goes and where the box is.

Lengths are in heights of the box that a faultless detector would draw, x to the right and y down from the middle of the person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.camera import Camera
from lightning_reid.datamodules.generated.photograph import Visit, begin_visit
from lightning_reid.datamodules.generated.tracklet_course import Course, draw_course
from lightning_reid.datamodules.generated.tracklet_crossings import Clothes, Passerby, draw_companion
from lightning_reid.datamodules.generated.tracklet_presets import TrackletNoise, TrackletPreset, Wander


@dataclass(frozen=True)
class Box:
    """Where the box is: its middle, and its height (``zoom``)."""

    x: float
    y: float
    zoom: float


@dataclass(frozen=True)
class Script:
    """What happens in one tracklet: who walks how, and what the box does.

    Attributes:
        visit: Who walks how; its ``left`` and ``horizon`` tell where.
        nobody: Whether the labeled person is not drawn: the detector was wrong.
        noise: How the box wanders.
        gait: Radians of the gait a frame.
        speed: How far the background slides, a frame.
        turn: Change of the yaw.
        light: Natural logarithm of the exposure.
        across: Error of the box, box widths.
        along: Error of the box, box heights.
        share: Natural logarithm of the person's share of the box's height.
        stretch: Width of everything relative to its height: boxes of other shapes were resized.
        companion: Who walks beside.
    """

    visit: Visit
    nobody: bool
    noise: TrackletNoise
    gait: float
    speed: float
    turn: Course
    light: Course
    across: Course
    along: Course
    share: Course
    stretch: float
    companion: Passerby | None

    def box(self, rng: np.random.Generator, frame: int, target: Passerby | None, aspect: float) -> Box:
        """The box of a frame, on ``target`` instead of the labeled person where there is one; ``aspect`` is width by height."""
        noise = self.noise
        jitter = rng.normal(0.0, (noise.across.jitter, noise.along.jitter, noise.scale.jitter))
        zoom = math.exp(-self.share(frame) - jitter[2])
        x, y = 0.0, 0.0
        if target is not None:
            zoom *= target.size
            x, y = target.x(frame), target.nearer + 0.5 * (1.0 - target.size)
        return Box(x - (self.across(frame) + jitter[0]) * aspect * zoom, y - (self.along(frame) + jitter[1]) * zoom, zoom)


def draw_script(
    rng: np.random.Generator, preset: TrackletPreset, camera: Camera, person: Person, clothes: Clothes, *, nobody: bool, missed: bool
) -> Script:
    """Draw what happens in a tracklet from its beginning to its end.

    Args:
        rng: Source of randomness.
        preset: The domain.
        camera: Which camera films.
        person: Whom the tracklet is labeled with.
        clothes: What several people own.
        nobody: Leave that person out.
        missed: Place the box badly all the time.
    """
    noise, visit = preset.noise, begin_visit(rng, camera, person)
    across, along, share = (_draw_error(rng, wander) for wander in (noise.across, noise.along, noise.scale))
    if missed:
        side = 1.0 if rng.random() < 0.5 else -1.0
        across = draw_course(rng, side * rng.uniform(0.3, 0.7), 0.1)
        along = draw_course(rng, rng.uniform(-0.3, 0.4), 0.05)
        share = draw_course(rng, math.log(rng.uniform(0.6, 1.8)), 0.1)
    companion = draw_companion(rng, preset, visit, clothes) if rng.random() < noise.companion else None
    return Script(
        visit=visit,
        nobody=nobody,
        noise=noise,
        gait=rng.uniform(0.32, 0.5),
        speed=0.03 * math.sin(visit.yaw) + rng.normal(0.0, 0.006),
        turn=draw_course(rng, 0.0, rng.normal(0.0, 0.15)),
        light=draw_course(rng, 0.0, rng.normal(0.0, 0.07)),
        across=across,
        along=along,
        share=Course(share.middle + math.log(noise.share), share.amplitude, share.period, share.phase),
        stretch=float(np.exp(rng.normal(0.02, preset.domain.stretch))),
        companion=companion,
    )


def _draw_error(rng: np.random.Generator, wander: Wander) -> Course:
    # a sine of amplitude a has standard deviation a / sqrt(2)
    return draw_course(rng, rng.normal(0.0, wander.steady), rng.normal(0.0, math.sqrt(2.0) * wander.drift))
