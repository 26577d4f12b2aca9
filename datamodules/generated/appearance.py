"""Who a generated person is: body, hair, clothes and bag, drawn from the palette of a domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import numpy as np

from lightning_reid.datamodules.generated.surface import Color

TopKind = Literal["tank", "tshirt", "shirt", "hoodie", "jacket", "coat", "dress", "vest", "parka", "robe"]
BottomKind = Literal["trousers", "shorts", "skirt"]
Pattern = Literal["plain", "stripes", "pinstripes", "checks", "dots", "logo", "block", "quilted", "sleeves", "panel", "hoops", "print"]
BagKind = Literal["none", "backpack", "shoulder", "handbag", "shopping", "suitcase", "paper"]
HairStyle = Literal["short", "bob", "long", "ponytail", "bald", "beanie", "cap", "hat", "headscarf", "hood"]
HEADGEAR = ("beanie", "cap", "hat", "headscarf")
"""Hair styles that are worn, in the colors of clothes."""

Choices = dict[str, float]
"""Name to weight; weights need not sum to one."""
Swatch = dict[Color, float]
"""Color to weight; weights need not sum to one."""

Item = TypeVar("Item")

SKINS: Swatch = {(236, 196, 170): 4, (222, 176, 146): 4, (190, 140, 108): 2, (140, 96, 70): 1, (92, 62, 48): 1}
HAIRS: Swatch = {(28, 24, 22): 6, (58, 40, 30): 4, (104, 72, 44): 2, (176, 142, 92): 1.5, (150, 150, 150): 1}
# fmt: off
SLEEVES: dict[TopKind, float] = {
    "tank": 0.0, "tshirt": 0.42, "dress": 0.3, "shirt": 1.0, "hoodie": 1.0, "jacket": 1.0, "coat": 1.0, "vest": 1.0,
    "parka": 1.0, "robe": 1.0,
}
HEMS: dict[TopKind, float] = {
    "tank": 0.49, "tshirt": 0.48, "shirt": 0.47, "hoodie": 0.475, "jacket": 0.465, "coat": 0.36, "dress": 0.5, "vest": 0.47, "parka": 0.42,
    "robe": 0.16,
}
# fmt: on


@dataclass(frozen=True)
class Wardrobe:
    """What people of one domain wear.

    Attributes:
        tops: Kinds of top and their weights.
        top_colors: Colors of tops.
        patterns: Patterns of tops.
        bottoms: Kinds of bottom, for those who do not wear a dress.
        bottom_colors: Colors of bottoms.
        shoe_colors: Colors of shoes.
        bags: Kinds of bag.
        bag_colors: Colors of bags.
        hair: Hair styles and hats.
        num_shared: Number of particular tops, and half as many bottoms, that several people own.
        share: Probability that someone wears one of these.
    """

    tops: Choices
    top_colors: Swatch
    patterns: Choices
    bottoms: Choices
    bottom_colors: Swatch
    shoe_colors: Swatch
    bags: Choices
    bag_colors: Swatch
    hair: Choices
    num_shared: int
    share: float


@dataclass(frozen=True)
class Top:
    """Clothing of the upper body; ``hem`` is its height in body heights, ``sleeve`` the covered share of the arm."""

    kind: TopKind
    color: Color
    accent: Color
    pattern: Pattern
    inner: Color
    open_front: bool
    hem: float
    sleeve: float


@dataclass(frozen=True)
class Bottom:
    """Clothing of the lower body; ``hem`` is its height in body heights, ``width`` scales trouser legs and skirt."""

    kind: BottomKind
    color: Color
    legs: Color | None
    side_stripe: Color | None
    hem: float
    width: float


@dataclass(frozen=True)
class Person:
    """One identity. Lengths are in body heights or relative to the average build.

    Attributes:
        height: Relative to the domain's average, about 0.9..1.08.
        build: Relative width of trunk and limbs.
        shoulders: Relative width of the shoulders.
        stride: Relative length of the step.
        skin: Color of skin.
        hair: Color of hair or hat.
        hair_style: Hair or hat.
        top: Clothing of the upper body.
        bottom: Clothing of the lower body.
        shoes: Color of shoes.
        boots: Whether the shoes reach up the shin.
        scarf: Color of a scarf, if worn.
        bag: Kind of bag.
        bag_color: Its color.
        bag_side: +1 where it hangs on the left, -1 on the right.
    """

    height: float
    build: float
    shoulders: float
    stride: float
    skin: Color
    hair: Color
    hair_style: HairStyle
    top: Top
    bottom: Bottom
    shoes: Color
    boots: bool
    scarf: Color | None
    bag: BagKind
    bag_color: Color
    bag_side: int


def _pick(rng: np.random.Generator, weights: dict[Item, float]) -> Item:
    ends = np.cumsum(list(weights.values()))
    return list(weights)[int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))]


def _dye(rng: np.random.Generator, swatch: Swatch, spread: float = 9.0) -> Color:
    """A color of the swatch as one dye lot has it: lightness and hue vary a little."""
    offset = rng.normal(0.0, spread, 4)
    base: Color = _pick(rng, swatch)
    return cast(Color, tuple(float(np.clip(c + offset[3] + 0.6 * o, 6, 250)) for c, o in zip(base, offset)))


def draw_top(rng: np.random.Generator, wardrobe: Wardrobe) -> Top:
    """Draw the clothing of an upper body from a wardrobe."""
    kind = cast(TopKind, _pick(rng, wardrobe.tops))
    color, accent = _dye(rng, wardrobe.top_colors), _dye(rng, wardrobe.top_colors)
    if sum(abs(a - b) for a, b in zip(color, accent)) < 110:  # an accent that cannot be seen is no accent
        accent = cast(Color, tuple(c + 95 if sum(color) < 330 else c - 95 for c in color))
    return Top(
        kind=kind,
        color=color,
        accent=cast(Color, tuple(float(np.clip(c, 5, 250)) for c in accent)),
        pattern=cast(Pattern, _pick(rng, wardrobe.patterns)),
        inner=_dye(rng, wardrobe.top_colors),
        open_front=kind in ("jacket", "coat", "hoodie", "vest") and bool(rng.random() < 0.4),
        hem=HEMS[kind] + (rng.uniform(-0.09, 0.05) if kind == "coat" else rng.uniform(-0.015, 0.02)),
        sleeve=SLEEVES[kind] * rng.uniform(0.85, 1.0),
    )


def draw_bottom(rng: np.random.Generator, wardrobe: Wardrobe, top: TopKind) -> Bottom:
    """Draw what is worn with a top of the given kind; a dress continues as its own skirt."""
    kind = "skirt" if top == "dress" else cast(BottomKind, _pick(rng, wardrobe.bottoms))
    hems = {"trousers": (0.05, 0.07), "shorts": (0.27, 0.38), "skirt": (0.2, 0.38)}
    tights = (35.0, 32.0, 36.0) if rng.random() < 0.8 and "coat" in wardrobe.tops else None
    stripe = _dye(rng, wardrobe.top_colors) if rng.random() < 0.15 else None
    return Bottom(
        kind=kind,
        color=_dye(rng, wardrobe.bottom_colors),
        legs=tights if kind == "skirt" else None,
        side_stripe=stripe if kind != "skirt" else None,
        hem=rng.uniform(*hems[kind]),
        width=rng.uniform(0.85, 1.3),
    )


def draw_shared_clothes(rng: np.random.Generator, wardrobe: Wardrobe) -> tuple[tuple[Top, ...], tuple[Bottom, ...]]:
    """Draw the tops and bottoms that several people own."""
    tops = tuple(draw_top(rng, wardrobe) for _ in range(wardrobe.num_shared))
    return tops, tuple(draw_bottom(rng, wardrobe, "tshirt") for _ in range(wardrobe.num_shared // 2))


def draw_person(rng: np.random.Generator, wardrobe: Wardrobe, shared_tops: tuple[Top, ...], shared_bottoms: tuple[Bottom, ...]) -> Person:
    """Draw an identity; with probability ``wardrobe.share`` each, top and bottom are ones that others own too."""
    shares_top, shares_bottom = rng.random(2) < wardrobe.share
    top = shared_tops[int(rng.integers(len(shared_tops)))] if shares_top else draw_top(rng, wardrobe)
    bottom = draw_bottom(rng, wardrobe, top.kind)
    if shares_bottom and top.kind != "dress":
        bottom = shared_bottoms[int(rng.integers(len(shared_bottoms)))]
    style = cast(HairStyle, _pick(rng, wardrobe.hair))
    hair = top.color if style == "hood" else None
    winter = "coat" in wardrobe.tops
    return Person(
        height=float(np.clip(rng.normal(1.0, 0.04), 0.9, 1.08)),
        build=float(np.clip(rng.normal(1.0, 0.12), 0.78, 1.35)),
        shoulders=float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.15)),
        stride=rng.uniform(0.7, 1.15),
        skin=_dye(rng, SKINS, 5.0),
        hair=hair or _dye(rng, wardrobe.top_colors if style in HEADGEAR else HAIRS, 5.0),
        hair_style=style,
        top=top,
        bottom=bottom,
        shoes=_dye(rng, wardrobe.shoe_colors),
        boots=winter and bool(rng.random() < 0.3),
        scarf=_dye(rng, wardrobe.top_colors) if winter and rng.random() < 0.2 else None,
        bag=cast(BagKind, _pick(rng, wardrobe.bags)),
        bag_color=_dye(rng, wardrobe.bag_colors),
        bag_side=1 if rng.random() < 0.5 else -1,
    )
