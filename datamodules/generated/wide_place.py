"""Places of the wide preset: backdrops with clutter in any tint, and the light that falls on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.backdrop import GROUNDS, SKYLINE, draw_backdrop
from lightning_reid.datamodules.generated.camera import Camera, light_field
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.surface import Canvas, draw_line, fill, fill_ellipse, shaded
from lightning_reid.datamodules.generated.wide_wardrobe import CODE

UNIT = 128
"""Rows of a backdrop that a person of zoom 1 takes up."""
NOISE_SHAPE = (320, 256)


@dataclass(frozen=True)
class Place:
    """What a camera looks at: ``backdrop`` ``[2.4 UNIT, 3.5 UNIT, 3]`` uint8 and ``light`` ``[H, W]`` float32 factors around 1."""

    backdrop: Canvas
    light: NDArray[np.float32]


def draw_place(seed: int, number: int, camera: Camera) -> Place:
    """Draw the place of camera ``number``."""
    rng = stream(seed, CODE, Stream.PLACE, number)
    backdrop = draw_backdrop(rng, camera, UNIT)
    _areas(rng, backdrop)
    _clutter(rng, backdrop)
    vivid, bright = rng.uniform(0.1, 0.9), math.exp(rng.normal(0.0, 0.3))
    tint = bright * np.exp(rng.normal(0.0, 0.06, 3))[:, None] * (vivid * np.eye(3) + (1.0 - vivid) / 3.0)
    light = light_field(rng, camera, UNIT, UNIT // 2)[:, :, 0]
    return Place(np.asarray(cv2.transform(backdrop, tint), np.uint8), np.ascontiguousarray(light))


def cut_place(place: Place, left: float, horizon: float, window: tuple[int, int], shape: tuple[int, int]) -> Canvas:
    """A window of a backdrop as a canvas.

    Args:
        place: From ``draw_place``.
        left: Position across, 0..1.
        horizon: Row of the horizon, in window heights.
        window: Height and width in rows and columns of the backdrop; clipped to what it has.
        shape: Height and width of the canvas.
    """
    rows, columns = min(window[0], place.backdrop.shape[0]), min(window[1], place.backdrop.shape[1])
    top = min(max(round(SKYLINE * UNIT - horizon * rows), 0), place.backdrop.shape[0] - rows)
    first = round(min(max(left, 0.0), 1.0) * (place.backdrop.shape[1] - columns))
    cut = place.backdrop[top : top + rows, first : first + columns]
    return np.asarray(cv2.resize(cut, shape[::-1], interpolation=cv2.INTER_LINEAR))


def cut_light(rng: np.random.Generator, place: Place, shape: tuple[int, int]) -> NDArray[np.float32]:
    """``[*shape, 3]`` float32: the light on a crop."""
    rows, columns = UNIT, UNIT // 2
    top, left = int(rng.integers(place.light.shape[0] - rows + 1)), int(rng.integers(place.light.shape[1] - columns + 1))
    light = cv2.resize(place.light[top : top + rows, left : left + columns], shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.merge((light, light, light)))


def cut_noise(rng: np.random.Generator, deviation: float, shape: tuple[int, int]) -> NDArray[np.int16]:
    """``[*shape, 3]`` int16 of sensor noise."""
    field = _noise(round(deviation))
    top, left = int(rng.integers(field.shape[0] - shape[0] + 1)), int(rng.integers(field.shape[1] - shape[1] + 1))
    return field[top : top + shape[0], left : left + shape[1]]


@lru_cache(maxsize=16)
def _noise(deviation: int) -> NDArray[np.int16]:
    return np.rint(np.random.default_rng(deviation).normal(0.0, deviation, (*NOISE_SHAPE, 3))).astype(np.int16)


def _areas(rng: np.random.Generator, backdrop: Canvas) -> None:
    """Parts of the ground that are another ground: a lawn beside a path, a road with its kerb, carpet, gravel."""
    height, width = backdrop.shape[:2]
    for _ in range(int(rng.integers(0, 5))):
        ground = shaded(list(GROUNDS.values())[int(rng.integers(len(GROUNDS)))], rng.uniform(0.5, 1.25))
        middle, slope, span = rng.uniform(0, width), rng.uniform(-1.5, 1.5), rng.uniform(0.2, 1.2) * UNIT
        top, low = SKYLINE * UNIT + rng.uniform(0.0, 0.6) * height, float(height)
        fan = 1.0 + rng.uniform(0.0, 1.0)
        foot = middle + slope * (low - top)
        corners = [(middle, top), (middle + span, top), (foot + fan * span, low), (foot, low)]
        fill(backdrop, corners, ground)
        if rng.random() < 0.5:
            draw_line(backdrop, corners[0], corners[3], rng.uniform(1.0, 6.0), shaded(ground, rng.choice((0.5, 1.7))))


def _clutter(rng: np.random.Generator, backdrop: Canvas) -> None:
    """Signs, posts, lines, boxes and people far away: what a background is full of and a camera's name does not tell."""
    height, width = backdrop.shape[:2]
    for _ in range(int(rng.integers(4, 40))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        color = rng.uniform(15, 240, 3)
        red, green, blue = (color.mean() + rng.uniform(0.2, 1.0) * (color - color.mean())).tolist()
        wide, tall = rng.uniform(0.02, 0.4, 2) * UNIT
        kind = rng.random()
        if kind < 0.35:
            slant = rng.uniform(-0.5, 0.5) * tall
            fill(backdrop, [(x, y), (x + wide, y + slant), (x + wide, y + tall + slant), (x, y + tall)], (red, green, blue))
        elif kind < 0.6:
            reach = rng.uniform(-1.0, 1.0, 2) * UNIT
            draw_line(backdrop, (x, y), (x + reach[0], y + reach[1]), rng.uniform(1.0, 6.0), (red, green, blue))
        elif kind < 0.8:
            fill_ellipse(backdrop, (x, y), (wide / 2, tall / 2), (red, green, blue))
        else:
            draw_line(backdrop, (x, y), (x, y - 2 * tall), rng.uniform(1.0, 8.0), (red, green, blue))
