"""The parts of people's own file names, and what they are by the marks that they bear."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lightning_reid.datamodules.readers.name_pattern import ANYTHING
from lightning_reid.datamodules.readers.own_ids import CLOCK_WITHIN, looks_like_a_clock

SPLIT_NAMES = ("train", "training", "query", "probe", "gallery", "test", "testing", "val", "validation")
"""What folders of splits are called."""
_MARKS = {
    "camera": ("c", "cam", "camera", "camid", "view", "kamera", "k", "摄像头", "相机"),
    "person": ("p", "person", "pid", "id", "identity", "ped", "pedestrian", "people", "human", "user", "subject", "行人"),
    "frame": ("f", "frame", "time", "img", "image", "idx", "crop"),
    "track": ("track", "tracklet", "trk", "tid", "obj", "object"),
}
"""Words in front of a number that say what it is."""
_CAMERA_FOLDER = re.compile(
    r"(?i)((c|k|cam|camera|view|kamera|channel|ch|摄像头|相机)[\s_-]*[0-9]{1,3}|(cam|camera|view|kamera|channel)[\s_-]*[a-z]"
    r"|(door|gate|yard|hall|lobby|street|road|entrance|entry|exit|inside|outside|indoors?|outdoors?|left|right|front|back)[\s_-]*[0-9]*)"
)
_PERSON_FOLDER = re.compile(rf"(?i)({'|'.join(_MARKS['person'])})[\s_-]*[0-9]+")
_NOBODY = re.compile(
    r"(?i)(s|seq|sequence|scene|video|vid|clip|day|set|part|batch|fold|session|track|tracklet|frames?|imgs?|images?|crops?|photos?|dsc|pic"
    r"|data|raw|night|morning|noon|afternoon|evening|unknown)[\s_-]*[0-9]*"
)
"""Words that are neither names of people nor of places."""
_NUMBER, _CLOCK = "0", "00"
_FORMS = {"digits": _NUMBER, "clock": _CLOCK}
"""What stands for all tokens of a kind in the form of a name; words and marks stand for themselves."""
_AFTER_FIRST = (2, 3)
"""Place of a camera's number that follows the first one: of 0001C1, and of 0001_c1."""
_TOKENS = re.compile(rf"(?P<clock>{CLOCK_WITHIN})|(?P<digits>[0-9]+)|(?P<word>[^\W\d_]+)|(?P<mark>[\W_])")


class Level(NamedTuple):
    """The folders of one depth.

    Attributes:
        kind: ``"split"``, ``"camera"``, ``"person"``, ``"clock"``, ``"nobody"``; ``"fixed"`` of a single one; ``"unmarked"`` of several
            that bear no mark; ``"mixed"`` of splits and others.
        names: Of each path.
    """

    kind: str
    names: tuple[str, ...]


def level_of(names: Sequence[str]) -> Level:
    """What the folders of one depth are, by their names."""
    different = set(names)
    splits = sum(one.lower() in SPLIT_NAMES for one in different)
    kinds = {
        "split": splits == len(different),
        "mixed": splits > 0,
        "clock": all(looks_like_a_clock(one) for one in different),
        "camera": all(_CAMERA_FOLDER.fullmatch(one) for one in different),
        "person": all(_PERSON_FOLDER.fullmatch(one) for one in different),
        "fixed": len(different) == 1,
        "nobody": all(_NOBODY.fullmatch(one) for one in different),
    }
    return Level(next((kind for kind, fits in kinds.items() if fits), "unmarked"), tuple(names))


def same_person(one: str, other: str) -> bool:
    """Whether two parts of a path tell the same person: ``person_012`` and ``12``, say."""
    ends = [re.search(r"0*([0-9]+)$", text) for text in (one, other)]
    return one == other or (None not in ends and ends[0][1] == ends[1][1])  # type: ignore[index]


