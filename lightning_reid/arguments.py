"""Arguments are refused where they are given, by name: not in epoch 40, and not by a wrong number in silence."""

from __future__ import annotations

import os
import re
import reprlib
from argparse import ArgumentTypeError
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

from typing_extensions import override

MOST = 2**31 - 1
"""Of anything that is counted, and of seeds."""
LARGEST = 1e9
"""Of any other number: its square is still finite in float32."""
LARGEST_SIDE = 4096
"""Of an image, in pixels."""

_DIGITS = 40


class _Brief(reprlib.Repr):
    """Python refuses to write a whole number of more than 4300 digits."""

    @override
    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return repr(x) if bits <= 3 * _DIGITS else f"a whole number of {bits:,} bits"


_brief = _Brief()
_brief.maxstring = _brief.maxother = 80


def shown(value: object) -> str:
    """A value as a message shows it: in a line, whatever it is and however large."""
    return " ".join(_brief.repr(value).split())[:120]


def is_number(value: object, kind: type = Real) -> bool:
    """Whether a value is a number, of Python or NumPy, of this kind of ``numbers``; booleans are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def require_number(
    name: str,
    value: Any,
    *,
    low: float = -LARGEST,
    high: float = LARGEST,
    above: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> None:
    """Check an argument that is a number.

    Args:
        name: Of the argument, for the message.
        value: What was given: a whole number or a float, no boolean, no tensor.
        low: Smallest value.
        high: Largest value.
        above: What it must be larger than, in place of ``low``.
        below: What it must be smaller than, in place of ``high``.
        optional: Whether it may be ``None``.

    Raises:
        ValueError: It is no such number; NaN is none.
    """
    if optional and value is None:
        return
    left, right = f"[{low:g}" if above is None else f"({above:g}", f"{high:g}]" if below is None else f"{below:g})"
    number = value if is_number(value) else float("nan")
    if not ((low <= number if above is None else above < number) and (number <= high if below is None else number < below)):
        raise ValueError(f"{name} must be a number in {left}, {right}{_or_none(optional)}, got {shown(value)}")


def require_count(name: str, value: Any, *, low: int = 1, high: int = MOST, optional: bool = False) -> None:
    """Check an argument that is a whole number.

    Args:
        name: Of the argument, for the message.
        value: What was given; ``True`` and ``2.0`` are no whole numbers.
        low: Smallest value.
        high: Largest value.
        optional: Whether it may be ``None``.

    Raises:
        ValueError: It is no such number.
    """
    if optional and value is None:
        return
    if not is_number(value, Integral) or not low <= value <= high:
        allowed = f"of at least {low:,}" if high == MOST else f"in {low:,}..{high:,}"
        raise ValueError(f"{name} must be a whole number {allowed}{_or_none(optional)}, got {shown(value)}")


def require_seed(name: str, value: object, *, optional: bool = False) -> None:
    """Check an argument that seeds what is drawn: a whole number of at least 0.

    Raises:
        ValueError: It is none.
    """
    require_count(name, value, low=0, high=2**63 - 1, optional=optional)


def require_choice(name: str, value: object, known: Collection[Any], *, optional: bool = False) -> None:
    """Check an argument that is one of a few words.

    Raises:
        ValueError: It is none of ``known``.
    """
    if not (isinstance(value, str) and value in known) and not (optional and value is None):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}{_or_none(optional)}, got {shown(value)}")


def require_switch(name: str, value: object) -> None:
    """Check an argument that is on or off: ``"no"`` would be on.

    Raises:
        ValueError: It is neither ``True`` nor ``False``.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")


def require_text(name: str, value: object) -> None:
    """Check an argument that is a word of the user's own.

    Raises:
        ValueError: It is no string.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {shown(value)}")


def require_texts(name: str, value: object) -> None:
    """Check an argument that is several words of the user's own: a single string would be taken letter by letter.

    Raises:
        ValueError: It is no list or tuple of strings.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must be a list of strings, got {shown(value)}")


def require_path(name: str, value: object, *, optional: bool = False) -> None:
    """Check an argument that names a file, a folder or a data set.

    Raises:
        ValueError: It is neither a string nor a path.
    """
    if not isinstance(value, str | os.PathLike) and not (optional and value is None):
        raise ValueError(f"{name} must be a string or a path{_or_none(optional)}, got {shown(value)}")


def checked_image_size(name: str, value: Any) -> tuple[int, int]:
    """The (height, width) in pixels of an argument that tells a size of images, each from 1 to ``LARGEST_SIDE``, not both 1.

    The networks take images of one pixel, their last map is averaged whatever its size; but torch cannot resize an image to one.

    Raises:
        ValueError: It is no such pair.
    """
    sides = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(sides) != 2 or not all(is_number(side, Integral) and 0 < side <= LARGEST_SIDE for side in sides) or max(sides) == 1:
        raise ValueError(f"{name} must be height and width from 1 to {LARGEST_SIDE:,} pixels, not both 1, got {shown(value)}")
    return int(sides[0]), int(sides[1])


def height_and_width(told: str | Sequence[int]) -> tuple[int, int]:
    """(256, 128) of ``"256x128"``, of ``"[256,128]"`` and of the list in a file of options.

    Raises:
        ArgumentTypeError: It is not two whole numbers, or images cannot have that size.
    """
    numbers = told.strip("[]").replace(",", "x").split("x") if isinstance(told, str) else [str(number) for number in told]
    sides = [int(number) if re.fullmatch(" *[0-9]{1,9} *", number) else number for number in numbers]
    try:
        return checked_image_size("image_size", sides)
    except ValueError as error:
        raise ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, as in 256x128, got {told}: {error}") from error


def _or_none(optional: bool) -> str:
    return ", or None" if optional else ""
