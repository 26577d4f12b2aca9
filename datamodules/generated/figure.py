"""Draw a walking person: parts from far to near, so that what is nearer hides what is behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2

from lightning_reid.datamodules.generated.appearance import Person, Top
from lightning_reid.datamodules.generated.bag import bag_parts
from lightning_reid.datamodules.generated.clothing import draw_skirt, draw_top, trunk_of
from lightning_reid.datamodules.generated.head import draw_falling_hair, draw_head
from lightning_reid.datamodules.generated.pattern import draw_sleeve_pattern
from lightning_reid.datamodules.generated.pose import HIP, KNEE, Arms, Joint, Pose, along, walking_pose
from lightning_reid.datamodules.generated.surface import Canvas, Color, Projection, draw_limb, draw_line, shaded

THIGH, CALF, SHIN = 0.058, 0.04, 0.027
"""Half widths of a clothed leg at hip, knee and ankle, in body heights."""
SHOULDER_WIDTH, ELBOW_WIDTH, WRIST_WIDTH = 0.03, 0.028, 0.022
"""Half widths of a clothed arm, in body heights."""
SLEEVE_BULK = {"coat": 1.3, "jacket": 1.25, "hoodie": 1.15, "parka": 1.35, "robe": 1.25}


def draw_figure(canvas: Canvas, person: Person, view: Projection, phase: float, arms: Arms = "swing") -> None:
    """Draw the person at ``phase`` of the gait.

    Args:
        canvas: ``[H, W, 3]`` uint8 RGB, drawn on.
        person: Who.
        view: Where and from which side.
        phase: Gait phase, radians.
        arms: What the arms do.
    """
    pose = walking_pose(person, phase, arms)
    left_is_near = view.depth(pose.legs[0][0][0], 0.0) > view.depth(pose.legs[1][0][0], 0.0)
    for side in (1, 0) if left_is_near else (0, 1):
        _draw_leg(canvas, person, view, *pose.legs[side])
    if person.bottom.kind == "skirt":
        draw_skirt(canvas, person, view)
    for _, draw in sorted(_upper_parts(canvas, person, view, pose), key=lambda part: part[0]):
        draw()


def _upper_parts(canvas: Canvas, person: Person, view: Projection, pose: Pose) -> list[tuple[float, Callable[[], None]]]:
    """What is drawn above the legs, each with its depth towards the camera in body heights."""
    trunk = trunk_of(person)
    parts: list[tuple[float, Callable[[], None]]] = [
        (0.0, partial(draw_top, canvas, person, view, trunk)),
        (0.02 + 0.01 * view.frontal, partial(draw_head, canvas, person, view)),
        (-0.06 * view.frontal, partial(draw_falling_hair, canvas, person, view)),
    ]
    for arm in pose.arms:
        elbow = arm[1]
        parts.append((view.depth(elbow[0], elbow[2]) + 0.03 * abs(view.frontal), partial(_draw_arm, canvas, person, view, *arm)))
    hand = pose.arms[0 if person.bag_side > 0 else 1][2]
    return parts + bag_parts(canvas, person, view, trunk, hand)


def _limb(canvas: Canvas, view: Projection, start: Joint, stop: Joint, radii: tuple[float, float], color: Color) -> None:
    draw_limb(canvas, view(*start), view(*stop), (radii[0] * view.scale_x, radii[1] * view.scale_x), color, view.light)


def _draw_leg(canvas: Canvas, person: Person, view: Projection, hip: Joint, knee: Joint, ankle: Joint) -> None:
    bottom, build = person.bottom, person.build
    far = view.depth(hip[0], 0.0) < -0.02
    tone = 0.82 if far else 1.0  # the leg behind lies in the shade of the other
    shoe, cloth = shaded(person.shoes, tone), shaded(bottom.color, tone)
    heel, toe = (ankle[0], ankle[1] - 0.015, ankle[2] - 0.015), (ankle[0] * 1.15, ankle[1] - 0.025, ankle[2] + 0.085)
    _limb(canvas, view, heel, toe, (0.022, 0.0209), shoe)
    if bottom.kind == "trousers":
        _limb(canvas, view, knee, ankle, (CALF * build * bottom.width, SHIN * build * (0.5 + 0.7 * bottom.width)), cloth)
        _limb(canvas, view, hip, knee, (THIGH * build, CALF * build * bottom.width), cloth)
    else:
        bare = shaded(bottom.legs or person.skin, tone)
        _limb(canvas, view, knee, ankle, (0.85 * CALF * build, 0.8 * SHIN * build), bare)
        _limb(canvas, view, hip, knee, (0.8 * THIGH * build, 0.85 * CALF * build), bare)
    if bottom.kind == "shorts":
        edge = along(hip, knee, min(1.0, max(0.0, (HIP - bottom.hem) / (HIP - KNEE))))
        _limb(canvas, view, hip, edge, (THIGH * build, 0.9 * THIGH * build * bottom.width), cloth)
    if bottom.side_stripe is not None and not far:
        draw_line(canvas, view(*hip), view(*knee), 0.012 * view.scale_x, bottom.side_stripe)
        if bottom.kind == "trousers":
            draw_line(canvas, view(*knee), view(*ankle), 0.012 * view.scale_x, bottom.side_stripe)
    if person.boots and bottom.kind != "shorts":
        _limb(canvas, view, along(ankle, knee, 0.55), ankle, (0.95 * CALF * build, 1.05 * SHIN * build), shoe)


def _draw_arm(canvas: Canvas, person: Person, view: Projection, shoulder: Joint, elbow: Joint, hand: Joint) -> None:
    top, bulk = person.top, SLEEVE_BULK.get(person.top.kind, 1.0)
    tone = 0.85 if view.depth(shoulder[0], 0.0) < -0.03 else 1.0
    cloth, skin = shaded(_sleeve_color(top), tone), shaded(person.skin, tone)
    upper, lower, wrist = SHOULDER_WIDTH * person.build * bulk, ELBOW_WIDTH * person.build * bulk, WRIST_WIDTH * bulk
    x, y = view(*hand)
    cv2.circle(canvas, (round(x), round(y)), max(1, round(0.02 * view.scale_x)), skin, cv2.FILLED)
    if top.sleeve > 0.8:
        cuff = along(elbow, hand, 0.9)
        _limb(canvas, view, elbow, cuff, (lower, wrist), cloth)
        _limb(canvas, view, shoulder, elbow, (upper, lower), cloth)
        draw_sleeve_pattern(canvas, top, view, (view(*shoulder), view(*elbow), view(*cuff)), lower * view.scale_x)
        return
    _limb(canvas, view, elbow, hand, (0.85 * lower, 0.75 * wrist), skin)
    _limb(canvas, view, shoulder, elbow, (0.85 * upper, 0.85 * lower), skin)
    if top.sleeve > 0.05:
        _limb(canvas, view, shoulder, along(shoulder, elbow, top.sleeve / 0.55), (0.95 * upper, 1.15 * upper), cloth)


def _sleeve_color(top: Top) -> Color:
    if top.kind == "vest":
        return top.inner
    return top.accent if top.pattern == "sleeves" else top.color
