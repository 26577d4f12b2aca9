"""People's own file names: a pattern that says which part of a path is the person, the camera, the frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from lightning_reid.arguments import require_text, shown
from lightning_reid.datamodules.readers.image_files import IMAGE_SUFFIXES

FIELDS = ("person", "camera", "frame", "split")
"""What a pattern can name."""
ANYTHING = "*"
MOST_PARTS = 5
"""Fields and stars of a folder's or file's name: with each one more a long name of nothing but separators takes 100 times as long."""
_WIDEST = 1000
_PARTS = re.compile(r"\{(?P<field>[^{}]*)\}|(?P<anything>\*+)|(?P<text>[^{}*]+)|(?P<stray>[{}])")
_SUFFIX = "(?:" + "|".join(re.escape(one) for one in IMAGE_SUFFIXES) + ")"


class Named(NamedTuple):
    """What a name says; ``None`` for what its pattern does not name.

    Attributes:
        person: Of the image.
        camera: Of the image.
        frame: Digits.
        split: As it is named.
    """

    person: str | None
    camera: str | None
    frame: str | None
    split: str | None


@dataclass(frozen=True)
class NamePattern:
    """How paths below a folder, with ``/`` between folders, say who is seen where and when: ``{camera}/{person}_{frame}.jpg``.

    ``{person}``, ``{camera}`` and ``{split}`` are any text without a ``/``, as short as the rest of the pattern allows; ``{frame}`` is
    digits; ``*`` is anything without a ``/``; ``{person:4}`` is of four characters, for names with nothing between their parts. The end
    of the name, ``.jpg`` say, stands for that of any image, in any case, and may be left out.

    Attributes:
        text: The pattern.

    Raises:
        ValueError: It names something else, something twice, or nothing; or nothing tells where one part ends and the next begins.

    Example:
        >>> from lightning_reid.datamodules.readers.name_pattern import NamePattern
        >>> NamePattern("{camera}/{person}_{frame}.jpg").read("yard/anna_b_0012.PNG")
        Named(person='anna_b', camera='yard', frame='0012', split=None)
    """

    text: str

    def __post_init__(self) -> None:
        require_text("pattern", self.text)
        _compiled(self.text)

    @property
    def fields(self) -> tuple[str, ...]:
        """What it names, in order."""
        return tuple(field for level in _compiled(self.text) for field in level.groupindex)

    def read(self, name: str) -> Named | None:
        """What a path says; ``None`` if the pattern does not fit."""
        levels, parts = _compiled(self.text), name.split("/")
        found = [level.fullmatch(part) for level, part in zip(levels, parts, strict=False)] if len(levels) == len(parts) else [None]
        told = {field: value for level in found if level is not None for field, value in level.groupdict().items()}
        if None in found:
            return None
        return Named(*(told.get(field) for field in FIELDS))


def in_words(named: Named) -> str:
    """``person 7, camera 2``, for people who want to see whether they are understood."""
    return ", ".join(f"{field} {value}" for field, value in zip(FIELDS, named, strict=True) if value is not None) or "nothing"


@lru_cache(maxsize=32)
def _compiled(text: str) -> tuple[re.Pattern[str], ...]:
    """A pattern a level of folders: nothing crosses one, and what does not fit within one is not tried with all that fits in the others."""
    stem, dot, suffix = text.rpartition(".")
    if not dot or f".{suffix}".lower() not in IMAGE_SUFFIXES:
        stem = text
    levels, seen, is_open = [""], list[str](), False
    for part in _PARTS.finditer(stem):
        if part["stray"]:
            raise ValueError(f"the pattern {shown(text)} has a {part['stray']!r} of its own: fields are {_told_fields()}, * is anything")
        if part["text"]:
            first, *further = map(re.escape, part["text"].split("/"))
            levels[-1] += first
            levels, is_open = levels + further, False
            continue
        field, colon, width = (part["field"] or "").partition(":")
        if part["field"] is not None:
            _require_field(text, field, width if colon else None, seen)
            seen.append(field)
        if is_open and not width:
            told = f"the pattern {shown(text)} does not tell where what is in front of {part[0]!r} ends"
            raise ValueError(f"{told}: write what is between them, or how many characters it has, as in {{person:4}}{{frame}}")
        one = "[0-9]" if field == "frame" else "[^/]"
        many = f"{{{width}}}" if width else "+" if field == "frame" else "+?"
        levels[-1] += f"(?P<{field}>{one}{many})" if field else "[^/]*?"
        is_open = not width
    crowded = next((one for one in stem.split("/") if len(re.findall(r"\{[^{}]*\}|\*+", one)) > MOST_PARTS), None)
    if crowded is not None:
        raise ValueError(
            f"the pattern {shown(text)} has more than {MOST_PARTS} fields and stars in {crowded!r}, which takes too long to read"
        )
    if not seen:
        raise ValueError(f"the pattern {shown(text)} names nothing: fields are {_told_fields()}, as in {{camera}}/{{person}}_{{frame}}.jpg")
    levels[-1] += f"(?i:{_SUFFIX})"
    return tuple(map(re.compile, levels))


def _require_field(text: str, field: str, width: str | None, seen: Sequence[str]) -> None:
    if field not in FIELDS or field in seen:
        twice = "names it twice" if field in seen else "has it"
        raise ValueError(f"the pattern {shown(text)} {twice}: {{{field}}}; fields are {_told_fields()}, once each, and * is anything")
    if width is not None and not (width.isascii() and width.isdecimal() and 0 < int(width) < _WIDEST):
        told = f"the pattern {shown(text)} has {{{field}:{width}}}"
        raise ValueError(f"{told}: behind the colon stands how many characters it has, as in {{person:4}}")


def _told_fields() -> str:
    return ", ".join(f"{{{field}}}" for field in FIELDS)
