"""Who walks in a generated world: people of the wide preset, some of them dressed like another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.pose import Arms
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.surface import Color
from lightning_reid.datamodules.generated.wide_wardrobe import draw_somebody
from lightning_reid.datamodules.generated.world_camera import BODY, CODE


@dataclass(frozen=True)
class Actor:
    """Somebody and how they walk: ``phase`` of the gait at the first step, radians."""

    person: Person
    arms: Arms
    phase: float

    @property
    def height(self) -> float:
        """How tall they are, meters."""
        return BODY * self.person.height


@lru_cache(maxsize=64)
def draw_cast(seed: int, num_people: int, twins: int) -> tuple[Actor, ...]:
    """Everybody, in the order of their pids; they are none of the people of ``GeneratedPeople``.

    Args:
        seed: Of everything.
        num_people: How many.
        twins: So many pairs, the last pids, wear nearly the same clothes; body, hair, skin and bag are their own.
    """
    actors = [_draw_actor(seed, pid) for pid in range(1, num_people + 1)]
    for pair in range(twins):
        second = num_people - 1 - 2 * pair
        rng = stream(seed, CODE, Stream.WARDROBE, second)
        actors[second] = replace(actors[second], person=_dress_alike(rng, actors[second].person, actors[second - 1].person))
    return tuple(actors)


def _draw_actor(seed: int, pid: int) -> Actor:
    rng = stream(seed, CODE, Stream.PERSON, pid)
    arms = cast(Arms, rng.choice(("swing", "pockets", "phone"), p=(0.78, 0.12, 0.1)))
    return Actor(draw_somebody(seed, Stream.ACTOR, pid), arms, rng.uniform(0.0, 2.0 * np.pi))


def _dress_alike(rng: np.random.Generator, person: Person, model: Person) -> Person:
    def worn(color: Color) -> Color:
        return cast(Color, tuple(np.clip(np.add(color, rng.normal(0.0, 4.0, 3)), 5.0, 250.0).tolist()))

    top = replace(model.top, color=worn(model.top.color), accent=worn(model.top.accent))
    bottom = replace(model.bottom, color=worn(model.bottom.color))
    return replace(person, top=top, bottom=bottom, shoes=worn(model.shoes), boots=model.boots, scarf=model.scarf)
