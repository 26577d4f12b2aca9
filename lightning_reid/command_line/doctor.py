"""``lightning-reid doctor PATH``: what is this, what is wrong with it, and what can be done with it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.contact_sheet import draw_sheet
from lightning_reid.command_line.files import Files, look_into
from lightning_reid.command_line.next_commands import next_commands, notes_on
from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.seen import ALL, MARKET_PART, Found, Seen, is_somebody, look_at
from lightning_reid.datamodules.readers.own_ids import looks_like_a_clock

DESCRIPTION = """Tell what a path is, what is wrong with it, and what can be done with it; nothing in it is changed.

Knows the official layouts, the Market naming, tables, folders of people's own names, videos, weights, runs and indexes. Opens every image
once: what cannot be read, odd sizes, pictures that are there twice, or nearly so under the names of two people.
Ends with 0 if it can be used for something, with 1 if not.
"""
EXAMPLES = 5
"""Of each finding that are shown."""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("path", type=str, help="folder, table, video or file")
    parser.add_argument("--quick", action="store_true", help="open no image: names, counts and lists alone")
    parser.add_argument("--sheet", type=str, default=None, help="PNG file for a contact sheet: a row a person, a picture a camera")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Look at the path, and tell what it is.

    Raises:
        FileNotFoundError: There is nothing at the path.
        OSError: It may not be read, or the contact sheet not be written.
        ValueError: It is a data set that cannot be read as one, or the contact sheet would take the place of something.
    """
    if "://" in cfg.path:
        raise ValueError(f"{cfg.path} is an address: lightning-reid health {cfg.path} looks at the blocks that lie there")
    path, sheet = Path(cfg.path), None if cfg.sheet is None else Path(cfg.sheet)
    if sheet is not None:
        _require_new(sheet, path)
    found = look_at(path)
    paths = list(dict.fromkeys(one.path for one in found.images))
    files = None if cfg.quick or not paths else look_into(paths, progress=not cfg.json)
    told = diagnosis(path, found, files)
    if sheet is not None:
        told["sheet"] = draw_sheet(found.images, sheet)
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
    else:
        _print(told)
    usable = files is None or len(files.unreadable) < told["images"]
    return 0 if told["next"] and usable else 1


def _require_new(sheet: Path, path: Path) -> None:
    if os.path.lexists(sheet):
        raise ValueError(f"--sheet: {sheet} exists: give another file")
    if sheet.suffix.lower() != ".png":
        raise ValueError(f"--sheet: {sheet} must end with .png")
    if path.is_dir() and sheet.resolve().is_relative_to(path.resolve()):
        raise ValueError(f"--sheet: {sheet} lies in {path}, in which nothing is changed: give a file elsewhere")


def diagnosis(path: Path, found: Found, files: Files | None) -> dict[str, Any]:
    """All that is told, in plain values."""
    images = found.images
    told: dict[str, Any] = {"path": str(path), "what": found.kind, "official": found.official, "images": len({one.path for one in images})}
    if found.tracklets:
        told["tracklets"] = found.tracklets
    if found.video is not None:
        told["video"] = found.video
    told["splits"] = {split: _counts([one for one in images if one.split == split]) for split in dict.fromkeys(one.split for one in images)}
    named = [one for one in images if is_somebody(one)]
    if named:
        told |= _of_people(named)
        if found.kind != MARKET_PART:  # whose gallery is another part
            told["queries without a match in another camera"] = _unmatched(images)
    told["problems"] = [*_problems(images), *([] if files is None else _problems_of_files(images, files))]
    if files is not None:
        told["sizes"] = _sizes(files)
    following = next_commands(path, found)
    told["notes"] = list(dict.fromkeys([*found.told, *_untested(found), *notes_on(following)]))
    told["next"] = following
    return told


def _untested(found: Found) -> list[str]:
    """What of a data set is missing to score networks on it."""
    if found.options is None or not found.images:
        return []
    missing = [split for split in ("query", "gallery") if not any(one.split == split for one in found.images)]
    return [f"it has no images of split {' and '.join(missing)}: nothing can be scored on it"] if missing else []


def _counts(images: Sequence[Seen]) -> dict[str, int]:
    people = {one.person for one in images if is_somebody(one)}
    unknown = "unknown" if all(one.split == "train" for one in images) else "junk"
    nobody = {"distractors": sum(one.person == "0" for one in images), unknown: sum(one.person == "-1" for one in images)}
    cameras = {one.camera for one in images if one.camera is not None}
    return {
        "images": len(images),
        "people": len(people),
        "cameras": len(cameras),
        **{name: count for name, count in nobody.items() if count},
    }


def _of_people(named: Sequence[Seen]) -> dict[str, Any]:
    images, cameras, people = Counter(one.person for one in named), defaultdict(set), defaultdict(set)
    for one in named:
        if one.camera is not None:
            cameras[one.person].add(one.camera)
            people[one.camera].add(one.person)
    counts = sorted(images.values())
    told: dict[str, Any] = {"images a person": {"least": counts[0], "median": median(counts), "most": counts[-1]}}
    if people:
        told["people a camera"] = {camera: len(people[camera]) for camera in sorted(people, key=_natural)}
        told["people seen by one camera alone"] = sum(len(one) == 1 for one in cameras.values())
    return told


