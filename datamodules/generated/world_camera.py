"""Cameras along the street of a generated world: where they stand, and where in their pictures somebody on the ground appears."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.wide_camera import WideCamera, draw_wide_camera

CODE = 11
"""Separates the random streams of the world from those of the presets."""
NEAR, FAR = 5.0, 11.0
"""How far from a camera people walk, meters along the street's breadth."""
BODY = 1.72
"""Height of the average person, meters."""
WALL = 14.0
"""How far from a camera the ground ends in its picture, meters."""
LEAST_DEPTH = 0.5
"""Meters in front of the camera; who is nearer, or behind it, is not in the picture."""
LEAST_INSIDE = 0.3
"""Share of a person that the picture must hold for them to be seen by the camera."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sight:
    """Where some people appear in a picture; each field is a float64 array of one shape.

    Attributes:
        x: Column of the ground point, pixels.
        y: Its row, pixels.
        top: Row of the top of the head, pixels.
        across: Pixels of one body height across.
        depth: Distance along the camera's axis, meters; below ``LEAST_DEPTH`` the other fields mean nothing.
        pitch: How far the camera looks down on them, radians.
        yaw: Direction of walking as in ``Projection``, radians.
    """

    x: Floats
    y: Floats
    top: Floats
    across: Floats
    depth: Floats
    pitch: Floats
    yaw: Floats

    def share_inside(self, image_size: tuple[int, int]) -> Floats:
        """How much of each person the picture holds, 0..1, as rectangles overlap; ``image_size`` is (height, width) in pixels."""
        half, (height, width) = 0.15 * self.across, image_size
        across = np.minimum(self.x + half, width) - np.maximum(self.x - half, 0.0)
        upright = np.minimum(self.y, height) - np.maximum(self.top, 0.0)
        whole = 2.0 * half * (self.y - self.top)
        share = np.maximum(across, 0.0) * np.maximum(upright, 0.0) / np.where(whole > 0.0, whole, 1.0)
        return np.where(self.depth > LEAST_DEPTH, share, 0.0)


@dataclass(frozen=True)
class WorldCamera:
    """A pinhole camera above the ground. Meters, radians, pixels.

    Attributes:
        x: Where it stands along the street.
        y: Where it stands across.
        height: Above the ground.
        heading: Direction in which it looks, 0 along the street, pi/2 across it.
        pitch: How far it looks down.
        focal: Focal length.
        image_size: (height, width) of its pictures.
        wide: How it records.
    """

    x: float
    y: float
    height: float
    heading: float
    pitch: float
    focal: float
    image_size: tuple[int, int]
    wide: WideCamera

    def row(self, distance: float, up: float = 0.0) -> float:
        """Row of a point straight ahead, ``distance`` away on the ground and ``up`` above it, meters."""
        return self.image_size[0] / 2 + self.focal * math.tan(math.atan2(self.height - up, distance) - self.pitch)

    def sight(self, x: Floats, y: Floats, heading: Floats, body: Floats) -> Sight:
        """Find where people appear in its pictures.

        Args:
            x: Where they stand along the street, meters.
            y: Across.
            heading: Direction of walking, radians.
            body: Their heights, meters.
        """
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        dx, dy = x - self.x, y - self.y
        ahead, right = dx * cos + dy * sin, dx * sin - dy * cos
        middle, (column, ground, depth) = body / 2, self._pixel(ahead, right, np.zeros_like(body))
        _, top, _ = self._pixel(ahead, right, body)
        _, _, depth_of_middle = self._pixel(ahead, right, middle)
        bearing = np.arctan2(dy, dx)
        away = heading - bearing  # 0 walks straight away from the camera
        return Sight(
            x=column,
            y=ground,
            top=top,
            across=self.focal * body / depth_of_middle,
            depth=depth,
            pitch=np.arctan2(self.height - middle, np.hypot(ahead, right)),
            yaw=np.arctan2(-np.sin(away), -np.cos(away)),
        )

    def _pixel(self, ahead: Floats, right: Floats, up: Floats) -> tuple[Floats, Floats, Floats]:
        """Column, row and distance along the axis."""
        cos, sin, down = math.cos(self.pitch), math.sin(self.pitch), self.height - up
        depth = np.maximum(ahead * cos + down * sin, 1e-3)
        height, width = self.image_size
        return width / 2 + self.focal * right / depth, height / 2 + self.focal * (down * cos - ahead * sin) / depth, depth


@dataclass(frozen=True)
class Street:
    """Where cameras stand and people walk; x runs along the street, y across it, in meters.

    Attributes:
        cameras: In the order of their views along the street.
        views: From where to where each of them sees the street, in x; apart, unless the world is one of overlapping views.
        gaps: Places in x before the first view, between two of them, and behind the last.
        breadth: From where to where people walk, in y.
    """

    cameras: tuple[WorldCamera, ...]
    views: tuple[tuple[float, float], ...]
    gaps: tuple[float, ...]
    breadth: tuple[float, float] = (NEAR, FAR)


def build_street(seed: int, num_cameras: int, image_size: tuple[int, int], *, overlapping: bool) -> Street:
    """Place cameras along a street, on its two sides in turn.

    Args:
        seed: Of everything.
        num_cameras: How many.
        image_size: (height, width) of their pictures, pixels.
        overlapping: Whether each shares a third to three fifths of its view with the next, else four to eight meters lie between.
    """
    cameras, views, end = [], [], 0.0
    for number in range(num_cameras):
        rng = stream(seed, CODE, Stream.CAMERA, number)
        camera = _draw_camera(rng, image_size, opposite=number % 2 == 1)
        low, high = _view_of(camera)
        gap = -rng.uniform(1 / 3, 0.6) * (high - low) if overlapping else rng.uniform(4.0, 8.0)
        start = end + gap if number else 0.0
        cameras.append(replace(camera, x=start - low))
        end = start + high - low
        views.append((start, end))
    between = [(before[1] + after[0]) / 2 for before, after in pairwise(views)]
    beside = 3.0  # nobody who stands here can be seen, and nobody comes into being or turns in sight
    return Street(tuple(cameras), tuple(views), (-beside, *between, max(end for _, end in views) + beside))


def _draw_camera(rng: np.random.Generator, image_size: tuple[int, int], *, opposite: bool) -> WorldCamera:
    """A camera at x = 0 that sees the feet of those nearest to it, and the heads of those farthest away."""
    height, focal = rng.uniform(3.0, 4.0), rng.uniform(1.25, 1.5) * image_size[0]
    pitch = math.atan2(height, NEAR) - 0.85 * math.atan2(image_size[0] / 2, focal)
    heading = (-1.0 if opposite else 1.0) * math.pi / 2 + math.radians(rng.uniform(-12.0, 12.0))
    wide = draw_wide_camera(rng)
    return WorldCamera(0.0, NEAR + FAR if opposite else 0.0, height, heading, pitch, focal, image_size, wide)


def _view_of(camera: WorldCamera) -> tuple[float, float]:
    """From where to where along the street the camera sees somebody, at whatever distance they walk."""
    along, across = np.meshgrid(np.arange(-40.0, 40.0, 0.1), np.linspace(NEAR, FAR, 7))
    body = np.full_like(along, BODY)
    seen = along[camera.sight(along, across, np.zeros_like(along), body).share_inside(camera.image_size) >= LEAST_INSIDE]
    return float(seen.min()), float(seen.max())
