"""``lightning-reid convert PATH OUT --pattern ...``: people's own names to a table, or to a folder in the Market naming."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.named_splits import is_of_tests, named_splits
from lightning_reid.command_line.next_commands import next_commands, notes_on
from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.seen import MARKET_PART, look_at, parent_of
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.datamodules.readers.ids import number_ids
from lightning_reid.datamodules.readers.image_files import image_files
from lightning_reid.datamodules.readers.market_naming import MARKET_FOLDERS, is_market_part
from lightning_reid.datamodules.readers.name_guess import guess_names, read_names
from lightning_reid.datamodules.readers.name_pattern import Named, NamePattern, in_words
from lightning_reid.datamodules.readers.own_ids import own_ids
from lightning_reid.datamodules.readers.own_split import GALLERY, QUERY, TRAIN, VAL, hold_out_to_validate, split_by_person
from lightning_reid.datamodules.readers.table import read_table
from lightning_reid.files import folder_written_whole, write_atomically

DESCRIPTION = """Make a table, or a folder in the Market naming, of images that are named in a way of their own; nothing in PATH is changed.

OUT ends with .csv: a table of the images where they are, which it must lie beside or above. Else OUT is a new folder: images are copied
into it under the names that Market-1501 has, and ids.csv says which number is whom.
Without {split} in the pattern people are divided: some to train on, in a table some of them to validate on, the others tested, each query
with a match in another camera.
"""
VAL_HELP = (
    "of the people to train on who can be found again, in [0, 1), to validate on; by default 0.1 where people are divided into a table,"
    " else 0: the Market naming has no part for them"
)
VAL_SHARE = 0.1
HEADING = ("path", "pid", "camid", "split", "frame")
IDS_TABLE = "ids.csv"
"""Of a folder: which number is whom."""
_TABLES = (".tsv", ".txt", ".xlsx", ".xls", ".parquet", ".pq")
_SHOWN = 3
_DIGITS = 18
"""That a whole number of 63 bits has at least."""


class Row(NamedTuple):
    """An image that is converted.

    Attributes:
        name: Its path below the folder.
        named: What that says.
        person: Id of whom it shows.
        camera: Id of where; ``None`` where that is not told.
        split: ``"train"``, ``"val"``, ``"query"`` or ``"gallery"``.
    """

    name: str
    named: Named
    person: str
    camera: str | None
    split: str


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("path", type=str, help="folder of images, at any depth")
    parser.add_argument("out", type=str, help="table.csv, or a new folder")
    told = "how names say who is seen where: {camera}/{person}_{frame}.jpg, * for anything; default a guess, which is shown"
    parser.add_argument("--pattern", type=str, default=None, help=told)
    parser.add_argument("--test_share", type=float, default=0.5, help="of the people who can be found again, in (0, 1), to test on")
    parser.add_argument("--val_share", type=float | None, default=None, help=VAL_HELP)
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
    if os.path.lexists(out):
        raise ValueError(f"{out} exists: give another OUT")
    if out.suffix.lower() in _TABLES:
        raise ValueError(f"{out}: a table is written as .csv, anything else is a folder")
    as_table, within = out.suffix.lower() == ".csv", path.resolve()
    if as_table and not within.is_relative_to(out.parent.resolve()):
        raise ValueError(f"{out} would not lie above its images, which a table must: {within.parent / out.name} would")
    if not as_table and (out.parent.resolve() / out.name).is_relative_to(within):
        raise ValueError(f"{out} lies in {path}, whose images it would become part of: give another OUT")
    with listening() as passed_over:
        rows, pattern = _rows(path, cfg)
    if as_table:
        _write_table(path, out, rows)
    else:
        _write_folder(path, out, rows, progress=not cfg.json)
    told = _told(cfg, pattern, rows)
    told["notes"] += [*passed_over, *notes_on(told["next"])]
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
    else:
        _print(told)
    return 0


def _rows(path: Path, cfg: Namespace) -> tuple[list[Row], NamePattern]:
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    names = image_files(path)
    if not names:
        raise ValueError(f"{path} holds no images")
    pattern = _guessed(path, names) if cfg.pattern is None else NamePattern(cfg.pattern)
    if "person" not in pattern.fields:
        raise ValueError(f"the pattern {pattern.text!r} names no {{person}}, without whom nobody can be told apart")
    named = read_names(pattern, names, str(path))
    if cfg.pattern is None:
        _require_seen_again(pattern, named)
    long = next((name for name, one in zip(names, named, strict=True) if len(one.frame or "") > _DIGITS), None)
    if long is not None:
        raise ValueError(f"{long} has a frame of more than {_DIGITS} digits: write * for {{frame}}")
    people = own_ids("person", [str(one.person) for one in named])
    cameras = own_ids("camera", [str(one.camera) for one in named]) if "camera" in pattern.fields else [None] * len(named)
    if "split" in pattern.fields:
        splits = named_splits([str(one.split) for one in named], people, cameras, seed=cfg.seed)
    else:
        splits = split_by_person(people, cameras, test_share=cfg.test_share, seed=cfg.seed)
    share = _val_share(cfg, splits, made="split" not in pattern.fields)
    splits = hold_out_to_validate(people, cameras, splits, val_share=share, seed=cfg.seed)
    return [Row(*one) for one in zip(names, named, people, cameras, splits, strict=True)], pattern


def _guessed(path: Path, names: Sequence[str]) -> NamePattern:
    if is_market_part(path):
        raise ValueError(
            f"{path} is {MARKET_PART}, in which 0000 and -1 are nobody and which needs no converting: lightning-reid doctor"
            f" {shlex.quote(str(parent_of(path)))}; to convert it all the same, tell its pattern"
        )
    guess = guess_names(names)
    if guess.pattern is not None:
        return guess.pattern
    told = f"{path}: no pattern can be seen in {', '.join(names[:_SHOWN])}: {guess.why}. "
    fitting = " or ".join(shlex.quote(one.text) for one in guess.candidates)
    raise ValueError(told + (f"Say which it is: --pattern {fitting}" if fitting else "Tell it, as in --pattern '{camera}/{person}_*.jpg'"))


def _require_seen_again(pattern: NamePattern, named: Sequence[Named]) -> None:
    """Refuse a guess by which most people have a single image: it took a frame for them, or a name that each image has of its own."""
    images = Counter(one.person for one in named)
    single = sum(count == 1 for count in images.values())
    if single > len(images) / 2:
        raise ValueError(
            f"by the guess {pattern.text!r} {single} of {len(images)} people have a single image, as if it took another number for them:"
            f" if it is right, say --pattern {shlex.quote(pattern.text)}"
        )


def _val_share(cfg: Namespace, splits: Sequence[str], *, made: bool) -> float:
    as_table = Path(cfg.out).suffix.lower() == ".csv"
    if cfg.val_share is None:
        return VAL_SHARE if made and as_table else 0.0
    if cfg.val_share and not as_table:
        raise ValueError("--val_share: the Market naming has no part to validate on: give OUT as a .csv, or leave it out")
    if cfg.val_share and VAL in splits:
        raise ValueError("--val_share: names tell already who is to be validated on: leave it out")
    return float(cfg.val_share)


def _write_table(path: Path, out: Path, rows: Sequence[Row]) -> None:
    start = Path(os.path.relpath(path.resolve(), out.parent.resolve())).as_posix()
    for row in rows:
        if not row.name.isprintable():
            raise ValueError(f"the name {row.name!r} holds what no table can: rename it, or give a folder as OUT")

    def write(draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(HEADING)
            for row in rows:
                place = row.name if start == os.curdir else f"{start}/{row.name}"
                table.writerow((place, row.person, row.camera or 0, row.split, row.named.frame or ""))
        try:
            with listening():  # how ids are numbered is told whenever it is read, by a name that it has then
                read_table(draft, needs_train=False, needs_test=False)  # by what will read it
        except (ValueError, OSError) as error:
            raise ValueError(str(error).replace(str(draft), str(out))) from error

    write_atomically(out, write)


def _write_folder(path: Path, out: Path, rows: Sequence[Row], *, progress: bool) -> None:
    pids = _numbers("person", [row.person for row in rows])
    camids = _numbers("camera", [row.camera or "1" for row in rows])
    folders = dict(zip((TRAIN, QUERY, GALLERY), MARKET_FOLDERS, strict=True))
    folders[VAL] = folders[TRAIN]
    counts = Counter[str]()
    with folder_written_whole(out) as draft:
        for folder in MARKET_FOLDERS:
            (draft / folder).mkdir()
        listed = late_progress(zip(rows, pids, camids, strict=True), f"copying {len(rows):,} images", total=len(rows), disable=not progress)
        for row, pid, camid in listed:
            stem = f"{folders[row.split]}/{pid:04d}_c{camid}_{int(row.named.frame or 0):06d}"
            counts[stem] += 1
            shutil.copyfile(path / row.name, draft / f"{stem}_{counts[stem]:02d}{Path(row.name).suffix.lower()}")
        with (draft / IDS_TABLE).open("w", newline="", encoding="utf-8") as file:
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
    counts = {split: [row for row in rows if row.split == split] for split in (TRAIN, VAL, QUERY, GALLERY)}
    cameras, as_table = {row.camera for row in rows} - {None}, Path(cfg.out).suffix.lower() == ".csv"
    notes = [] if cameras else ["no camera is told: score it by --model.protocol no-camera"]
    named_tests = [row for row in rows if row.named.split is not None and is_of_tests(row.named.split)]
    moved = sum(row.split == TRAIN for row in named_tests)
    if moved:
        notes.insert(0, f"{moved} images to test or validate show people who are trained on: they are trained on too")
    if not counts[VAL] and (cfg.val_share or (cfg.val_share is None and as_table and "split" not in pattern.fields)):
        notes.append("nobody is held out to validate on: too few people who are trained on can be found again")
    if counts[VAL] and not as_table:
        notes.append(f"{len(counts[VAL])} images to validate on lie among those to train on, for the Market naming has no part for them")
    return {
        "out": cfg.out,
        "pattern": pattern.text,
        "guessed": cfg.pattern is None,
        "read": {row.name: in_words(row.named) for row in rows[:_SHOWN]},
        "splits": {split: {"images": len(found), "people": len({row.person for row in found})} for split, found in counts.items() if found},
        "cameras": len(cameras),
        "seed": cfg.seed if named_tests or cfg.val_share or "split" not in pattern.fields else None,
        "notes": notes,
        "next": [f"lightning-reid doctor {shlex.quote(cfg.out)}", *next_commands(Path(cfg.out), look_at(Path(cfg.out)))],
    }


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)

    def tell(line: str) -> None:
        console.print(printable(line))

    tell(f"{told['out']}, by the pattern {told['pattern']}{' (a guess: look whether it is right)' if told['guessed'] else ''}")
    for name, words in told["read"].items():
        tell(f"  {name}: {words}")
    for split, counts in told["splits"].items():
        tell(f"  {split}: {counts['images']:,} images of {counts['people']:,} people")
    if told["seed"] is not None:
        tell(f"  people were divided by the seed {told['seed']}; {told['cameras']} cameras")
    for title in ("notes", "next"):
        for line in told[title]:
            tell(f"{title}: {line}")
