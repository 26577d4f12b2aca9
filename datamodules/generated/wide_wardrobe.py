"""What people wear in the wide preset: any color, most of them the dull ones of a street, three seasons, everything the generator draws."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from functools import lru_cache
from typing import cast

import numpy as np

from lightning_reid.datamodules.generated.appearance import Bottom, Person, Swatch, Top, Wardrobe, draw_person, draw_shared_clothes
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.surface import Color

CODE = 10
"""Separates the random streams of the wide preset from those of the others."""

_HUES = 16
# fmt: off
_STREET: Swatch = {  # navy, denim, khaki, beige, brown, olive, wine
    (26, 32, 56): 5, (38, 48, 78): 5, (70, 92, 132): 4, (104, 128, 166): 3, (146, 166, 192): 2, (148, 132, 100): 3, (192, 176, 146): 2.5,
    (84, 62, 46): 3, (122, 88, 60): 2, (72, 76, 50): 2.5, (92, 32, 40): 2, (220, 208, 186): 2,
}
# fmt: on


def _grays(dark: float, light: float) -> Swatch:
    """Black to white, slightly warm or cold; ``dark`` and ``light`` are the weights of the ends."""
    levels = np.linspace(14, 242, 12)
    weights = np.interp(levels, (14, 80, 242), (dark, 1.0, light))
    return {cast(Color, (level, level, level + 2.0)): weight for level, weight in zip(levels.tolist(), weights.tolist(), strict=True)}


def _hues(weight: float) -> Swatch:
    """The color wheel, vivid, deep and pale; ``weight`` is that of each."""
    tones = ((0.85, 0.8), (0.7, 0.4), (0.35, 0.85), (0.45, 0.55))
    wheel = [colorsys.hsv_to_rgb(hue / _HUES, *tone) for hue in range(_HUES) for tone in tones]
    return {cast(Color, tuple(255.0 * channel for channel in color)): weight for color in wheel}


# fmt: off
_MILD = Wardrobe(
    tops={
        "tank": 0.3, "tshirt": 2, "shirt": 2, "hoodie": 2, "jacket": 2.5, "coat": 0.8, "dress": 0.6, "vest": 0.7, "parka": 1, "robe": 0.3,
    },
    top_colors=_grays(4, 2.5) | _STREET | _hues(0.45),
    patterns={
        "plain": 10, "stripes": 1.2, "pinstripes": 0.6, "checks": 1.2, "dots": 0.7, "logo": 2, "block": 1.6, "quilted": 1.2, "sleeves": 1.2,
        "panel": 0.8, "hoops": 1, "print": 1.4,
    },
    bottoms={"trousers": 8, "shorts": 1.2, "skirt": 1},
    bottom_colors=_grays(6, 1) | {color: 1.6 * weight for color, weight in _STREET.items()} | _hues(0.12),
    shoe_colors=_grays(5, 4) | _STREET | _hues(0.1),
    bags={"none": 5, "backpack": 2, "shoulder": 1.5, "handbag": 1, "shopping": 0.8, "suitcase": 0.5, "paper": 0.4},
    bag_colors=_grays(5, 1) | _STREET | _hues(0.3),
    hair={
        "short": 5, "bob": 1.2, "long": 1.6, "ponytail": 1.1, "bald": 0.6, "beanie": 0.7, "cap": 0.8, "hat": 0.4, "headscarf": 0.4,
        "hood": 0.6,
    },
    num_shared=60,
    share=0.25,
)
_SUMMER = replace(
    _MILD,
    tops={"tank": 1.2, "tshirt": 5, "shirt": 2, "dress": 1.6, "hoodie": 0.5, "vest": 0.3, "robe": 0.3},
    top_colors=_grays(2, 4) | _STREET | _hues(0.7),
    bottoms={"trousers": 4, "shorts": 4, "skirt": 1.8},
    hair={"short": 5, "bob": 1.4, "long": 2, "ponytail": 1.8, "bald": 0.6, "cap": 1.2, "hat": 0.6, "headscarf": 0.4},
)
_WINTER = replace(
    _MILD,
    tops={"coat": 2.4, "jacket": 3.4, "parka": 2.4, "hoodie": 1.6, "vest": 0.5, "robe": 0.3, "shirt": 0.5},
    top_colors=_grays(7, 1) | _STREET | _hues(0.25),
    bottoms={"trousers": 9, "skirt": 0.9},
    hair={"short": 4, "bob": 1, "long": 1.4, "ponytail": 0.8, "bald": 0.5, "beanie": 2, "cap": 0.6, "hat": 0.4, "headscarf": 0.4,
          "hood": 1.2},
)
# fmt: on
SEASONS = (_MILD, _SUMMER, _WINTER)
_DULL = replace(_MILD, top_colors=_grays(4, 2.5) | _STREET, bottom_colors=_grays(6, 1) | _STREET, bag_colors=_grays(5, 1) | _STREET)


def draw_somebody(seed: int, purpose: Stream, number: int, *, dull: bool = False) -> Person:
    """A person of one of the seasons, some in clothes that others own too; each (seed, purpose, number) is one person.

    Args:
        seed: Of all people.
        purpose: Whether they are asked for or pass by.
        number: Who.
        dull: Everybody wears the dull colors of a street in mild weather.
    """
    rng = stream(seed, CODE, purpose, number)
    season = int(rng.integers(len(SEASONS)))
    return draw_person(rng, _DULL if dull else SEASONS[season], *_shared_clothes(seed, len(SEASONS) if dull else season))


@lru_cache(maxsize=12)
def _shared_clothes(seed: int, season: int) -> tuple[tuple[Top, ...], tuple[Bottom, ...]]:
    return draw_shared_clothes(stream(seed, CODE, Stream.WARDROBE, season), (*SEASONS, _DULL)[season])
