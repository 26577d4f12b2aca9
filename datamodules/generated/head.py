"""Draw head, face, hair and hats."""

from __future__ import annotations

import math

import cv2

from lightning_reid.datamodules.generated.appearance import HEADGEAR, Person
from lightning_reid.datamodules.generated.surface import Canvas, Projection, draw_limb, fill_ellipse, shaded


def draw_head(canvas: Canvas, person: Person, view: Projection) -> None:
    """Draw neck, scarf, skull, face and the peak of a cap."""
    across, up = view.scale_x, view.scale_y
    neck = (0.03 * across, 0.028 * across)
    draw_limb(canvas, view(0.0, 0.82, 0.0), view(0.0, 0.88, 0.01), neck, shaded(person.skin, 0.85), view.light)
    if person.scarf is not None:
        fill_ellipse(canvas, view(0.0, 0.835, 0.01), (0.06 * across, 0.025 * up), person.scarf)
    center = view(0.0, 0.935, 0.012)
    fill_ellipse(canvas, center, (0.05 * across, 0.066 * up), person.skin if person.hair_style == "bald" else person.hair)
    if view.frontal > -0.45:
        _draw_face(canvas, person, view, *center)
    if person.hair_style == "hat":
        fill_ellipse(canvas, view(0.0, 0.958, 0.01), (0.088 * across, (0.014 + 0.05 * view.tilt) * up), shaded(person.hair, 0.85))
    if person.hair_style == "cap" and view.frontal > -0.3:
        peak = (0.03 * across, 0.03 * across * max(0.4, abs(view.frontal)))
        draw_limb(canvas, view(0.0, 0.955, 0.03), view(0.0, 0.945, 0.1), peak, shaded(person.hair, 0.8), view.light)


def draw_falling_hair(canvas: Canvas, person: Person, view: Projection) -> None:
    """Draw hair that falls over neck or back; seen from the front the body, drawn later, hides most of it."""
    across, up = view.scale_x, view.scale_y
    if person.hair_style in ("long", "bob", "headscarf"):
        crown, tips = view(0.0, 0.935, -0.01), view(0.0, 0.76 if person.hair_style == "long" else 0.85, -0.035)
        draw_limb(canvas, crown, tips, (0.053 * across, 0.046 * across), person.hair, view.light)
    elif person.hair_style == "ponytail":
        knot, tips = view(0.0, 0.955, -0.045), view(0.0, 0.82, -0.07)
        draw_limb(canvas, knot, tips, (0.022 * up, 0.012 * up), shaded(person.hair, 0.9), view.light)


def _draw_face(canvas: Canvas, person: Person, view: Projection, x: float, y: float) -> None:
    across, up, frontal = view.scale_x, view.scale_y, view.frontal
    half = 0.043 * across * (0.62 + 0.38 * max(0.0, frontal))
    shift = view.sideways * 0.02 * across  # the face turns with the body: away from the middle of the head
    low = 0.022 if person.hair_style in HEADGEAR else 0.014
    fill_ellipse(canvas, (x + shift, y + low * up), (half, 0.052 * up), person.skin)
    if frontal > 0.2:
        for eye in (-1, 1):
            spot = (round(x + shift * 1.6 + eye * 0.017 * across * frontal), round(y + 0.012 * up))
            cv2.circle(canvas, spot, max(1, round(0.006 * up)), shaded(person.skin, 0.3), cv2.FILLED)
    if person.hair_style in ("bob", "long"):
        side = x - math.copysign(0.04 * across, view.sideways or 1.0)
        fill_ellipse(canvas, (side, y + 0.02 * up), (0.013 * up, 0.05 * up), person.hair)
