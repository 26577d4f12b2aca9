"""Draw one frame of a tracklet: the place behind the box, who stands in it, what is in front, and where each person can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.backdrop import SKYLINE
from lightning_reid.datamodules.generated.camera import Weather, expose
from lightning_reid.datamodules.generated.figure import draw_figure
from lightning_reid.datamodules.generated.foreground import cast_shadow, draw_pole
from lightning_reid.datamodules.generated.photograph import OVERSAMPLING, Site
from lightning_reid.datamodules.generated.surface import Canvas, Projection, fill, shaded
from lightning_reid.datamodules.generated.tracklet_crossings import Obstacle, Passerby, Stretch
from lightning_reid.datamodules.generated.tracklet_script import Box, Script
from lightning_reid.datamodules.generated.vehicles import draw_bicycle

LEAST_VISIBLE = 1 / 3
"""Share of a person that must be inside the box and not hidden for a detector to be expected to find them."""

Role = Literal["person", "other"]


@dataclass(frozen=True)
class Seen:
    """A visible person: ``box`` is x0, y0, x1, y1 in pixels of the crop, ``role`` whether it is the labeled one."""

    box: tuple[float, float, float, float]
    role: Role


@dataclass(frozen=True)
class TrackletFrame:
    """``image [height, width, 3]`` uint8 RGB, and the people who can be seen in it."""

    image: NDArray[np.uint8]
    people: tuple[Seen, ...]


@dataclass(frozen=True)
class _Window:
    """What the box shows: canvas pixels are ``rows`` to the box's height."""

    box: Box
    rows: int
    columns: int
    stretch: float

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        unit = self.rows / self.box.zoom
        return self.columns / 2 + (x - self.box.x) * unit * self.stretch, self.rows / 2 + (y - self.box.y) * unit


@dataclass(frozen=True)
class _Walker:
    """Somebody on the canvas."""

    person: Person
    view: Projection
    phase: float
    role: Role

    def share_inside(self, canvas: Canvas) -> float:
        """How much of the person the canvas holds, as rectangles overlap."""
        height, width = canvas.shape[:2]
        half, (x, bottom), top = 0.15 * self.view.scale_x, self.view.ground, self.view(0.0, 1.0, 0.0)[1]
        across, along = min(x + half, width) - max(x - half, 0.0), min(bottom, height) - max(top, 0.0)
        return float(max(across, 0.0) * max(along, 0.0) / (2.0 * half * (bottom - top)))


