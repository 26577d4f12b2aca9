"""Backgrounds as wide as a camera's field of view: a ground that runs to the horizon and what stands behind it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.camera import Back, Camera, Ground
from lightning_reid.datamodules.generated.surface import Canvas, Color, draw_line, fill, fill_ellipse, shaded
from lightning_reid.datamodules.generated.vehicles import draw_bicycle, draw_car

SKYLINE = 0.7
"""Row of the horizon in a backdrop, in crop heights."""
BACKDROP = (2.4, 3.5)
"""Height and width of a backdrop, in crop heights."""

GROUNDS: dict[Ground, Color] = {
    "paving": (158, 152, 144),
    "asphalt": (104, 104, 108),
    "lawn": (96, 122, 68),
    "tiles": (186, 170, 152),
    "floor": (150, 148, 150),
}
BACKS: dict[Back, Color] = {
    "brick": (142, 84, 66),
    "shop": (120, 128, 132),
    "trees": (84, 104, 62),
    "concrete": (166, 164, 158),
    "cars": (150, 156, 160),
    "bikes": (172, 162, 150),
    "wall": (176, 172, 164),
}


def draw_backdrop(rng: np.random.Generator, camera: Camera, unit: int) -> Canvas:
    """Draw the place a camera looks at.

    Args:
        rng: Source of randomness.
        camera: Its ``ground`` and ``back`` choose the place.
        unit: Height of a crop on the canvas, pixels.

    Returns:
        ``[2.4 unit, 3.5 unit, 3]`` uint8 RGB.
    """
    height, width = round(BACKDROP[0] * unit), round(BACKDROP[1] * unit)
    skyline = round(SKYLINE * unit)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:skyline] = shaded(BACKS[camera.back], rng.uniform(0.85, 1.1))
    canvas[skyline:] = shaded(GROUNDS[camera.ground], rng.uniform(0.85, 1.1))
    _draw_ground(rng, canvas, camera.ground, skyline, unit)
    _draw_back(rng, canvas, camera.back, skyline, unit)
    textured: NDArray[np.float64] = cv2.GaussianBlur(canvas, (0, 0), 0.006 * unit).astype(np.float64)
    for cell, amount in ((2, 4.0), (8, 6.0), (40, 8.0)):
        coarse = rng.standard_normal((height // cell, width // cell))
        textured += amount * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    return np.clip(textured, 0, 255).astype(np.uint8)


def cut_backdrop(backdrop: Canvas, left: float, horizon: float, shape: tuple[int, int]) -> Canvas:
    """Copy a crop's window out of a backdrop.

    Args:
        backdrop: From ``draw_backdrop``.
        left: Position across, 0..1.
        horizon: Row of the horizon in the window, in window heights; clipped to what the backdrop holds.
        shape: Height and width of the window, pixels.

    Returns:
        ``[*shape, 3]`` uint8, a copy to draw on.
    """
    height, width = shape
    column = round(min(max(left, 0.0), 1.0) * (backdrop.shape[1] - width))
    row = min(max(round((SKYLINE - horizon) * height), 0), backdrop.shape[0] - height)
    return backdrop[row : row + height, column : column + width].copy()


def _draw_ground(rng: np.random.Generator, canvas: Canvas, ground: Ground, skyline: int, unit: int) -> None:
    height, width = canvas.shape[:2]
    red, green, blue = canvas[-1, 0].tolist()
    tone: Color = (red, green, blue)
    if ground in ("paving", "tiles"):
        _draw_joints(canvas, skyline, (0.05 if ground == "tiles" else 0.09) * unit, 0.006 * unit, shaded(tone, 0.82))
    if ground == "asphalt":
        band = 0.02 * unit
        for x in rng.uniform(0, width, 4):
            foot = x + rng.uniform(-0.8, 0.8) * unit
            fill(canvas, [(x, skyline), (x + band, skyline), (foot + 3 * band, height), (foot, height)], (214, 210, 196))
    spots = 160 if ground == "lawn" else 30
    for x, y, size in zip(rng.uniform(0, width, spots), rng.uniform(skyline, height, spots), rng.uniform(0.01, 0.07, spots) * unit):
        fill_ellipse(canvas, (x, y), (2.2 * size, max(1.0, 0.6 * size)), shaded(tone, rng.uniform(0.86, 1.12)))
    if ground == "lawn":  # a gravel path
        fill(canvas, [(width * 0.3, skyline), (width * 0.4, skyline), (width * 0.75, height), (width * 0.35, height)], (170, 158, 134))


def _draw_joints(canvas: Canvas, skyline: int, gap: float, thick: float, tone: Color) -> None:
    """Joints between slabs: across they widen towards the viewer, lengthways they run to a vanishing point."""
    height, width = canvas.shape[:2]
    for i in range(1, 40):
        y = skyline + gap * i**1.25
        draw_line(canvas, (0, y), (width, y), thick, tone)
    for x in range(-width, 2 * width, round(gap * 2.2)):
        draw_line(canvas, (x, skyline), (width / 2 + (x - width / 2) * 3.0, height), thick, tone)


def _draw_back(rng: np.random.Generator, canvas: Canvas, back: Back, skyline: int, unit: int) -> None:
    width = canvas.shape[1]
    if back == "brick":
        for row in range(0, skyline, max(3, round(0.035 * unit))):
            draw_line(canvas, (0, row), (width, row), 1, shaded(BACKS["brick"], 1.25))
    if back in ("brick", "concrete", "shop"):
        _draw_windows(rng, canvas, back, skyline, unit)
    if back == "trees":
        _draw_trees(rng, canvas, skyline, unit)
    if back == "cars":
        for x in np.arange(0, width, 0.62 * unit):
            paint = shaded((200, 200, 205), rng.uniform(0.15, 1.1)) if rng.random() < 0.7 else (150.0, 34.0, 34.0)
            draw_car(canvas, (x + rng.uniform(0, 0.2) * unit, skyline + 0.08 * unit), 0.55 * unit, paint)
    if back == "bikes":
        for x in np.arange(0, width, 0.16 * unit):
            foot = (x, skyline + rng.uniform(0.0, 0.08) * unit)
            draw_bicycle(canvas, foot, 0.3 * unit, shaded((120, 120, 126), rng.uniform(0.3, 1.3)))


def _draw_trees(rng: np.random.Generator, canvas: Canvas, skyline: int, unit: int) -> None:
    width = canvas.shape[1]
    for _ in range(220):
        center = (round(rng.uniform(0, width)), round(rng.uniform(-0.1, 0.98) * skyline))
        green = shaded((76, 104, 52), rng.uniform(0.5, 1.5))
        cv2.circle(canvas, center, round(rng.uniform(0.02, 0.11) * unit), green, cv2.FILLED)
    for x in rng.uniform(0, width, 9):
        draw_line(canvas, (x, 0), (x + 0.03 * unit, skyline + 0.05 * unit), rng.uniform(0.02, 0.06) * unit, (62, 50, 42))


def _draw_windows(rng: np.random.Generator, canvas: Canvas, back: Back, skyline: int, unit: int) -> None:
    x, lintel, sill = 0.0, 0.2 * skyline, (0.97 if back == "shop" else 0.6) * skyline
    while x < canvas.shape[1]:
        span = rng.uniform(0.15, 0.5) * unit
        glass = shaded((92, 108, 120), rng.uniform(0.4, 1.5))
        fill(canvas, [(x, lintel), (x + span, lintel), (x + span, sill), (x, sill)], glass)
        if back == "shop" and rng.random() < 0.6:
            red, green, blue = rng.uniform(40, 235, 3).tolist()
            fill(canvas, [(x, 0.25 * lintel), (x + span, 0.25 * lintel), (x + span, lintel), (x, lintel)], (red, green, blue))
        x += span + rng.uniform(0.06, 0.4) * unit
