"""People's own file names: a pattern that says which part of a path is the person, the camera, the frame; and a guess at one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lightning_reid.arguments import require_text, shown
from lightning_reid.datamodules.readers.image_files import IMAGE_SUFFIXES
from lightning_reid.datamodules.readers.own_ids import looks_like_a_clock

FIELDS = ("person", "camera", "frame", "split")
"""What a pattern can name."""
ANYTHING = "*"
MOST_PARTS = 5
"""Fields and stars of a folder's or file's name: with each one more a long name of nothing but separators takes 100 times as long."""
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
    digits; ``*`` is anything without a ``/``. The end of the name, ``.jpg`` say, stands for that of any image, in any case, and may be
    left out.

    Attributes:
        text: The pattern.

    Raises:
        ValueError: It names something else, something twice, or nothing.

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
        return tuple(_compiled(self.text).groupindex)

    def read(self, name: str) -> Named | None:
        """What a path says; ``None`` if the pattern does not fit."""
        found = _compiled(self.text).fullmatch(name)
        if found is None:
            return None
        told = found.groupdict()
        return Named(*(told.get(field) for field in FIELDS))

    def read_all(self, names: Sequence[str], where: str) -> list[Named]:
        """What all paths say.

        Args:
            names: Of images.
            where: Their folder, for the message.

        Raises:
            ValueError: The pattern does not fit all; the message shows three that it does not fit and, if there are, three that it does.
        """
        found = [(name, self.read(name)) for name in names]
        missed = [name for name, one in found if one is None]
        if missed:
            told = f"the pattern {self.text!r} does not fit {len(missed)} of {len(names)} images in {where}: {', '.join(missed[:3])}"
            fits = [f"{name} as {in_words(one)}" for name, one in found if one is not None][:3]
            if fits:
                told += f"; it reads {', '.join(fits)}"
            guess = guessed_pattern(names)
            told += f". {guess.text!r} would fit all" if guess is not None else ". Move what is no part of the data out of the folder"
            raise ValueError(told)
        return [one for _, one in found if one is not None]


def in_words(named: Named) -> str:
    """``person 7, camera 2``, for people who want to see whether they are understood."""
    return ", ".join(f"{field} {value}" for field, value in zip(FIELDS, named, strict=True) if value is not None) or "nothing"


def _compiled(text: str) -> re.Pattern[str]:
    stem, dot, suffix = text.rpartition(".")
    if not dot or f".{suffix}".lower() not in IMAGE_SUFFIXES:
        stem = text
    pattern, seen = "", list[str]()
    for part in _PARTS.finditer(stem):
        field = part["field"]
        if part["stray"]:
            raise ValueError(f"the pattern {shown(text)} has a {part['stray']!r} of its own: fields are {_told_fields()}, * is anything")
        if field is not None and (field not in FIELDS or field in seen):
            twice = "names it twice" if field in seen else "has it"
            raise ValueError(f"the pattern {shown(text)} {twice}: {{{field}}}; fields are {_told_fields()}, once each, and * is anything")
        if field is not None:
            seen.append(field)
            pattern += f"(?P<{field}>{'[0-9]+' if field == 'frame' else '[^/]+?'})"
        else:
            pattern += "[^/]*?" if part["anything"] else re.escape(part["text"])
    crowded = next((one for one in stem.split("/") if len(re.findall(r"\{[^{}]*\}|\*+", one)) > MOST_PARTS), None)
    if crowded is not None:
        raise ValueError(
            f"the pattern {shown(text)} has more than {MOST_PARTS} fields and stars in {crowded!r}, which takes too long to read"
        )
    if not seen:
        raise ValueError(f"the pattern {shown(text)} names nothing: fields are {_told_fields()}, as in {{camera}}/{{person}}_{{frame}}.jpg")
    return re.compile(f"{pattern}(?i:{_SUFFIX})")


def _told_fields() -> str:
    return ", ".join(f"{{{field}}}" for field in FIELDS)


_TOKENS = re.compile(r"[0-9]+|[^\W\d_]+|[\W_]")
_PREFIXES = {
    "camera": ("c", "cam", "camera", "camid", "view", "kamera", "k"),
    "person": ("p", "person", "pid", "id", "identity", "ped", "pedestrian", "people", "human", "user", "subject"),
    "frame": ("f", "frame", "time", "img", "image", "idx", "crop"),
}
_CAMERA_FOLDER = re.compile(r"(?i)(c|cam|camera|view|kamera|channel|ch)[\s_-]*[0-9a-z]{1,3}")
SPLIT_NAMES = ("train", "training", "query", "probe", "gallery", "test", "testing", "val", "validation")
"""What folders of splits are called."""


def guessed_pattern(names: Sequence[str]) -> NamePattern | None:
    """A pattern that fits all of some paths and names a person, if one can be seen; it is a guess, to be looked at.

    A folder whose name begins as cameras' do is a camera, any other of several is a person; in names, numbers behind letters say what they
    are (``p7``, ``cam2``, ``f0012``); else the first is the person, if no folder is, and the one that changes most the frame.

    Example:
        >>> from lightning_reid.datamodules.readers.name_pattern import guessed_pattern
        >>> guessed_pattern(["cam1/p7_f12.jpg", "cam2/p8_f3.jpg"]).text
        '{camera}/p{person}_f{frame}'
        >>> guessed_pattern(["anna/001.png", "ben/002.png"]).text
        '{person}/{frame}'
    """
    split_names = [name.split("/") for name in names]
    if not names or len({len(one) for one in split_names}) != 1:
        return None
    folders = [_guessed_folder([one[level] for one in split_names]) for level in range(len(split_names[0]) - 1)]
    parts, seen = list[str](), set[str]()
    for guess, level in zip(folders, range(len(folders)), strict=True):
        field = guess if guess not in seen else None
        seen |= {field} if field else set()
        same = {one[level] for one in split_names}
        parts.append(f"{{{field}}}" if field else same.pop() if len(same) == 1 else ANYTHING)
    stem = _guessed_stem([one[-1] for one in split_names], seen)
    if stem is None:
        return None
    pattern = "/".join([*parts, stem])
    try:
        found = NamePattern(pattern)
    except ValueError:  # names with braces or stars of their own
        return None
    return found if "person" in found.fields and all(found.read(name) is not None for name in names) else None


def _guessed_folder(level: Iterable[str]) -> str | None:
    names = set(level)
    if all(one.lower() in SPLIT_NAMES for one in names):
        return "split"
    if all(looks_like_a_clock(one) for one in names):
        return None
    if len(names) > 1 or _CAMERA_FOLDER.fullmatch(next(iter(names))):
        return "camera" if all(_CAMERA_FOLDER.fullmatch(one) for one in names) else "person"
    return None


def _guessed_stem(names: Sequence[str], seen: set[str]) -> str | None:
    """The pattern of file names without their ends, ``None`` if they are of several forms and the folders do not say who is seen."""
    tokens = [_TOKENS.findall(name.rpartition(".")[0]) for name in names]
    forms = Counter(tuple("0" if one.isdecimal() else one for one in row) for row in tokens)
    if len(forms) != 1:
        return _by_separators(names, seen)
    form, fields = list(next(iter(forms))), dict[int, str]()
    digits = [place for place, one in enumerate(form) if one == "0"]
    for place in digits:
        before = form[place - 1].lower() if place else ""
        before = form[place - 2].lower() if before in ("_", "-", " ", "=") and place > 1 else before
        field = next((field for field, prefixes in _PREFIXES.items() if before in prefixes), None)
        if field and field not in seen | set(fields.values()):
            fields[place] = field
    left = [place for place in digits if place not in fields]
    if left and "person" not in seen | set(fields.values()):
        fields[left.pop(0)] = "person"
    if left and "frame" not in fields.values():  # what changes most; a sequence or the number of a box changes less
        counted = [(len({row[place] for row in tokens}), place) for place in left]
        fields[max(counted)[1]] = "frame"
    written = [f"{{{fields[place]}}}" if place in fields else ANYTHING if one == "0" else one for place, one in enumerate(form)]
    return "".join(written)


def _by_separators(names: Sequence[str], seen: set[str]) -> str | None:
    """Names of one number of parts between underscores, of which the first is the person, and the last, if it is digits, the frame."""
    rows = [name.rpartition(".")[0].split("_") for name in names]
    if "person" in seen:
        return ANYTHING
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return None
    parts = ["{person}", *[ANYTHING] * (len(rows[0]) - 1)]
    for place in range(1, len(parts)):
        column = [row[place].lower() for row in rows]
        digits = [re.fullmatch(r"([a-z]*)([0-9]+)", one) for one in column]
        starts = {one[1] for one in digits if one is not None}
        if None not in digits and len(starts) == 1 and (start := starts.pop()) in _PREFIXES["camera"] and "{camera}" not in "".join(parts):
            parts[place] = f"{rows[0][place][: len(start)]}{{camera}}"
        elif None not in digits and place == len(parts) - 1:
            parts[place] = "{frame}" if all(one.isdecimal() for one in column) else parts[place]
    return "_".join(parts)
