"""``lightning-reid convert PATH OUT --pattern ...``: people's own names to a table, or to a folder in the Market naming."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.datamodules.readers.ids import number_ids
from lightning_reid.datamodules.readers.image_files import image_files
from lightning_reid.datamodules.readers.market_naming import MARKET_FOLDERS
from lightning_reid.datamodules.readers.name_pattern import Named, NamePattern, guessed_pattern, in_words
from lightning_reid.datamodules.readers.own_split import GALLERY, QUERY, TRAIN, split_by_person
from lightning_reid.files import folder_written_whole, write_atomically

DESCRIPTION = """Make a table, or a folder in the Market naming, of images that are named in a way of their own; nothing in PATH is changed.

OUT ends with .csv: a table of the images where they are, which it must lie beside or above. Else OUT is a new folder: images are copied
into it under the names that Market-1501 has, and ids.csv says which number is whom.
Without {split} in the pattern people are divided: some to train on, the others tested, each query with a match in another camera.
"""
HEADING = ("path", "pid", "camid", "split", "frame")
_SPLITS = {"train": TRAIN, "training": TRAIN, "query": QUERY, "probe": QUERY, "gallery": GALLERY}
_SHOWN = 3


class Row(NamedTuple):
    """An image that is converted.

    Attributes:
        name: Its path below the folder.
        named: What that says.
        split: ``"train"``, ``"query"`` or ``"gallery"``.
    """

    name: str
    named: Named
    split: str


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("path", type=str, help="folder of images, at any depth")
    parser.add_argument("out", type=str, help="table.csv, or a new folder")
    told = "how names say who is seen where: {camera}/{person}_{frame}.jpg, * for anything; default a guess, which is shown"
    parser.add_argument("--pattern", type=str | None, default=None, help=told)
    parser.add_argument("--test_share", type=float, default=0.5, help="of the people who can be found again, in (0, 1), to test on")
    parser.add_argument("--seed", type=int, default=0, help="of the division of people")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Convert, and tell what was made.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: OUT cannot be written.
        ValueError: OUT exists, there is no image, the pattern does not fit, or nobody could be tested.
    """
    path, out = Path(cfg.path), Path(cfg.out)
    if out.exists():
        raise ValueError(f"{out} exists: give another OUT")
    as_table = out.suffix.lower() == ".csv"
    if as_table and not path.resolve().is_relative_to(out.resolve().parent):
        beside = path.resolve().parent / out.name
        raise ValueError(f"{out} would not lie above its images, which a table must: {beside} would")
    if not as_table and out.resolve().is_relative_to(path.resolve()):
        raise ValueError(f"{out} lies in {path}, whose images it would become part of: give another OUT")
    rows, pattern = _rows(path, cfg)
    if as_table:
        _write_table(path, out, rows)
    else:
        _write_folder(path, out, rows, progress=not cfg.json)
    told = _told(cfg, pattern, rows)
    if cfg.json:
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        _print(told)
    return 0


def _rows(path: Path, cfg: Namespace) -> tuple[list[Row], NamePattern]:
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    names = image_files(path)
    if not names:
        raise ValueError(f"{path} holds no images")
    pattern = guessed_pattern(names) if cfg.pattern is None else NamePattern(cfg.pattern)
    if pattern is None:
        shown = ", ".join(names[:_SHOWN])
        raise ValueError(f"{path}: no pattern can be seen in {shown}: tell it, as in --pattern '{{camera}}/{{person}}_{{frame}}.jpg'")
    if "person" not in pattern.fields:
        raise ValueError(f"the pattern {pattern.text!r} names no {{person}}, without whom nobody can be told apart")
    named = pattern.read_all(names, str(path))
    splits = _told_splits(named) if "split" in pattern.fields else _made_splits(named, cfg)
    return [Row(*one) for one in zip(names, named, splits, strict=True)], pattern


def _told_splits(named: Sequence[Named]) -> list[str]:
    told = [str(one.split) for one in named]
    unknown = sorted({one for one in told if one.lower() not in _SPLITS})
    if unknown:
        raise ValueError(f"the split {unknown[0]!r} is none of {', '.join(_SPLITS)}: rename it, or write * for {{split}} to have one made")
    return [_SPLITS[one.lower()] for one in told]