def _unmatched(images: Sequence[Seen]) -> int:
    there = defaultdict(set)
    for one in images:
        if one.split == "gallery":
            there[one.person].add(one.camera)
    return sum(one.split == "query" and not there[one.person] - {one.camera} for one in images)


def _problems(images: Sequence[Seen]) -> list[str]:
    """What names and lists alone tell."""
    found = []
    of: dict[str, set[str]] = defaultdict(set)
    for one in images:
        if one.person is not None and is_somebody(one):
            of[one.split].add(one.person)
    both = of["train"] & (of["query"] | of["gallery"])
    if both:
        found.append(f"{len(both)} people are trained on and tested: {_some(sorted(both, key=_natural))}")
    for what, values in (("people", {one.person for one in images}), ("cameras", {one.camera for one in images})):
        clocks = sorted(one for one in values if one is not None and looks_like_a_clock(one))
        if clocks and len(clocks) > len(values) / 2:
            found.append(f"the names of {what} look like clocks, as if the pattern took a time for them: {_some(clocks)}")
    named, alone = [one for one in images if is_somebody(one)], Counter(one.person for one in images if is_somebody(one))
    single = sum(count == 1 for count in alone.values())
    if named and single > len(alone) / 2:
        found.append(f"{single} of {len(alone)} people have a single image: is that which is taken for the person another number?")
    return found


def _problems_of_files(images: Sequence[Seen], files: Files) -> list[str]:
    found, who = [], {one.path: one for one in images}
    if files.unreadable:
        shown = _some([f"{path} ({reason})" for path, reason in files.unreadable.items()])
        found.append(f"{len(files.unreadable)} files cannot be read: {shown}")
    copies = sum(len(group) - 1 for group in files.same)
    if copies:
        found.append(f"{copies} files are copies of others, to the byte: {_some([' = '.join(group[:3]) for group in files.same])}")
    of_two = [group for group in files.same if len({who[path].person for path in group}) > 1]
    if of_two:
        found.append(f"{len(of_two)} pictures bear the names of several people: {_some([' = '.join(group[:3]) for group in of_two])}")
    alike = _alike_of_several(who, files)
    if alike:
        shown = _some([" ~ ".join(group[:3]) for group in alike])
        found.append(f"{len(alike)} groups of pictures of several people look nearly the same: {shown}")
    wide = [path for path, (height, width) in files.sizes.items() if width > 1.2 * height]
    if wide:
        found.append(f"{len(wide)} of {len(files.sizes)} pictures are wider than high, which crops of people hardly are: {_some(wide)}")
    small = [path for path, (height, width) in files.sizes.items() if height < 32 or width < 12]
    if small:
        found.append(f"{len(small)} pictures are smaller than 32 x 12 pixels: {_some(small)}")
    return found


def _alike_of_several(who: Mapping[str, Seen], files: Files) -> list[list[str]]:
    """A picture each of the people who bear one look, or two that are nearly the same."""
    looks: list[dict[str | None, str]] = []
    for group in files.looks or ():
        first: dict[str | None, str] = {}
        for path in group:
            if is_somebody(who[path]):
                first.setdefault(who[path].person, path)
        looks.append(first)
    same = [list(first.values()) for first in looks if len(first) > 1]
    near = [looks[a] | looks[b] for a, b in files.near if looks[a] and looks[b] and len({*looks[a], *looks[b]}) > 1]
    return [*same, *(list(first.values()) for first in near)]


def _sizes(files: Files) -> dict[str, Any]:
    heights, widths = ([one[side] for one in files.sizes.values()] for side in (0, 1))
    if not heights:
        return {}
    told = {"height": [min(heights), median(heights), max(heights)], "width": [min(widths), median(widths), max(widths)]}
    if files.looks is None:
        return {**told, "nearly the same": "not looked for: pip install 'lightning-reid[doctor]'"}
    near = {place for pair in files.near for place in pair}
    return {**told, "nearly the same": sum(len(group) for place, group in enumerate(files.looks) if len(group) > 1 or place in near)}


def _some(values: Sequence[str]) -> str:
    left = len(values) - EXAMPLES
    return ", ".join(values[:EXAMPLES]) + (f" and {left} more" if left > 0 else "")


def _natural(text: str | None) -> list[tuple[int, str]]:
    """In the order of the numbers in it."""
    return [(int(one), "") if one.isdecimal() else (-1, one) for one in re.findall(r"[0-9]+|[^0-9]+", text or "")]


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)

    def tell(line: str) -> None:
        console.print(printable(line))

    tell(f"{told['path']}: {told['what']}" + (f", {told['official']} by its figures" if told["official"] else ""))
    for split, counts in told["splits"].items():
        tell(f"  {'images' if split == ALL else split}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for name in ("video", "tracklets", "images a person", "people a camera", "people seen by one camera alone", "sizes"):
        if told.get(name):
            tell(f"  {name}: {_in_words(told[name])}")
    if told.get("queries without a match in another camera"):
        tell(f"  queries without a match in another camera: {told['queries without a match in another camera']:,}")
    for title, lines in (("problems", told["problems"]), ("notes", told["notes"]), ("next", told["next"])):
        for line in lines:
            tell(f"{title}: {line}")
    if "sheet" in told:
        tell(f"a contact sheet: {told['sheet'] or 'none, for there is no picture of somebody that can be read'}")


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " to ".join(f"{one:g}" for one in (value[0], value[-1])) + f" (median {value[1]:g})"
    return f"{value:,}" if isinstance(value, int) else str(value)
