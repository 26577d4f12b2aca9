"""Patterns of clothes, drawn on the surface of the body so that they turn with the person."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from lightning_reid.datamodules.generated.appearance import Pattern, Top
from lightning_reid.datamodules.generated.surface import Canvas, Color, Point, Projection, Tube, draw_limb, fill, shaded

ALL_ROUND = (-math.pi, math.pi)
Painter = Callable[[Canvas, Tube, Projection, Color], None]


def draw_pattern(canvas: Canvas, tube: Tube, view: Projection, top: Top) -> None:
    """Draw the pattern of the top on its trunk, or on the skirt of a dress."""
    color = shaded(top.color, 0.55) if top.pattern == "quilted" else top.accent
    for paint in _PAINTERS[top.pattern]:
        paint(canvas, tube, view, color)


def _hoops(canvas: Canvas, tube: Tube, view: Projection, accent: Color, *, step: float, share: float) -> None:
    step = step / tube.length
    for i in range(1, int(0.98 / step)):
        tube.patch(canvas, view, (0.05 + i * step, 0.05 + i * step + share * step), ALL_ROUND, accent)


def _uprights(canvas: Canvas, tube: Tube, view: Projection, accent: Color, *, count: int, half: float) -> None:
    for i in range(count):
        angle = math.tau * (i + 0.5) / count
        tube.patch(canvas, view, (0.12, 1.0), (angle - half, angle + half), accent)


def _dots(canvas: Canvas, tube: Tube, view: Projection, accent: Color) -> None:
    for row in range(1, int(tube.length / 0.055)):
        for i in range(10):
            tube.dot(canvas, view, 0.1 + row * 0.055 / tube.length, math.tau * (i + 0.5 * (row % 2)) / 10, 0.012, accent)


def _logo(canvas: Canvas, tube: Tube, view: Projection, accent: Color) -> None:
    tube.patch(canvas, view, (0.11 / tube.length, 0.23 / tube.length), (-0.62, 0.62), accent)


def _blotches(canvas: Canvas, tube: Tube, view: Projection, accent: Color) -> None:
    for i in range(26):  # scattered as a quasi-random sequence is: a print looks the same on all who wear it
        level, turn, size = (math.fmod(0.1 + step * i, 1.0) for step in (0.618034, 0.754878, 0.569840))
        tube.dot(canvas, view, 0.05 + 0.9 * level, math.tau * turn, 0.018 + 0.022 * size, accent)


def _front(canvas: Canvas, tube: Tube, view: Projection, accent: Color) -> None:
    tube.patch(canvas, view, (0.08, 1.0), (-0.55, 0.55), accent)


def _yoke(canvas: Canvas, tube: Tube, view: Projection, accent: Color) -> None:
    tube.patch(canvas, view, (0.0, 0.15 / tube.length), ALL_ROUND, accent)


_PAINTERS: dict[Pattern, tuple[Painter, ...]] = {
    "plain": (),
    "stripes": (partial(_hoops, step=0.052, share=0.48),),
    "pinstripes": (partial(_uprights, count=14, half=0.075),),
    "checks": (partial(_hoops, step=0.075, share=0.3), partial(_uprights, count=10, half=0.09)),
    "dots": (_dots,),
    "logo": (_logo,),
    "block": (_yoke,),
    "quilted": (partial(_hoops, step=0.045, share=0.2),),
    "sleeves": (),
    "panel": (_front,),
    "hoops": (partial(_hoops, step=0.13, share=0.5),),
    "print": (_blotches,),
}


def draw_sleeve_pattern(canvas: Canvas, top: Top, view: Projection, joints: tuple[Point, Point, Point], radius: float) -> None:
    """Carry stripes, checks and blocks of the top on to a long sleeve.

    Args:
        canvas: ``[H, W, 3]`` uint8 RGB, drawn on.
        top: Whose sleeve.
        view: Gives the side of the light.
        joints: Pixels of shoulder, elbow and cuff.
        radius: Half width of the sleeve, pixels.
    """
    shoulder, elbow, cuff = joints
    if top.pattern == "block":
        draw_limb(canvas, shoulder, _between(shoulder, elbow, 0.5), (radius * 1.15, radius * 1.1), top.accent, view.light)
    if top.pattern in ("stripes", "checks", "hoops"):
        for start, stop in ((shoulder, elbow), (elbow, cuff)):
            _draw_rings(canvas, start, stop, radius, top.accent)


def _draw_rings(canvas: Canvas, start: Point, stop: Point, radius: float, color: Color) -> None:
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    nx, ny = dy / length * radius, -dx / length * radius
    for share in (0.2, 0.5, 0.8):
        (ax, ay), (bx, by) = _between(start, stop, share), _between(start, stop, share + 0.14)
        fill(canvas, [(ax - nx, ay - ny), (ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny)], color)


def _between(start: Point, stop: Point, share: float) -> Point:
    return start[0] + share * (stop[0] - start[0]), start[1] + share * (stop[1] - start[1])