@dataclass(frozen=True)
class Stem:
    """File names without their ends, of one form.

    Attributes:
        texts: The names.
        rows: The tokens of each, as many in each; empty if they are of several forms.
        fields: Place of a token to ``"camera"`` or ``"frame"``, where a mark says so.
        people: Places of numbers that a mark tells to be a person.
        words: The place of a word in front that differs, as names of people do.
        tracks: Places of numbers that a mark tells to be a track.
        bare: Places of numbers without a mark.
        has_clock: Whether there is a date, a time or a count of a clock.
    """

    texts: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    fields: dict[int, str] = field(default_factory=dict)
    people: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    tracks: tuple[int, ...] = ()
    bare: tuple[int, ...] = ()
    has_clock: bool = False

    def column(self, place: int) -> tuple[str, ...]:
        """What all names have at a place."""
        return tuple(row[place] for row in self.rows)

    def written(self, person: int | None, seen: set[str], repeated: Collection[int] = ()) -> str:
        """The pattern of the names.

        Args:
            person: Place of the person, if it is here.
            seen: Fields that the folders tell.
            repeated: Places that tell what a folder tells, and so no frame.
        """
        if not self.rows:
            return ANYTHING
        fields = {place: one for place, one in self.fields.items() if one not in seen}
        if person is not None:
            fields[person] = "person"
        if "frame" not in (*fields.values(), *seen):  # what changes most; a sequence or the number of a box changes less
            left = [place for place in (*self.bare, *self.tracks) if place not in (*fields, *self.people, *repeated)]
            counted = [(len(set(self.column(place))), place) for place in left if all(one.isdecimal() for one in self.column(place))]
            fields |= {max(counted)[1]: "frame"} if counted else {}
        texts = [f"{{{fields[place]}}}" if place in fields else self._text(place) for place in range(len(self.rows[0]))]
        return re.sub(r"\*(?:[_. -]\*)+$", ANYTHING, "".join(texts))

    def _text(self, place: int) -> str:
        """What all names have there, unless they differ or it is a number."""
        one, *others = set(self.column(place))
        return one if not others and not re.search("[0-9]", one) else ANYTHING


def stem_of(texts: Sequence[str]) -> Stem:
    """The tokens of names, and what they are by their marks; of names of several forms, by the underscores between their parts."""
    found = [[(one.lastgroup or "", one[0]) for one in _TOKENS.finditer(text)] for text in texts]
    has_clock = any(kind == "clock" for row in found for kind, _ in row)
    forms = {tuple(_FORMS.get(kind, text) for kind, text in row) for row in found}
    if len(forms) > 1:
        return _by_underscores(texts, has_clock)
    form, of = next(iter(forms)), dict[str, list[int]]()
    for place, token in enumerate(form):
        if token == _NUMBER:
            of.setdefault(_kind(form, place), []).append(place)
    fields: dict[int, str] = {of[kind][0]: kind for kind in ("camera", "frame") if kind in of}
    people, bare = of.get("person", []), of.get("bare", [])
    if 0 in bare and any(place in of.get("camera", []) and form[place - 1].lower() == "c" for place in _AFTER_FIRST):
        people, bare = [0, *people], bare[1:]  # 0001_c1, 0001C1: as Market-1501 and MARS have it; 0001_cam1 may be a frame
    rows = tuple(tuple(text for _, text in row) for row in found)
    return Stem(tuple(texts), rows, fields, tuple(people), (), tuple(of.get("track", [])), tuple(bare), has_clock)


def _kind(form: Sequence[str], place: int) -> str:
    """What a number is by the word in front of it: a key of ``_MARKS``, ``"bare"`` without a word, or ``""`` with any other."""
    before = form[place - 1].lower() if place else ""
    word = form[place - 2].lower() if place > 1 and before in ("_", "-", " ", "=") else before
    marked = next((kind for kind, words in _MARKS.items() if word in words), None)
    return marked or ("" if before.isalpha() else "bare")


def _by_underscores(texts: Sequence[str], has_clock: bool) -> Stem:
    """Names of one number of parts between underscores, of which the first may be a word that is the person."""
    split = [text.split("_") for text in texts]
    if len({len(row) for row in split}) > 1 or len(split[0]) < 2:
        return Stem(tuple(texts), has_clock=has_clock)
    columns, fields = list[tuple[str, ...]](), dict[int, str]()
    for column in zip(*split, strict=True):
        columns += [("_",) * len(texts)] if columns else []
        numbered = [re.fullmatch(r"([A-Za-z]*)[0-9]+", one) for one in column]
        marks = {None if one is None else one[1] for one in numbered}
        mark = marks.pop() if len(marks) == 1 else None
        kind = next((kind for kind in ("camera", "frame", "person") if mark and mark.lower() in _MARKS[kind]), None)
        if mark and kind and kind not in fields.values():
            columns += [(mark,) * len(texts), tuple(one[len(mark) :] for one in column)]
            fields[len(columns) - 1] = kind
        else:
            columns.append(column)
    first, last = columns[0], len(columns) - 1
    is_word = (
        0 not in fields
        and not any(one.isdecimal() or looks_like_a_clock(one) or _NOBODY.fullmatch(one) for one in first)
        and len(set(first)) > 1
    )
    bare = (last,) if last not in fields and all(one.isdecimal() for one in columns[last]) else ()
    rows = tuple(zip(*columns, strict=True))
    people = tuple(place for place, kind in fields.items() if kind == "person")
    fields = {place: kind for place, kind in fields.items() if kind != "person"}
    return Stem(tuple(texts), rows, fields, people, (0,) if is_word else (), (), bare, has_clock)
