"""Shadows on the ground, and what stands in front of people."""

from __future__ import annotations

import cv2
import numpy as np

from lightning_reid.datamodules.generated.camera import Occluder
from lightning_reid.datamodules.generated.surface import Canvas, Color, Point, draw_line, fill, shaded
from lightning_reid.datamodules.generated.vehicles import draw_bicycle


def cast_shadow(canvas: Canvas, foot: Point, size: float, sun: float) -> None:
    """Darken the ground beside a person's feet.

    Args:
        canvas: ``[H, W, 3]`` uint8 RGB, drawn on.
        foot: Pixel the person stands on.
        size: The person's height, pixels.
        sun: -1..1 as in ``Camera``: the stronger, the longer and darker the shadow, away from the sun.
    """
    light, strength = (1 if sun > 0 else -1), abs(sun)
    reach = 0.05 + 0.22 * strength
    center = (foot[0] - light * 0.7 * reach * size, foot[1] - 0.01 * size)
    top, bottom = max(0, int(foot[1] - 0.15 * size)), min(canvas.shape[0], int(foot[1] + 0.12 * size))
    if top >= bottom:  # the crop ends above the feet
        return
    ground = canvas[top:bottom]
    dark = np.zeros(ground.shape[:2], np.uint8)
    axes = (round((reach + 0.06) * size), max(1, round(0.028 * size)))
    cv2.ellipse(dark, (round(center[0]), round(center[1] - top)), axes, light * 6.0, 0, 360, 255, cv2.FILLED)
    cv2.copyTo(cv2.convertScaleAbs(ground, alpha=0.72 - 0.22 * strength), dark, ground)


def draw_occluder(rng: np.random.Generator, canvas: Canvas, kind: Occluder) -> None:
    """Draw something in front of the person that hides at most about a third of the crop."""
    height, width = canvas.shape[:2]
    tone = shaded((128, 128, 126), rng.uniform(0.35, 1.4))
    x = width * (rng.uniform(0.0, 0.3) if rng.random() < 0.5 else rng.uniform(0.7, 1.0))
    if kind == "pole":
        draw_pole(canvas, x, rng.uniform(0.02, 0.07) * width, tone)
    elif kind == "hedge":
        _draw_hedge(rng, canvas, height * rng.uniform(0.72, 0.88))
    elif kind == "bike":
        draw_bicycle(canvas, (x, height * rng.uniform(0.94, 1.02)), rng.uniform(0.34, 0.46) * height, tone)
    elif kind == "sign":
        _draw_sign(rng, canvas)
    else:
        for share in np.arange(rng.uniform(0.5, 0.6), 1.0, 0.13):
            draw_line(canvas, (0, height * share), (width, height * (share + 0.03)), 0.013 * height, tone)


def draw_pole(canvas: Canvas, x: float, half: float, tone: Color) -> None:
    """Draw a pole at column ``x``, ``half`` its half width in pixels, from the top of the canvas to its bottom."""
    height = canvas.shape[0]
    fill(canvas, [(x - half, 0), (x + half, 0), (x + half, height), (x - half, height)], tone)
    fill(canvas, [(x, 0), (x + half, 0), (x + half, height), (x, height)], shaded(tone, 0.7))


def _draw_hedge(rng: np.random.Generator, canvas: Canvas, top: float) -> None:
    height, width = canvas.shape[:2]
    for i in range(26):
        center = (round(width * (i + rng.random()) / 26), round(top + rng.uniform(0.0, 0.3) * (height - top)))
        cv2.circle(canvas, center, round(0.07 * width), shaded((70, 92, 50), rng.uniform(0.6, 1.3)), cv2.FILLED)
    low = top + 0.15 * (height - top)
    fill(canvas, [(0, low), (width, low), (width, height), (0, height)], (58, 78, 44))


def _draw_sign(rng: np.random.Generator, canvas: Canvas) -> None:
    """Something flat of any color at a side or at the bottom: a sign, a crate, a counter."""
    height, width = canvas.shape[:2]
    red, green, blue = rng.uniform(20, 245, 3).tolist()
    span, tall = rng.uniform(0.25, 0.9) * width, rng.uniform(0.1, 0.35) * height
    left = rng.choice((-0.4, 0.75)) * width + rng.uniform(-0.1, 0.1) * width
    top = rng.uniform(0.3, 0.9) * height
    if rng.random() < 0.4:
        left, span, top = -1.0, 2.0 * width, rng.uniform(0.72, 0.92) * height
    fill(canvas, [(left, top), (left + span, top), (left + span, top + tall), (left, top + tall)], (red, green, blue))
    ink = shaded((red, green, blue), 0.6 if red > 120 else 1.7)
    for line in (0.3, 0.6):
        row = top + line * tall
        draw_line(canvas, (left + 0.1 * span, row), (left + 0.8 * span, row), 0.08 * tall, ink)
