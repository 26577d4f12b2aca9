"""Drawing of a body in three dimensions with filled polygons: a projection, tubes for trunk and skirt, tapered limbs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
Color = tuple[float, float, float]
"""Red, green, blue in 0..255."""
Point = tuple[float, float]


def shaded(color: Color, factor: float) -> Color:
    """The color, each channel times ``factor``."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def fill(canvas: Canvas, points: Sequence[Point], color: Color) -> None:
    """Fill the polygon of ``points`` (x right, y down, in pixels)."""
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], color)


def fill_ellipse(canvas: Canvas, center: Point, radii: Point, color: Color) -> None:
    """Fill an upright ellipse with one color; ``center`` and ``radii`` are (x, y) in pixels."""
    cv2.ellipse(canvas, (round(center[0]), round(center[1])), (round(radii[0]), round(radii[1])), 0, 0, 360, color, cv2.FILLED)


def draw_line(canvas: Canvas, start: Point, stop: Point, width: float, color: Color) -> None:
    """Draw a line of ``width`` pixels, at least one."""
    cv2.line(canvas, (round(start[0]), round(start[1])), (round(stop[0]), round(stop[1])), color, max(1, round(width)))


@dataclass(frozen=True)
class Projection:
    """Parallel projection of body coordinates onto the canvas.

    Body coordinates are in body heights: x to the person's left, y up from the ground, z forward.

    Attributes:
        ground: Pixel on which the person stands.
        scale_x: Pixels of one body height across; differs from ``scale_y`` where a box was stretched to the crop's shape.
        scale_y: Pixels of one body height upwards.
        yaw: Radians; 0 faces the camera, pi shows the back, pi/2 walks to the right.
        pitch: Radians by which the camera looks down.
        light: +1 where the lit side is the right of the image, -1 where it is the left.
    """

    ground: Point
    scale_x: float
    scale_y: float
    yaw: float
    pitch: float = 0.0
    light: int = 1

    @cached_property
    def _angles(self) -> tuple[float, float, float, float]:
        return math.cos(self.yaw), math.sin(self.yaw), math.cos(self.pitch), math.sin(self.pitch)

    @property
    def frontal(self) -> float:
        """Cosine of the yaw: 1 from the front, 0 from the side, -1 from behind."""
        return self._angles[0]

    @property
    def sideways(self) -> float:
        """Sine of the yaw: 1 where the person walks to the right."""
        return self._angles[1]

    @property
    def tilt(self) -> float:
        """Sine of the pitch: 0 from the side, 1 from above."""
        return self._angles[3]

    def depth(self, x: float, z: float) -> float:
        """How far a point lies towards the camera, in body heights."""
        cos, sin, _, _ = self._angles
        return z * cos - x * sin

    def __call__(self, x: float, y: float, z: float) -> Point:
        """Pixel (x right, y down) of a body point."""
        cos, sin, upright, tilt = self._angles
        across, towards = x * cos + z * sin, z * cos - x * sin
        return self.ground[0] + self.scale_x * across, self.ground[1] - self.scale_y * (y * upright - towards * tilt)


