"""Everybody whom one picture of a generated world shows, drawn as they walk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.surface import Projection
from lightning_reid.datamodules.generated.world_camera import LEAST_DEPTH, Sight, WorldCamera
from lightning_reid.datamodules.generated.world_cast import Actor
from lightning_reid.datamodules.generated.world_picture import Sprite, draw_sprite
from lightning_reid.datamodules.generated.world_route import PACE, Steps

CYCLE = 1.3
"""Meters in which somebody makes two steps."""


def draw_people(camera: WorldCamera, cast: Sequence[Actor], steps: Steps, number: int) -> tuple[tuple[int, Sprite], ...]:
    """Pids and people in a picture, the farthest first.

    Args:
        camera: Which takes it.
        cast: What people look like, in the order of their pids.
        steps: Their walks, each field ``[num_people, num_frames]``.
        number: Of the frame.
    """
    sight = sight_of(camera, cast, steps, number)
    near = np.flatnonzero(_may_show(camera, sight) & (steps.under_way[:, number] > 0))
    farthest_first = near[np.argsort(-sight.depth[near], kind="stable")].tolist()
    return tuple((row + 1, _draw(camera, cast[row], sight, steps, row, number)) for row in farthest_first)


def sight_of(camera: WorldCamera, cast: Sequence[Actor], steps: Steps, frames: int | slice) -> Sight:
    """Where everybody appears, fields ``[num_people]`` or, for a slice, ``[num_people, num_frames]``."""
    x, y, heading = (table[:, frames] for table in (steps.x, steps.y, steps.heading))
    return camera.sight(x, y, heading, np.broadcast_to(np.array([actor.height for actor in cast]), x.T.shape).T)


def _may_show(camera: WorldCamera, sight: Sight) -> NDArray[np.bool_]:
    height, width = camera.image_size
    reach = 0.6 * sight.across
    across = (sight.x > -reach) & (sight.x < width + reach)
    return across & (sight.y > 0) & (sight.top < height) & (sight.depth > LEAST_DEPTH)


def _draw(camera: WorldCamera, actor: Actor, sight: Sight, steps: Steps, row: int, number: int) -> Sprite:
    x, y, top, across, pitch, yaw = (float(field[row]) for field in (sight.x, sight.y, sight.top, sight.across, sight.pitch, sight.yaw))
    # upright bodies: the ground point and the head lie where the pinhole has them, limbs between as a parallel projection has them
    view = Projection((x, y), across, (y - top) / math.cos(pitch), yaw, pitch, 1 if camera.wide.camera.sun > 0 else -1)
    stride = actor.person.stride * min(max(float(steps.speed[row, number]) / PACE, 0.15), 1.3)
    phase = actor.phase + math.tau * float(steps.walked[row, number]) / CYCLE
    return draw_sprite(replace(actor.person, stride=stride), view, phase, actor.arms)