def draw_frame(rng: np.random.Generator, site: Site, script: Script, stretches: tuple[Stretch, ...], frame: int) -> TrackletFrame:
    """Draw frame number ``frame`` of a tracklet.

    Args:
        rng: Source of what differs from frame to frame: the jitter of the box, and sensor noise.
        site: Where.
        script: Who walks how, and how the box follows.
        stretches: What crosses: the stretch of 16 frames that holds the frame in the middle, between its neighbors.
        frame: From 0.
    """
    passing = [passer for stretch in stretches for passer in stretch.passing]
    box = script.box(rng, frame, _followed(script, passing, stretches[len(stretches) // 2], frame), site.width / site.height)
    window = _Window(box, OVERSAMPLING * site.height, OVERSAMPLING * site.width, script.stretch)
    canvas = _look_at(site, script, window, frame)
    walkers = _place_everybody(site, script, passing, window, frame)
    for walker in walkers:
        cast_shadow(canvas, walker.view.ground, walker.view.scale_y, site.camera.sun)
    people = _paint(canvas, walkers, window, [obstacle for stretch in stretches for obstacle in stretch.obstacles], frame)
    return TrackletFrame(_record(rng, site, script, canvas, frame), people)


def _followed(script: Script, passing: list[Passerby], stretch: Stretch, frame: int) -> Passerby | None:
    """Whom the box is on, if not on the labeled person."""
    for passer in passing:
        if passer.followed[0] <= frame < passer.followed[1]:
            return passer
    begin, end = stretch.companion_followed
    return script.companion if begin <= frame < end else None


def _look_at(site: Site, script: Script, window: _Window, frame: int) -> Canvas:
    """The background of the box; it slides while the person walks, and mirrors where the backdrop ends."""
    unit, visit, box = window.rows, script.visit, window.box
    start = 0.5 + visit.left * (site.backdrop.shape[1] / unit - 1.0)
    scale = box.zoom / script.stretch
    left = (start + script.speed * frame + box.x) * unit - 0.5 * scale * window.columns
    top = (SKYLINE - visit.horizon + 0.5 + box.y - 0.5 * box.zoom) * unit
    place = np.array([[scale, 0.0, left], [0.0, box.zoom, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(site.backdrop, place, (window.columns, window.rows), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def _place_everybody(site: Site, script: Script, passing: list[Passerby], window: _Window, frame: int) -> list[_Walker]:
    """Those whom the box may show, the farthest first."""
    visit, camera = script.visit, site.camera
    pitch, light = math.radians(camera.pitch), 1 if camera.sun > 0 else -1
    tall = 1.0 / (math.cos(pitch) + 0.1 * math.sin(pitch))  # seen from above, feet towards the camera reach below the ground point
    unit, ground = window.rows / window.box.zoom * tall, 0.5 * math.cos(pitch) * tall

    def walker(person: Person, x: float, nearer: float, size: float, yaw: float, phase: float, role: Role) -> _Walker:
        up = unit * size * person.height**0.4  # boxes that fit tall and short people alike hide most of their height
        return _Walker(person, Projection(window.pixel(x, ground + nearer), up * script.stretch, up, yaw, pitch, light), phase, role)

    others = [passer for passer in (*passing, script.companion) if passer is not None]
    placed = [
        (one.nearer, walker(one.person, one.x(frame), one.nearer, one.size, one.yaw, one.phase + script.gait * frame, "other"))
        for one in others
    ]
    if not script.nobody:
        yaw, phase = visit.yaw + script.turn(frame), visit.phase + script.gait * frame
        placed.append((0.0, walker(visit.person, 0.0, 0.0, 1.0, yaw, phase, "person")))
    reach = 0.4 * window.rows / window.box.zoom
    near = [(depth, one) for depth, one in placed if -reach < one.view.ground[0] < window.columns + reach]
    return [one for _, one in sorted(near, key=lambda pair: pair[0])]


def _paint(canvas: Canvas, walkers: list[_Walker], window: _Window, obstacles: list[Obstacle], frame: int) -> tuple[Seen, ...]:
    """Draw people and obstacles, and tell who remains visible."""
    owners = np.zeros(canvas.shape[:2], np.uint8)  # 0 for everything that is nobody
    drawn = []
    for number, walker in enumerate(walkers, start=1):
        before = canvas.copy()
        draw_figure(canvas, walker.person, walker.view, walker.phase)
        changed = _changed(before, canvas)
        owners[changed > 0] = number
        drawn.append(changed)
    if obstacles:
        before = canvas.copy()
        for obstacle in obstacles:
            _draw_obstacle(canvas, obstacle, window, frame)
        owners[_changed(before, canvas) > 0] = 0
    people = []
    for number, (walker, changed) in enumerate(zip(walkers, drawn), start=1):
        inside, visible = cv2.countNonZero(changed), int(np.count_nonzero(owners == number))
        if inside and walker.share_inside(canvas) * visible / inside >= LEAST_VISIBLE:
            x, y, width, height = (side / OVERSAMPLING for side in cv2.boundingRect(changed))
            people.append(Seen((x, y, x + width, y + height), walker.role))
    return tuple(people)


def _changed(before: Canvas, after: Canvas) -> NDArray[np.uint8]:
    return np.asarray(cv2.transform(cv2.absdiff(before, after), np.ones((1, 3))))


def _draw_obstacle(canvas: Canvas, obstacle: Obstacle, window: _Window, frame: int) -> None:
    x, top = window.pixel(obstacle.x(frame), obstacle.top)
    unit = window.rows / window.box.zoom
    half = obstacle.half * unit
    if not -half < x < window.columns + half:
        return
    if obstacle.kind == "pole":
        draw_pole(canvas, x, half, obstacle.tone)
    elif obstacle.kind == "wall":
        fill(canvas, [(x - half, top), (x + half, top), (x + half, window.rows), (x - half, window.rows)], obstacle.tone)
        cap = top + 0.03 * unit
        fill(canvas, [(x - half, top), (x + half, top), (x + half, cap), (x - half, cap)], shaded(obstacle.tone, 1.2))
    else:
        draw_bicycle(canvas, (x, window.pixel(0.0, 0.53)[1]), 2.0 * half, obstacle.tone)


def _record(rng: np.random.Generator, site: Site, script: Script, canvas: Canvas, frame: int) -> NDArray[np.uint8]:
    """Let the camera record the scene: the light stays with the place, the noise is new in every frame."""
    height, width, weather = site.height, site.width, script.visit.weather
    top = int(script.visit.phase / math.tau * height)
    span = site.light.shape[1] - width
    place = (script.visit.left * span + script.speed * frame * height) % (2 * span)
    left = int(place if place <= span else 2 * span - place)
    row, column = rng.integers((height + 1, width + 1))
    light, noise = site.light[top : top + height, left : left + width], site.noise[row : row + height, column : column + width]
    now = Weather(weather.exposure * math.exp(script.light(frame)), weather.gain, weather.blur)
    return np.asarray(expose(canvas, site.camera, now, light, noise))