@dataclass(frozen=True)
class Tube:
    """A garment around the vertical axis: rings of elliptic section.

    Attributes:
        rings: From top to hem, ``(y, half width, half depth)`` in body heights.
    """

    rings: tuple[tuple[float, float, float], ...]

    @property
    def length(self) -> float:
        """From the top to the hem, in body heights."""
        return self.rings[0][0] - self.rings[-1][0]

    def ring(self, level: float) -> tuple[float, float, float]:
        """The ring at ``level`` in 0 (top) .. 1 (hem)."""
        y = self.rings[0][0] - level * self.length
        below = next((i for i, ring in enumerate(self.rings) if i and y >= ring[0] - 1e-9), len(self.rings) - 1)
        upper, lower = self.rings[below - 1], self.rings[below]
        mix = (upper[0] - y) / max(upper[0] - lower[0], 1e-9)
        return y, upper[1] + mix * (lower[1] - upper[1]), upper[2] + mix * (lower[2] - upper[2])

    def point(self, view: Projection, level: float, angle: float) -> Point:
        """Pixel of the surface point at ``level`` and ``angle`` (0 the front, pi the back, radians)."""
        y, half_width, half_depth = self.ring(level)
        return view(half_width * math.sin(angle), y, half_depth * math.cos(angle))

    def draw(self, canvas: Canvas, view: Projection, color: Color) -> None:
        """Fill the silhouette, its unlit side darker."""
        self._silhouette(canvas, view, shaded(color, 0.72), -1.0, 1.0)
        self._silhouette(canvas, view, color, *((-0.5, 1.0) if view.light > 0 else (-1.0, 0.5)))
        self._silhouette(canvas, view, shaded(color, 1.1), *((0.35, 0.75) if view.light > 0 else (-0.75, -0.35)))

    def _silhouette(self, canvas: Canvas, view: Projection, color: Color, start: float, stop: float) -> None:
        left, right = [], []
        for y, half_width, half_depth in self.rings:
            x0, y0 = view(0.0, y, 0.0)
            reach = view.scale_x * math.hypot(half_width * view.frontal, half_depth * view.sideways)
            left.append((x0 + start * reach, y0))
            right.append((x0 + stop * reach, y0))
        fill(canvas, left + right[::-1], color)
        sag = self.rings[-1][2] * view.scale_y * math.sin(view.pitch)  # seen from above the hem curves down in front
        if sag > 1.0:
            middle, half = (left[-1][0] + right[-1][0]) / 2, (right[-1][0] - left[-1][0]) / 2
            cv2.ellipse(canvas, (round(middle), round(left[-1][1])), (round(half), round(sag)), 0, 0, 180, color, cv2.FILLED)

    def patch(self, canvas: Canvas, view: Projection, levels: tuple[float, float], angles: tuple[float, float], color: Color) -> None:
        """Fill the visible part of the surface between two levels and two angles (radians; the second at least the first)."""
        middle, half = (angles[0] + angles[1]) / 2, (angles[1] - angles[0]) / 2
        facing = math.remainder(middle + view.yaw, math.tau)  # 0 where the patch looks into the camera
        start, stop = max(facing - half, -math.pi / 2), min(facing + half, math.pi / 2)
        if stop - start < 0.02:
            return
        steps = 2 if stop - start < 0.8 else 5
        turns = [start + (stop - start) * i / (steps - 1) - view.yaw for i in range(steps)]
        between = [] if levels[1] - levels[0] < 0.3 else [(levels[0] + levels[1]) / 2]
        outline = [(levels[0], turn) for turn in turns] + [(row, turns[-1]) for row in between]
        outline += [(levels[1], turn) for turn in reversed(turns)] + [(row, turns[0]) for row in between]
        fill(canvas, [self.point(view, *corner) for corner in outline], color)

    def dot(self, canvas: Canvas, view: Projection, level: float, angle: float, radius: float, color: Color) -> None:
        """Draw a round spot of ``radius`` body heights where it is visible."""
        if math.cos(angle + view.yaw) > 0.15:
            x, y = self.point(view, level, angle)
            cv2.circle(canvas, (round(x), round(y)), max(1, round(radius * view.scale_y)), color, cv2.FILLED)


def draw_limb(canvas: Canvas, start: Point, stop: Point, radii: Point, color: Color, light: int) -> None:
    """Draw a tapered limb with round ends, its unlit side darker.

    Args:
        canvas: ``[H, W, 3]`` uint8, drawn on.
        start: Pixel of the upper end.
        stop: Pixel of the lower end.
        radii: Half widths at the two ends, in pixels.
        color: Its lit color.
        light: +1 for light from the right, -1 from the left.
    """
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    nx, ny = dy / length, -dx / length  # unit normal, to the right of a limb that hangs down
    side = 1.0 if nx * light >= 0 else -1.0
    dark = shaded(color, 0.72)
    for (x, y), radius in ((start, radii[0]), (stop, radii[1])):
        cv2.circle(canvas, (round(x), round(y)), max(1, round(radius)), dark if radius > 3 else color, cv2.FILLED)
    for tone, inner in ((dark, -1.0), (color, -0.45)):
        a, b = side, inner * side
        corners = [
            (start[0] + a * nx * radii[0], start[1] + a * ny * radii[0]),
            (stop[0] + a * nx * radii[1], stop[1] + a * ny * radii[1]),
            (stop[0] + b * nx * radii[1], stop[1] + b * ny * radii[1]),
            (start[0] + b * nx * radii[0], start[1] + b * ny * radii[0]),
        ]
        fill(canvas, corners, tone)
