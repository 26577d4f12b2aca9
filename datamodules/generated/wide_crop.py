"""One crop of the wide preset: somebody passes a camera, a detector draws a box, a recorder compresses it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.camera import Camera, Weather, expose
from lightning_reid.datamodules.generated.figure import draw_figure
from lightning_reid.datamodules.generated.foreground import cast_shadow, draw_occluder
from lightning_reid.datamodules.generated.pose import Arms, walking_pose
from lightning_reid.datamodules.generated.surface import Canvas, Projection
from lightning_reid.datamodules.generated.wide_box import Box, box_of, rows_of
from lightning_reid.datamodules.generated.wide_camera import WideCamera, of_the_moment
from lightning_reid.datamodules.generated.wide_place import UNIT, Place, cut_light, cut_noise, cut_place

OVERSAMPLING = 2
"""Canvas pixels per crop pixel."""


@dataclass(frozen=True)
class Walk:
    """What stays the same while one person passes one camera.

    Attributes:
        person: Who, with the stride of the moment: some stand, some run.
        camera: What the camera is like where they walk.
        rows: Height of the crops, pixels.
        yaw: Direction, radians.
        phase: Gait phase of the first crop, radians.
        arms: What the arms do.
        left: Where in the place, 0..1.
        weather: The light of the hour.
    """

    person: Person
    camera: Camera
    rows: int
    yaw: float
    phase: float
    arms: Arms
    left: float
    weather: Weather


def begin_walk(rng: np.random.Generator, wide: WideCamera, person: Person) -> Walk:
    """Draw how a person passes a camera."""
    rows = rows_of(rng, wide)
    pace = rng.choice((0.15, 1.0, 1.0, 1.0, 1.35))
    yaws = wide.camera.yaws
    return Walk(
        person=replace(person, stride=person.stride * pace),
        camera=of_the_moment(rng, wide, rows),
        rows=rows,
        yaw=math.radians(yaws[int(rng.integers(len(yaws)))] + rng.normal(0.0, 22.0)),
        phase=rng.uniform(0.0, math.tau),
        arms=cast(Arms, rng.choice(get_args(Arms), p=(0.7, 0.14, 0.06, 0.1))),
        left=rng.random(),
        weather=Weather(
            exposure=math.exp(rng.normal(0.0, 0.14)),
            gain=tuple(np.exp(rng.normal(0.0, 0.03, 3)).tolist()),
            blur=math.exp(rng.normal(0.0, 0.35)),
        ),
    )


def take_crop(
    rng: np.random.Generator,
    wide: WideCamera,
    place: Place,
    walk: Walk,
    passer_by: Callable[[int], Person],
    step: float,
    company: np.random.Generator | None = None,
) -> NDArray[np.uint8]:
    """Take one crop of a walk.

    Args:
        rng: Source of what differs between the crops of a walk.
        wide: The camera.
        place: What it looks at.
        walk: Who passes, how.
        passer_by: Somebody else by number, 0 or more.
        step: How far they have walked, in steps of a visit.
        company: Source of who and what is in front and beside, where that lasts for several crops; ``None`` takes ``rng``.

    Returns:
        ``[height, width, 3]`` uint8 RGB, in the size at which the camera recorded it.
    """
    camera, phase, company = walk.camera, walk.phase + 1.9 * step, company or rng
    light = 1 if camera.sun > 0 else -1
    view = Projection((0.0, 0.0), 1.0, 1.0, walk.yaw + rng.normal(0.0, 0.2), math.radians(camera.pitch), light)
    box = box_of(rng, wide, walk.person, walking_pose(walk.person, phase, walk.arms), view)
    height, width = walk.rows, max(12, round(walk.rows * box.width / box.height))
    scale = OVERSAMPLING * height / box.height
    view = replace(view, ground=(-box.left * scale, -box.top * scale), scale_x=OVERSAMPLING * width / box.width, scale_y=scale)
    canvas = _scene(rng, wide, place, walk, box, (OVERSAMPLING * height, OVERSAMPLING * width), step)
    others = _passers_by(company, wide, camera, view, passer_by)
    for other, theirs, gait in others:
        if theirs.ground[1] <= view.ground[1]:
            draw_figure(canvas, other, theirs, gait)
    cast_shadow(canvas, view.ground, scale, camera.sun)
    draw_figure(canvas, walk.person, view, phase, walk.arms)
    for other, theirs, gait in others:
        if theirs.ground[1] > view.ground[1]:
            draw_figure(canvas, other, theirs, gait)
    if company.random() < wide.occlusion:
        draw_occluder(company, canvas, camera.occluders[int(company.integers(len(camera.occluders)))])
    return _record(rng, wide, place, walk, canvas, (height, width))


def _scene(rng: np.random.Generator, wide: WideCamera, place: Place, walk: Walk, box: Box, shape: tuple[int, int], step: float) -> Canvas:
    rows = UNIT * box.height / wide.zoom
    window = (max(8, round(rows)), max(4, round(rows * box.width / box.height)))
    left = math.fmod(walk.left + 0.07 * step + rng.normal(0.0, 0.01), 1.0)
    return cut_place(place, left, walk.camera.horizon, window, shape)


def _passers_by(
    rng: np.random.Generator, wide: WideCamera, camera: Camera, view: Projection, passer_by: Callable[[int], Person]
) -> list[tuple[Person, Projection, float]]:
    """Nobody, one or two others beside the person, behind or in front, each with where and with the phase of their gait."""
    if rng.random() >= wide.crowd:
        return []
    others = []
    for _ in range(1 + int(rng.random() < 0.3)):
        away = rng.uniform(-0.25, 0.09)  # in front of the person only by a little: mostly hidden people are no use to learn from
        side = rng.choice((-1.0, 1.0)) * rng.uniform(0.14, 0.34) * (1.25 if away > 0 else 1.0)
        near = 1.0 + 0.8 * away
        ground = (view.ground[0] + side * view.scale_y, view.ground[1] + away * view.scale_y * max(0.25, view.tilt + 0.1))
        yaw = math.radians(camera.yaws[int(rng.integers(len(camera.yaws)))] + rng.normal(0.0, 25.0))
        theirs = replace(view, ground=ground, scale_x=near * view.scale_x, scale_y=near * view.scale_y, yaw=yaw)
        others.append((passer_by(int(rng.integers(512))), theirs, rng.uniform(0.0, math.tau)))
    return others


def _record(
    rng: np.random.Generator, wide: WideCamera, place: Place, walk: Walk, canvas: Canvas, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """What the camera and its recorder make of a scene."""
    camera = walk.camera
    if rng.random() < wide.motion:
        reach = 1 + round(canvas.shape[0] * rng.uniform(0.008, 0.035))
        canvas = np.asarray(cv2.blur(canvas, (reach, 1 + reach // 4) if rng.random() < 0.75 else (1 + reach // 4, reach)), np.uint8)
    weather = replace(walk.weather, exposure=walk.weather.exposure * math.exp(rng.normal(0.0, 0.06)))
    picture = expose(canvas, camera, weather, cut_light(rng, place, shape), cut_noise(rng, camera.noise, shape))
    if wide.sharpening > 0.05:
        soft = cv2.blur(picture, (3, 3))
        picture = np.asarray(cv2.addWeighted(picture, 1.0 + wide.sharpening, soft, -wide.sharpening, 0.0), np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, camera.quality]
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture[:, :, ::-1], quality)[1], cv2.IMREAD_COLOR_RGB))
