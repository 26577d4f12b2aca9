"""Identities and cameras as tables name them: whole numbers of any size, or any text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WHOLE_NUMBER = re.compile(r"-?[0-9]+")
DECIMAL = re.compile(r"-?[0-9]+[.,]0*")
"""As a table program writes whole numbers of a column with gaps; taken for text, -1.0 and 0.0 would be people."""
ROUNDED = re.compile(r"-?[0-9]([.,][0-9]+)?E[+][0-9]+")
"""As Excel writes large numbers: 2,02411E+18 stands for all clocks of a day."""
LONGEST = 1000
"""Characters of an id."""
LARGEST = 2**63 - 1
"""What a tensor of identities holds."""

Cell = tuple[str, Any]
"""Where a cell stands, for messages, and what it holds."""


class Numbered(NamedTuple):
    """A column of ids.

    Attributes:
        ids: A number a cell.
        note: How text, or numbers that are too large, were numbered; ``None`` where numbers stay as they are.
        names: What each number stands for; empty where numbers stay as they are.
    """

    ids: list[int]
    note: str | None
    names: Mapping[int, str]


def number_ids(column: str, cells: Sequence[Cell], *, reserved: Iterable[int] = ()) -> Numbered:
    """Read a column of ids: as numbers where every cell is a whole number in ASCII digits, else every cell is a text of its own.

    Texts are compared in Unicode's composed form (NFC) and numbered from 1 in alphabetical order; so are numbers of more than 63 bits, in
    their order. Nothing goes through a float, which takes 2024112815300000001 and ...002 for one.

    Args:
        column: Its name.
        cells: Text, or whole numbers, as tables hold them.
        reserved: Numbers that mean something and are not renumbered: -1 for junk and 0 for a distractor. Without any, ids are at least 0.

    Raises:
        ValueError: A cell is empty, a truth value, or a fraction; or a number is below the reserved ones. The message begins with where.
    """
    texts = [id_text(column, where, value) for where, value in cells]
    for (where, _), text in zip(cells, texts, strict=True):
        if DECIMAL.fullmatch(text):
            raise ValueError(
                f"{where}: the column {column!r} has {text!r}, a whole number as a fraction: write {re.split('[.,]', text)[0]}"
            )
        if ROUNDED.fullmatch(text):
            raise ValueError(
                f"{where}: the column {column!r} has {text!r}, of which the last digits are lost: give the column the"
                " format 'text' before saving"
            )
        if len(text) > LONGEST:
            raise ValueError(f"{where}: the column {column!r} has an id of {len(text):,} characters, {LONGEST} are taken")
    kept = {str(number): number for number in reserved}
    least = min(kept.values(), default=0)
    if all(WHOLE_NUMBER.fullmatch(text) for text in texts):
        numbers = [int(text) for text in texts]
        for (where, _), number in zip(cells, numbers, strict=True):
            if number < least:
                raise ValueError(f"{where}: the column {column!r} must be at least {least}, got {number}")
        if max(numbers, default=0) <= LARGEST:
            return Numbered(numbers, None, {})
        order: list[Any] = sorted({number for number in numbers if number > max(kept.values(), default=-1)})
        places = dict(zip(order, range(1, len(order) + 1))) | {number: number for number in kept.values()}
        note = _note(column, "has numbers of more than 63 bits", order)
        return Numbered([places[number] for number in numbers], note, _names(order))
    nobody = 1 if kept else 0
    for (where, _), text in zip(cells, texts, strict=True):
        if text not in kept and WHOLE_NUMBER.fullmatch(text) and int(text) < nobody:
            raise ValueError(f"{where}: the column {column!r} is text, but for {text!r}, which looks like nobody: write -1 or 0, or a name")
    order = sorted(set(texts) - kept.keys())
    named = dict(zip(order, range(1, len(order) + 1))) | kept
    return Numbered([named[text] for text in texts], _note(column, "is text", order), _names(order))


def whole_number(column: str, where: str, value: Any) -> int:
    """A cell that holds a whole number of at most 63 bits.

    Raises:
        ValueError: It does not; the message begins with ``where``.
    """
    text = id_text(column, where, value)
    if WHOLE_NUMBER.fullmatch(text) is None or len(text) > LONGEST or abs(int(text)) > LARGEST:
        raise ValueError(f"{where}: the column {column!r} must be a whole number, got {value!r}")
    return int(text)


def id_text(column: str, where: str, value: Any) -> str:
    """A cell of a column of ids as a text without spaces around it, in Unicode's composed form.

    Raises:
        ValueError: It is empty, a truth value, a fraction, or a float that may be another's; the message begins with ``where``.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        told = "nothing" if value is None else f"{value!r}, a {type(value).__name__}"
        raise ValueError(f"{where}: the column {column!r} must hold text or a whole number, got {told}")
    if isinstance(value, float):  # Parquet keeps integers with gaps as floats
        if not value.is_integer() or abs(value) >= 2**53:
            why = "a fraction" if abs(value) < 2**53 else "a float, which takes neighboring ids for one"
            raise ValueError(f"{where}: the column {column!r} must hold text or whole numbers, got {value!r}, {why}: store integers")
        value = int(value)
    text = unicodedata.normalize("NFC", str(value)).strip()
    if not text:
        raise ValueError(f"{where}: the column {column!r} is empty")
    return text


def _names(order: Sequence[Any]) -> dict[int, str]:
    return {place: str(one) for place, one in enumerate(order, start=1)}


def _note(column: str, what: str, order: Sequence[Any]) -> str:
    last = f" and {str(order[-1])!r} is {len(order)}" if len(order) > 1 else ""
    return f"the column {column!r} {what}: numbered from 1 in order, {str(order[0])!r} is 1{last}"
