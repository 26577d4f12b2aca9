"""Draw tops and skirts as surfaces around the body."""

from __future__ import annotations

import math

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.pattern import ALL_ROUND, draw_pattern
from lightning_reid.datamodules.generated.surface import Canvas, Projection, Tube, shaded

TRUNK_BULK = {"coat": 1.14, "jacket": 1.12, "hoodie": 1.08, "vest": 1.14, "parka": 1.2, "robe": 1.1}
PLEATS = (-1.2, -0.4, 0.4, 1.2, 2.0, 2.8, 3.6, 4.4)
"""Angles around a skirt, radians."""


def trunk_of(person: Person) -> Tube:
    """The top as a tube from the neck to its hem."""
    hem, bulk = person.top.hem, TRUNK_BULK.get(person.top.kind, 1.0)
    girth = person.build * bulk
    yoke = person.shoulders * (0.5 + 0.5 * bulk)
    rings = [
        (0.855, 0.035, 0.03),
        (0.832, 0.072 * yoke, 0.042 * girth),
        (0.81, 0.103 * yoke, 0.054 * girth),
        (0.78, 0.115 * yoke, 0.064 * girth),
        (0.72, 0.104 * person.shoulders * (0.4 + 0.6 * girth), 0.072 * girth),
        (0.62, 0.092 * girth, 0.066 * girth),
        (0.53, 0.1 * girth, 0.07 * girth),
    ]
    if hem < 0.53:
        spread = girth * (1.0 + 0.9 * (0.53 - hem))
        rings.append((hem, 0.102 * spread, 0.076 * spread))
    return Tube(tuple(rings))


def draw_top(canvas: Canvas, person: Person, view: Projection, trunk: Tube) -> None:
    """Draw trunk and pattern, then what makes the kind of top: neckline, open front or buttons, hood and pocket."""
    top = person.top
    trunk.draw(canvas, view, top.color)
    draw_pattern(canvas, trunk, view, top)
    if top.open_front:
        trunk.patch(canvas, view, (0.04, 0.92), (-0.42, 0.42), top.inner)
        for edge in (-0.46, 0.42):
            trunk.patch(canvas, view, (0.04, 1.0), (edge, edge + 0.06), shaded(top.color, 0.6))
    elif top.kind in ("coat", "jacket", "shirt", "vest", "parka"):
        trunk.patch(canvas, view, (0.05, 1.0), (-0.04, 0.04), shaded(top.color, 0.55))
    if top.kind in ("tank", "tshirt", "dress"):
        trunk.patch(canvas, view, (0.0, 0.1 if top.kind == "tshirt" else 0.16), (-0.7, 0.7), person.skin)
    if top.kind in ("hoodie", "parka"):
        trunk.patch(canvas, view, (0.0, 0.2), (math.pi - 1.0, math.pi + 1.0), shaded(top.color, 0.7))
    if top.kind == "hoodie":
        trunk.patch(canvas, view, (0.62, 0.82), (-0.75, 0.75), shaded(top.color, 0.82))
    trunk.patch(canvas, view, (0.975, 1.0), ALL_ROUND, shaded(top.color, 0.6))


def draw_skirt(canvas: Canvas, person: Person, view: Projection) -> None:
    """Draw a skirt, or the lower half of a dress with the dress's pattern."""
    build, bottom, top = person.build, person.bottom, person.top
    flare = (0.085 + 0.12 * (0.5 - bottom.hem)) * bottom.width * build
    skirt = Tube(((0.6, 0.088 * build, 0.064 * build), (0.52, 0.1 * build, 0.075 * build), (bottom.hem, flare + 0.015, flare)))
    skirt.draw(canvas, view, top.color if top.kind == "dress" else bottom.color)
    if top.kind == "dress":
        draw_pattern(canvas, skirt, view, top)
        return
    for angle in PLEATS:
        skirt.patch(canvas, view, (0.4, 1.0), (angle, angle + 0.07), shaded(bottom.color, 0.7))
