"""Put a person into a place, frame the box as the domain's boxes are, and let the camera record it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.appearance import Person, draw_bottom, draw_person, draw_top
from lightning_reid.datamodules.generated.backdrop import cut_backdrop, draw_backdrop
from lightning_reid.datamodules.generated.camera import Camera, Weather, expose, light_field
from lightning_reid.datamodules.generated.figure import draw_figure
from lightning_reid.datamodules.generated.foreground import cast_shadow, draw_occluder
from lightning_reid.datamodules.generated.presets import DomainPreset
from lightning_reid.datamodules.generated.surface import Canvas, Projection

OVERSAMPLING = 2
"""Canvas pixels per crop pixel: figures are drawn larger and shrunk, which smooths their edges."""


@dataclass(frozen=True)
class Visit:
    """What stays the same while one person walks past one camera; angles in radians, ``left`` and ``horizon`` as shares."""

    person: Person
    yaw: float
    phase: float
    left: float
    weather: Weather
    horizon: float


@dataclass(frozen=True)
class Site:
    """A camera with the place it looks at.

    Attributes:
        camera: How it records.
        backdrop: From ``draw_backdrop``.
        light: From ``light_field``.
        noise: ``[2 height, 2 width, 3]`` int16, cut at random.
        height: Of a crop, pixels.
        width: Of a crop, pixels.
    """

    camera: Camera
    backdrop: Canvas
    light: NDArray[np.float32]
    noise: NDArray[np.int16]
    height: int
    width: int


def build_site(rng: np.random.Generator, camera: Camera, height: int, width: int) -> Site:
    """Draw the place of a camera, for crops of ``height`` x ``width`` pixels."""
    backdrop = draw_backdrop(rng, camera, OVERSAMPLING * height)
    light = light_field(rng, camera, height, width)
    noise = np.rint(rng.normal(0.0, camera.noise, (2 * height, 2 * width, 3))).astype(np.int16)
    return Site(camera, backdrop, light, noise, height, width)


def begin_visit(rng: np.random.Generator, camera: Camera, person: Person) -> Visit:
    """Draw how one person passes one camera."""
    return Visit(
        person=person,
        yaw=math.radians(camera.yaws[int(rng.integers(len(camera.yaws)))] + rng.normal(0.0, 16.0)),
        phase=rng.uniform(0.0, math.tau),
        left=rng.random(),
        weather=Weather(
            exposure=float(np.exp(rng.normal(0.0, 0.08))),
            gain=tuple(np.exp(rng.normal(0.0, 0.02, 3)).tolist()),
            blur=float(np.exp(rng.normal(0.0, 0.2))),
        ),
        horizon=camera.horizon + rng.normal(0.0, 0.04),
    )


def take_photograph(
    rng: np.random.Generator, preset: DomainPreset, site: Site, visit: Visit, step: int, *, missed: bool
) -> NDArray[np.uint8]:
    """Take one crop of a visit.

    Args:
        rng: Source of what differs between the crops of a visit.
        preset: How boxes are placed and how crowded the place is.
        site: Where.
        visit: Who, walking how.
        step: Number of the crop within the visit: the person walks on.
        missed: Whether the box is badly placed in any case.

    Returns:
        ``[height, width, 3]`` uint8 RGB.
    """
    camera, height, width = site.camera, site.height, site.width
    canvas_shape = (OVERSAMPLING * height, OVERSAMPLING * width)
    canvas = cut_backdrop(site.backdrop, visit.left + 0.05 * step + rng.normal(0.0, 0.01), visit.horizon, canvas_shape)
    view = _frame_person(rng, preset, camera, visit, canvas_shape, missed=missed)
    phase = visit.phase + 1.9 * step + rng.normal(0.0, 0.3)
    if rng.random() < preset.crowd:
        _draw_passer_by(rng, preset, canvas, camera, view)
    cast_shadow(canvas, view.ground, view.scale_y, camera.sun)
    draw_figure(canvas, visit.person, view, phase)
    if rng.random() < preset.occlusion:
        draw_occluder(rng, canvas, camera.occluders[int(rng.integers(len(camera.occluders)))])
    weather = Weather(visit.weather.exposure * float(np.exp(rng.normal(0.0, 0.05))), visit.weather.gain, visit.weather.blur)
    return expose(canvas, camera, weather, _cut(rng, site.light, height, width), _cut(rng, site.noise, height, width))


def _cut(rng: np.random.Generator, field: NDArray, height: int, width: int) -> NDArray:
    top, left = int(rng.integers(field.shape[0] - height + 1)), int(rng.integers(field.shape[1] - width + 1))
    return field[top : top + height, left : left + width]


def _frame_person(
    rng: np.random.Generator, preset: DomainPreset, camera: Camera, visit: Visit, canvas_shape: tuple[int, int], *, missed: bool
) -> Projection:
    """Place the person in the crop as well as the domain's boxes are."""
    rows, columns = canvas_shape
    share, pitch = rng.uniform(*preset.fill), math.radians(camera.pitch)
    size = rows * share / (math.cos(pitch) + 0.1 * math.sin(pitch))
    dx, dy = rng.normal(0.0, preset.jitter, 2)
    if missed or rng.random() < preset.miss:
        size *= rng.uniform(1.15, 1.9) if rng.random() < 0.6 else rng.uniform(0.5, 0.75)
        dx, dy = dx + rng.uniform(-0.16, 0.16), dy + rng.uniform(-0.25, 0.35)
    foot = rows * (0.5 + dy) + 0.5 * size * math.cos(pitch)
    # a box that fits tall and short people alike hides most of their height: what is left is a hint
    size *= visit.person.height**0.4
    stretch = float(np.exp(rng.normal(0.02, preset.stretch)))
    yaw = visit.yaw + rng.normal(0.0, 0.12)
    return Projection((columns / 2 + dx * rows, foot), size * stretch, size, yaw, pitch, 1 if camera.sun > 0 else -1)


def _draw_passer_by(rng: np.random.Generator, preset: DomainPreset, canvas: Canvas, camera: Camera, view: Projection) -> None:
    """Somebody else, further away and beside the person."""
    wardrobe = preset.wardrobe
    other = draw_person(rng, wardrobe, (draw_top(rng, wardrobe),), (draw_bottom(rng, wardrobe, "tshirt"),))
    size = view.scale_y * rng.uniform(0.6, 0.95)
    side = 1 if rng.random() < 0.5 else -1
    ground = (view.ground[0] + side * rng.uniform(0.16, 0.3) * view.scale_y, view.ground[1] - rng.uniform(0.02, 0.12) * view.scale_y)
    yaw = math.radians(camera.yaws[int(rng.integers(len(camera.yaws)))])
    draw_figure(canvas, other, Projection(ground, size, size, yaw, view.pitch, view.light), rng.uniform(0, math.tau))