def _made_splits(named: Sequence[Named], cfg: Namespace) -> list[str]:
    people = [str(one.person) for one in named]
    return split_by_person(people, [one.camera for one in named], test_share=cfg.test_share, seed=cfg.seed)


def _write_table(path: Path, out: Path, rows: Sequence[Row]) -> None:
    start = Path(os.path.relpath(path.resolve(), out.resolve().parent)).as_posix()
    people = _people([str(row.named.person) for row in rows])

    def write(draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(HEADING)
            for (name, one, split), person in zip(rows, people, strict=True):
                place = name if start == os.curdir else f"{start}/{name}"
                table.writerow((place, person, one.camera or 0, split, one.frame or ""))

    write_atomically(out, write)


def _people(names: Sequence[str]) -> list[str]:
    """People as a table names them: numbers stay, but where one is 0, which is nobody there."""
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    return [f"person {name}" for name in names] if 0 in numbers else list(names)


def _write_folder(path: Path, out: Path, rows: Sequence[Row], *, progress: bool) -> None:
    pids = _numbers("person", [str(row.named.person) for row in rows])
    camids = _numbers("camera", [row.named.camera or "1" for row in rows])
    folders = dict(zip((TRAIN, QUERY, GALLERY), MARKET_FOLDERS, strict=True))
    counts = Counter[str]()
    with folder_written_whole(out) as draft:
        for folder in folders.values():
            (draft / folder).mkdir()
        listed = late_progress(zip(rows, pids, camids, strict=True), f"copying {len(rows):,} images", total=len(rows), disable=not progress)
        for row, pid, camid in listed:
            stem = f"{folders[row.split]}/{pid:04d}_c{camid}_{int(row.named.frame or 0):06d}"
            counts[stem] += 1
            shutil.copyfile(path / row.name, draft / f"{stem}_{counts[stem]:02d}{Path(row.name).suffix.lower()}")
        with (draft / "ids.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("what", "number", "name"))
            names = {"person": [row.named.person for row in rows], "camera": [row.named.camera for row in rows]}
            for what, numbers in (("person", pids), ("camera", camids)):
                table.writerows((what, number, name) for number, name in sorted(dict(zip(numbers, names[what], strict=True)).items()))


def _numbers(what: str, names: Sequence[str]) -> list[int]:
    """From 1: numbers that are stay, but those of nobody (0) and large ones, with which all are numbered anew."""
    if all(one.isascii() and one.isdecimal() and 0 < int(one) < 10**6 for one in names):
        return [int(one) for one in names]
    return number_ids(what, [(name, f"name {name}") for name in names]).ids


def _told(cfg: Namespace, pattern: NamePattern, rows: Sequence[Row]) -> dict[str, Any]:
    counts = {split: [row for row in rows if row.split == split] for split in (TRAIN, QUERY, GALLERY)}
    cameras = {row.named.camera for row in rows} - {None}
    notes = [] if cameras else ["no camera is told: score it by --model.protocol no-camera"]
    return {
        "out": cfg.out,
        "pattern": pattern.text,
        "guessed": cfg.pattern is None,
        "read": {row.name: in_words(row.named) for row in rows[:_SHOWN]},
        "splits": {split: {"images": len(found), "people": len({row.named.person for row in found})} for split, found in counts.items()},
        "cameras": len(cameras),
        "seed": None if "split" in pattern.fields else cfg.seed,
        "notes": notes,
        "next": [f"lightning-reid doctor {cfg.out}"],
    }


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{told['out']}, by the pattern {told['pattern']}{' (a guess: look whether it is right)' if told['guessed'] else ''}")
    for name, words in told["read"].items():
        console.print(f"  {name}: {words}")
    for split, counts in told["splits"].items():
        console.print(f"  {split}: {counts['images']:,} images of {counts['people']:,} people")
    if told["seed"] is not None:
        console.print(f"  people were divided by the seed {told['seed']}; {told['cameras']} cameras")
    for title in ("notes", "next"):
        for line in told[title]:
            console.print(f"{title}: {line}")
