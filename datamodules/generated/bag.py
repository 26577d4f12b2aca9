"""Draw backpacks, bags and what is carried in a hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.pose import Joint
from lightning_reid.datamodules.generated.surface import Canvas, Color, Point, Projection, Tube, draw_line, fill, shaded

BACKPACK = Tube(((0.80, 0.06, 0.045), (0.78, 0.082, 0.06), (0.58, 0.088, 0.066), (0.555, 0.075, 0.055)))
BEHIND = 0.105
"""Distance of a backpack's axis from the body's, in body heights."""


def bag_parts(canvas: Canvas, person: Person, view: Projection, trunk: Tube, hand: Joint) -> list[tuple[float, Callable[[], None]]]:
    """What there is to draw of the bag, each part with its depth, so that the body hides what lies behind it.

    Args:
        canvas: ``[H, W, 3]`` uint8 RGB, drawn on when the parts are called.
        person: Who carries it.
        view: Where and from which side.
        trunk: The top that straps lie on.
        hand: Body coordinates of the hand on the bag's side.
    """
    color, side = person.bag_color, person.bag_side
    if person.bag == "backpack":
        pack = (-0.1 * view.frontal - 0.001, partial(_draw_backpack, canvas, view, color))
        return [pack, (0.015, partial(_draw_straps, canvas, view, trunk, color))]
    if person.bag == "shoulder":
        hang = (side * 0.125 * person.build, 0.50, 0.015)
        pouch = (view.depth(hang[0], hang[2]) + 0.035, partial(_draw_pouch, canvas, view, hang, (0.07, 0.085), color))
        return [(0.012, partial(_draw_sling, canvas, view, trunk, side, color)), pouch]
    if person.bag == "handbag":
        hang = (hand[0] + side * 0.01, hand[1] - 0.06, hand[2])
        return [(view.depth(hang[0], hang[2]) + 0.01, partial(_draw_pouch, canvas, view, hang, (0.075, 0.08), color))]
    if person.bag in ("shopping", "paper", "suitcase"):
        return [(view.depth(hand[0], hand[2]) + 0.012, partial(_CARRIED[person.bag], canvas, view, hand, color))]
    return []


def _draw_backpack(canvas: Canvas, view: Projection, color: Color) -> None:
    shifted = replace(view, ground=view(0.0, 0.0, -BEHIND))
    BACKPACK.draw(canvas, shifted, color)
    BACKPACK.patch(canvas, shifted, (0.55, 0.9), (math.pi - 0.8, math.pi + 0.8), shaded(color, 0.75))
    BACKPACK.patch(canvas, shifted, (0.3, 0.36), (math.pi - 1.2, math.pi + 1.2), shaded(color, 0.6))


def _draw_straps(canvas: Canvas, view: Projection, trunk: Tube, color: Color) -> None:
    for angle in (-0.75, 0.55):
        trunk.patch(canvas, view, (0.03 / trunk.length, 0.22 / trunk.length), (angle, angle + 0.22), shaded(color, 0.9))


def _draw_sling(canvas: Canvas, view: Projection, trunk: Tube, side: int, color: Color) -> None:
    over, under = (0.9, 1.2) if view.frontal > 0 else (2.2, 1.9)
    start, stop = trunk.point(view, 0.06, -side * over), trunk.point(view, 0.85, side * under)
    draw_line(canvas, start, stop, 0.016 * view.scale_y, shaded(color, 0.9))


def _draw_shopping(canvas: Canvas, view: Projection, hand: Joint, color: Color) -> None:
    x, y = view(*hand)
    half, low = 0.075 * view.scale_x * (0.5 + 0.5 * abs(view.sideways)), 0.17 * view.scale_y
    fill(canvas, [(x - 0.6 * half, y), (x + 0.6 * half, y), (x + half, y + low), (x - half, y + low)], color)
    fill(canvas, [(x, y + 0.4 * low), (x + 0.7 * half, y + 0.4 * low), (x + 0.8 * half, y + low), (x, y + low)], shaded(color, 0.8))


def _draw_paper(canvas: Canvas, view: Projection, hand: Joint, color: Color) -> None:
    x, y = view(*hand)
    long, short = 0.07 * view.scale_x, 0.018 * view.scale_y
    sheet = [(x - long, y - short), (x + 0.3 * long, y - 2 * short), (x + 0.5 * long, y), (x - long, y + short)]
    fill(canvas, sheet, (236.0, 236.0, 232.0))


def _draw_suitcase(canvas: Canvas, view: Projection, hand: Joint, color: Color) -> None:
    behind = (1.1 * hand[0], 0.33, -0.12)
    x, y = view(*behind)
    half, foot = (0.06 + 0.03 * abs(view.sideways)) * view.scale_x, view(behind[0], 0.02, behind[2])[1]
    draw_line(canvas, view(*hand), (x, y), 0.012 * view.scale_y, (40.0, 40.0, 42.0))
    fill(canvas, [(x - half, y), (x + half, y), (x + half, foot), (x - half, foot)], color)
    fill(canvas, [(x, y), (x + half, y), (x + half, foot), (x, foot)], shaded(color, 0.75))


_CARRIED = {"shopping": _draw_shopping, "paper": _draw_paper, "suitcase": _draw_suitcase}


def _draw_pouch(canvas: Canvas, view: Projection, hang: Joint, size: Point, color: Color) -> None:
    x, y = view(*hang)
    half = size[0] * view.scale_x * (0.45 + 0.55 * abs(view.sideways))  # a flat bag at the side shows its edge from the front
    low, rim = size[1] * view.scale_y, 0.9 * half
    fill(canvas, [(x - rim, y), (x + rim, y), (x + half, y + low), (x - half, y + low)], color)
    fill(canvas, [(x - rim, y), (x + rim, y), (x + rim, y + low * 0.35), (x - rim, y + low * 0.35)], shaded(color, 0.75))
    draw_line(canvas, (x, y), (x, y - low * 0.8), 0.01 * view.scale_y, shaded(color, 0.7))
