"""A guess at what people's own file names say: only what bears a mark of its own, or a folder of its own, is taken for a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from lightning_reid.datamodules.readers.name_pattern import ANYTHING, Named, NamePattern, in_words
from lightning_reid.datamodules.readers.name_tokens import SPLIT_NAMES, Level, Stem, level_of, same_person, stem_of

MOST_CAMERAS = 20
"""More folders of numbers than so many are hardly cameras."""
_JUNK, _OF_MARKET = re.compile("-1_c[0-9]"), re.compile("[0-9]+_c[0-9]")
"""Whom Market-1501 names -1, and all others in it."""
_WORDS_AND_NUMBER = re.compile(r"(.*[^\W\d_])[\W_]*[0-9]+")
"""Of the end of a path: words, and the number behind them."""
SHOWN = 3
"""Names and patterns of a message."""


class Guess(NamedTuple):
    """What names seem to say.

    Attributes:
        pattern: That fits all of them, and of which one part alone can be the person; ``None`` if there is none, or several could be.
        candidates: Patterns that fit all, of which each takes another part for the person, where ``pattern`` is ``None``.
        why: There is no pattern, in words; empty if there is one.
    """

    pattern: NamePattern | None
    candidates: tuple[NamePattern, ...]
    why: str


class _Part(NamedTuple):
    """A part of all paths that may be the person.

    Attributes:
        place: ``("folder", level)`` or ``("stem", token)``.
        values: What each path has there.
    """

    place: tuple[str, int]
    values: tuple[str, ...]


def read_names(pattern: NamePattern, names: Sequence[str], where: str) -> list[Named]:
    """What all paths say.

    Args:
        pattern: That all must fit.
        names: Of images, with ``/`` between folders.
        where: Their folder, for the message.

    Raises:
        ValueError: The pattern does not fit all; the message shows three that it does not fit and, if there are, three that it does.
    """
    found = [(name, pattern.read(name)) for name in names]
    missed = [name for name, one in found if one is None]
    if missed:
        told = f"the pattern {pattern.text!r} does not fit {len(missed)} of {len(names)} images in {where}: {', '.join(missed[:SHOWN])}"
        fits = [f"{name} as {in_words(one)}" for name, one in found if one is not None][:SHOWN]
        if fits:
            told += f"; it reads {', '.join(fits)}"
        guess = guess_names(names)
        fitting = [one.text for one in ((guess.pattern,) if guess.pattern else guess.candidates)]
        told += f". {' or '.join(map(repr, fitting))} would fit all" if fitting else ". Move what is no part of the data out of the folder"
        raise ValueError(told)
    return [one for _, one in found if one is not None]


def guess_names(names: Sequence[str]) -> Guess:
    """A pattern that fits all of some paths and names a person, if one can be told for sure; it is a guess still, to be looked at.

    A folder or number behind ``cam`` or ``c`` is a camera, one behind ``person``, ``id`` or ``p`` a person, as is a number in front of a
    camera (``0001_c1``), a folder of no other kind, or a word in front of numbers (``anna_001``). Of numbers without a mark nobody knows
    which is a person, a frame or an angle: they are candidates, as are a few folders of numbers, which may be cameras, and two parts that
    tell different people. Dates, times and counts of clocks are nobody.

    Example:
        >>> from lightning_reid.datamodules.readers.name_guess import guess_names
        >>> guess_names(["cam1/p7_f12.jpg", "cam2/p8_f3.jpg"]).pattern.text
        '{camera}/p{person}_f{frame}'
        >>> guess = guess_names(["7_001.png", "8_002.png"])
        >>> guess.why, [one.text for one in guess.candidates]
        ('which part is the person cannot be told for sure', ['{person}_{frame}', '{frame}_{person}'])
    """
    if not names:
        return Guess(None, (), "there are none")
    paths = [name.split("/") for name in names]
    if len({len(path) for path in paths}) > 1:
        return Guess(None, (), "they lie at different depths")
    junk = next((path[-1] for path in paths if _JUNK.match(path[-1])), None)
    if junk is not None and any(_OF_MARKET.match(path[-1]) for path in paths):
        return Guess(None, (), f"{junk} is junk by the naming of Market-1501, which is no person: move such images out of the folder")
    levels = [level_of([path[depth] for path in paths]) for depth in range(len(paths[0]) - 1)]
    mixed = next((level for level in levels if level.kind == "mixed"), None)
    if mixed is not None:
        other = sorted({name for name in mixed.names if name.lower() not in SPLIT_NAMES})
        return Guess(None, (), f"beside folders of splits there is {other[0]!r}, which is none")
    stem = stem_of([path[-1].rpartition(".")[0] for path in paths])
    parts = _people(levels, stem)
    patterns = [one for one in (_pattern(levels, stem, part.place, names) for part in parts[:SHOWN]) if one is not None]
    if len(parts) == 1 and _is_sure(parts[0], levels, stem) and patterns:
        if parts[0].place[0] == "folder" and levels[parts[0].place[1]].kind == "unmarked" and _words_recur(parts[0].values, stem.texts):
            return _folders_or_words(patterns, len(levels), names)
        return Guess(patterns[0], (), "")
    clock = ", and dates and times are nobody" if stem.has_clock or any(level.kind == "clock" for level in levels) else ""
    if not patterns and levels and levels[-1].kind in ("unmarked", "camera") and _words_recur(levels[-1].names, stem.texts):
        return _folders_or_words((), len(levels), names)
    if not patterns:
        return Guess(None, (), f"no part of them is marked as a person{clock}")
    instead = "camera" if parts[0].place[0] == "folder" else "frame"
    doubt = "which part is the person cannot be told for sure" if len(parts) > 1 else f"what may be the person may be a {instead} too"
    if stem.tracks:
        doubt = "a track is a person within one camera alone"
    return Guess(None, tuple(patterns), doubt + clock)


def _words_recur(folders: Sequence[str], stems: Sequence[str]) -> bool:
    """Whether several words before a number come again in several folders: people in folders of cameras, or views in folders of people."""
    places: dict[str, set[str]] = {}
    for folder, text in zip(folders, stems, strict=True):
        if (found := _WORDS_AND_NUMBER.fullmatch(text)) is not None:
            places.setdefault(found[1], set()).add(folder)
    return sum(len(where) > 1 for where in places.values()) > 1


def _folders_or_words(patterns: Sequence[NamePattern], depth: int, names: Sequence[str]) -> Guess:
    """Both readings of folders whose files begin with the same words."""
    ending = PurePosixPath(names[0]).suffix if len({PurePosixPath(name).suffix for name in names}) == 1 else ""
    by_words = NamePattern("/".join([*([ANYTHING] * (depth - 1)), "{camera}", "{person}_{frame}" + ending]))
    fits = [by_words] if all(by_words.read(name) is not None for name in names) else []
    doubt = "the same words come in several folders: people before cameras, or views of people, and which cannot be told for sure"
    return Guess(None, (*fits, *patterns), doubt)


def _people(levels: Sequence[Level], stem: Stem) -> list[_Part]:
    """The parts that may be the person; a single one where all others agree with it."""
    folders = [_Part(("folder", depth), level.names) for depth, level in enumerate(levels) if level.kind == "person"]
    unmarked = [_Part(("folder", depth), level.names) for depth, level in enumerate(levels) if level.kind == "unmarked"]
    marked = [*folders, *_of_stem(stem, stem.people)]
    if marked:
        return _disagreeing([*marked, *unmarked])
    if not unmarked:
        return _of_stem(stem, stem.words) or _of_stem(stem, [*stem.tracks, *stem.bare])
    told = len(unmarked) == 1 and all(
        text.startswith(name) and not text[len(name) :][:1].isalnum() for name, text in zip(unmarked[0].values, stem.texts, strict=True)
    )
    if told:
        return unmarked
    other = [*stem.words, *(stem.bare[:1] if len(stem.bare) > 1 else ())]
    return _disagreeing([*unmarked, *_of_stem(stem, other)])


def _of_stem(stem: Stem, places: Sequence[int]) -> list[_Part]:
    return [_Part(("stem", place), stem.column(place)) for place in places]


def _disagreeing(parts: Sequence[_Part]) -> list[_Part]:
    """The first, and those that tell other people than it does."""
    first, *others = parts
    return [first, *(one for one in others if not all(map(same_person, first.values, one.values)))]


def _is_sure(part: _Part, levels: Sequence[Level], stem: Stem) -> bool:
    kind, place = part.place
    if kind == "stem":
        return place in (*stem.people, *stem.words)
    camera_told = "camera" in stem.fields.values() or any(level.kind == "camera" for level in levels)
    numbers = all(one.isdecimal() for one in part.values)
    return levels[place].kind == "person" or camera_told or not numbers or len(set(part.values)) > MOST_CAMERAS


def _pattern(levels: Sequence[Level], stem: Stem, person: tuple[str, int], names: Sequence[str]) -> NamePattern | None:
    """The pattern that takes a part for the person, if it can be written and fits all names."""
    seen, parts = {"person"}, list[str]()
    for depth, level in enumerate(levels):
        field = "person" if person == ("folder", depth) else level.kind if level.kind in ("split", "camera") else None
        new = field == "person" or (field is not None and field not in seen)
        seen |= {field} if field else set()
        same = level.names[0] if len(set(level.names)) == 1 else ANYTHING
        parts.append(f"{{{field}}}" if new else same)
    place = person[1] if person[0] == "stem" else None
    repeated = [] if place is not None else [one for one in stem.bare if all(map(same_person, levels[person[1]].names, stem.column(one)))]
    stems = [stem.written(place, seen, repeated), stem.written(place, {*seen, "frame"})]
    if place is None and "camera" not in stem.fields.values():
        stems.append(ANYTHING)  # of a name of many parts none is needed
    for one in stems:
        try:
            found = NamePattern("/".join([*parts, one]))
        except ValueError:  # names with braces or stars of their own, or of more parts than are read
            continue
        if all(found.read(name) is not None for name in names):
            return found
    return None
