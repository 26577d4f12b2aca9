"""Cameras of the wide preset: everything that differs between real ones, drawn from its range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np

from lightning_reid.datamodules.generated.camera import Back, Camera, Ground, Occluder


@dataclass(frozen=True)
class WideCamera:
    """How one camera of the wide preset records, and how the boxes of its detector lie.

    Attributes:
        camera: Light, color, optics and noise; its ``pitch`` and ``yaws`` are the middle of what differs between visits.
        height: Median height of its crops, pixels.
        spread: Standard deviation of the logarithm of that height: near people and far ones.
        tight: Whether boxes fit the figure of the moment; else they are upright rectangles of one shape.
        fill: Least and greatest share of a box that the person takes up.
        jitter: Standard deviation of a box's misplacement, in box heights.
        miss: Probability of a badly placed box.
        occlusion: Probability that something stands in front.
        crowd: Probability that somebody else is in the crop.
        motion: Probability of motion blur.
        sharpening: Of the recorder, 0 for none.
        zoom: How large the place appears, relative to its backdrop.
    """

    camera: Camera
    height: float
    spread: float
    tight: bool
    fill: tuple[float, float]
    jitter: float
    miss: float
    occlusion: float
    crowd: float
    motion: float
    sharpening: float
    zoom: float


def draw_wide_camera(rng: np.random.Generator) -> WideCamera:
    """Draw a camera: some good, most mediocre, a few bad."""
    poor = float(rng.beta(1.2, 2.2))  # what is cheap is blurred, noisy and compressed at once
    warmth, tint = rng.normal(0.0, 0.07), rng.normal(0.0, 0.025)
    yaw = rng.uniform(0.0, 360.0)
    return WideCamera(
        camera=Camera(
            ground=cast(Ground, rng.choice(get_args(Ground))),
            back=cast(Back, rng.choice(get_args(Back))),
            horizon=rng.uniform(-0.7, 0.35),
            pitch=float(np.clip(rng.gamma(3.0, 6.0), 2.0, 48.0)),
            yaws=(yaw, yaw + 180.0, yaw + rng.uniform(50.0, 130.0)),
            gain=(math.exp(warmth), math.exp(tint), math.exp(-warmth)),
            exposure=math.exp(rng.normal(0.0, 0.2)),
            gamma=rng.uniform(0.8, 1.5),
            haze=float(rng.beta(1.0, 6.0)) * 0.3,
            saturation=rng.uniform(0.55, 1.25),
            sun=float(np.clip(rng.normal(0.0, 0.45), -1.0, 1.0)),
            resolution=1.0 - 0.45 * poor * rng.random(),
            blur=2.2 * poor * rng.random(),
            noise=float(rng.integers(1, 3 + round(6 * poor))),
            quality=round(np.clip(92 - 70 * poor * rng.random() ** 0.5, 18, 95)),
            occluders=tuple(cast(Occluder, kind) for kind in rng.choice(get_args(Occluder), 2, replace=False)),
            traffic=1.0,
        ),
        height=math.exp(rng.uniform(math.log(56.0), math.log(180.0))),
        spread=rng.uniform(0.08, 0.3),
        tight=bool(rng.random() < 0.6),
        fill=(rng.uniform(0.72, 0.9), rng.uniform(0.92, 1.02)),
        jitter=0.05 * float(rng.beta(1.5, 3.0)),
        miss=0.06 * rng.random(),
        occlusion=0.3 * rng.random(),
        crowd=0.4 * rng.random(),
        motion=0.35 * rng.random(),
        sharpening=max(0.0, rng.normal(0.3, 0.6)),
        zoom=math.exp(rng.normal(0.0, 0.25)),
    )


def of_the_moment(rng: np.random.Generator, wide: WideCamera, height: int) -> Camera:
    """The camera during one visit: it looks down more steeply on those who are near; ``height`` is that of the crop, pixels."""
    near = height / wide.height
    camera = wide.camera
    return replace(
        camera,
        pitch=float(np.clip(camera.pitch * near**0.7 + rng.normal(0.0, 2.0), 0.0, 55.0)),
        horizon=camera.horizon * near + rng.normal(0.0, 0.05),
        sun=float(np.clip(camera.sun + rng.normal(0.0, 0.15), -1.0, 1.0)),
    )
