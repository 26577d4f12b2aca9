"""Kinds of variation of the wide preset, and what is left of it without one: to measure what each is worth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal, cast, get_args

import numpy as np

from lightning_reid.arguments import require_choice
from lightning_reid.datamodules.generated.appearance import HEADGEAR, Person
from lightning_reid.datamodules.generated.camera import Weather
from lightning_reid.datamodules.generated.wide_camera import WideCamera
from lightning_reid.datamodules.generated.wide_crop import Walk
from lightning_reid.datamodules.generated.wide_place import Place

Variation = Literal["accessories", "background", "boxes", "light", "occlusion", "palette", "recording", "views"]
"""
- ``"accessories"``: bags, scarves and what is worn on the head.
- ``"background"``: places; without, a gray wall and a gray floor.
- ``"boxes"``: how crops lie around people, and how large they are.
- ``"light"``: color, exposure, contrast, haze, sun and shade.
- ``"occlusion"``: objects and people in front and beside.
- ``"palette"``: vivid colors and seasons; without, the dull colors of a street in mild weather.
- ``"recording"``: blur, noise, sharpening, resolution and compression.
- ``"views"``: directions and pitch; without, everybody comes towards a camera of eye level.
"""


def checked_kinds(without: Collection[str]) -> tuple[Variation, ...]:
    """Kinds of variation as a tuple.

    Raises:
        ValueError: It is no list of kinds, or a kind is unknown or stands twice; the message lists those that exist.
    """
    if isinstance(without, str) or not isinstance(without, Collection):
        raise ValueError(f"without must be a list of kinds of variation, of {', '.join(get_args(Variation))}, got {without!r}")
    for kind in without:
        require_choice("without", kind, get_args(Variation))
    if len(set(without)) < len(without):
        raise ValueError(f"without must name each kind once, got {', '.join(without)}")
    return cast(tuple[Variation, ...], tuple(without))


GRAY, HAIR = 127, (58.0, 40.0, 30.0)
_CALM = Weather(exposure=1.0, gain=(1.0, 1.0, 1.0), blur=1.0)


def camera_without(wide: WideCamera, without: Collection[Variation]) -> WideCamera:
    """A camera in which some kinds of variation are at rest."""
    camera = wide.camera
    if "light" in without:
        camera = replace(camera, gain=(1.0, 1.0, 1.0), exposure=1.0, gamma=1.0, haze=0.0, saturation=1.0, sun=0.0)
    if "recording" in without:
        camera, wide = replace(camera, resolution=1.0, blur=0.0, noise=1.0, quality=95), replace(wide, motion=0.0, sharpening=0.0)
    if "occlusion" in without:
        wide = replace(wide, occlusion=0.0, crowd=0.0)
    if "boxes" in without:
        wide = replace(wide, height=96.0, spread=0.0, tight=True, fill=(0.9, 0.9), jitter=0.0, miss=0.0)
    return replace(wide, camera=camera)


def person_without(person: Person, without: Collection[Variation]) -> Person:
    """Somebody without what some kinds of variation add."""
    if "accessories" not in without:
        return person
    bare = replace(person, bag="none", scarf=None)
    return replace(bare, hair=HAIR, hair_style="short") if person.hair_style in (*HEADGEAR, "hood") else bare


def place_without(place: Place, without: Collection[Variation]) -> Place:
    """A place, or the gray one."""
    if "background" in without:
        place = replace(place, backdrop=np.full_like(place.backdrop, GRAY))
    return replace(place, light=np.ones_like(place.light)) if "light" in without else place


def walk_without(walk: Walk, without: Collection[Variation]) -> Walk:
    """A walk on which some kinds of variation are at rest."""
    if "light" in without:
        walk = replace(walk, weather=replace(_CALM, blur=walk.weather.blur), camera=replace(walk.camera, sun=0.0))
    return replace(walk, yaw=0.0, camera=replace(walk.camera, pitch=0.0)) if "views" in without else walk
