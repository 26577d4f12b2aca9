"""``lightning-reid search INDEX... --query PATH...``: who of an index looks most like the person in a picture."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_reid.arguments import require_number
from lightning_reid.command_line.embedding_options import Embedder, add_embedding_options, embedder_of
from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.probability import NOT_TAKEN, Judge, is_of_nobody, notes_on, shown_probability
from lightning_reid.command_line.seconds import seconds
from lightning_reid.files import write_atomically
from lightning_reid.inference import EmbeddedImages, draw_search, find_calibration, find_crops
from lightning_reid.inference.calibration_file import of_model
from lightning_reid.inference.search import Neighbor, same_file
from lightning_reid.search_index import Filters, open_index, search_indexes
from lightning_reid.search_index.searching import EXACT_UP_TO

DESCRIPTION = """Find the pictures in one or several indexes (lightning-reid index add) that look most like the people in some pictures.

Filters are applied before the nearest are taken. A query's own file is no answer to it. Ends with 0 if anything was found, with 1 if not.
"""
QUERIES_AT_A_TIME = 1024
"""Whose embeddings are compared with the indexes in one pass over them."""
DRAWN = 10
"""Queries that have room in the picture."""
WIDTH_OF_LOGS = 160
"""Columns of a table that is printed into a file or a pipe."""
HEADING = ("query", "rank", "path", "cosine_similarity", "probability", "verdict", "person", "camera", "time", "index")


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("indexes", type=str, nargs="+", help="folders of indexes, all of one network")
    parser.add_argument("--query", type=str, nargs="+", required=True, help="image files, and folders with images at any depth")
    parser.add_argument("--top", type=PositiveInt, default=10, help="answers a query")
    parser.add_argument("--camera", type=str, nargs="+", default=[], help="only pictures of these cameras; default all")
    parser.add_argument("--person", type=str, nargs="+", default=[], help="only pictures of these people; default all")
    clock = "in seconds on the clock of the index (index add --time); pictures without a time are left out then"
    parser.add_argument("--since", type=seconds, default=None, help=f"no picture before this time, {clock}")
    parser.add_argument("--until", type=seconds, default=None, help=f"no picture after this time, {clock}")
    told = "file that calibrate made; default the one kept beside the network, unless it is of generated people"
    parser.add_argument("--calibration", type=str, default=None, help=told)
    prior = "how probable it is beforehand, in (0, 1), that an answer shows the query's person; 0.001 among a thousand people"
    parser.add_argument("--prior", type=float, default=0.5, help=prior)
    parser.add_argument("--picture", type=str, default=None, help=f"new .png file: answers beside their query, of {DRAWN} queries")
    parser.add_argument("--out", type=str, default=None, help="new .csv file with all answers")
    limit = "pictures: an index of more that pass the filters is searched approximately, if index speed was run"
    parser.add_argument("--exact_up_to", type=int, default=EXACT_UP_TO, help=limit)
    add_embedding_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Search, and tell what was found.

    Raises:
        OSError: A file or an index is not there, or an output cannot be written.
        ValueError: A query cannot be read, an index is none, damaged or of another model, or an output exists.
    """
    require_number("--prior", cfg.prior, above=0, below=1)
    for option, path, suffix in (("--picture", cfg.picture, ".png"), ("--out", cfg.out, ".csv")):
        _require_new(option, path, suffix)
    with listening() as notes:
        queries = find_crops(cfg.query)
    with listening(logging.WARNING) as warned:
        embedder = embedder_of(cfg)
        for folder in cfg.indexes:
            with open_index(Path(folder), embedder.name):
                pass  # what cannot be searched is told before the queries are embedded
        told = _searched(cfg, queries, embedder)
    drawn = [] if cfg.picture is None else _notes_on_picture(cfg.picture, told)
    told["notes"] = list(dict.fromkeys([*told["notes"], *notes, *warned, *drawn]))
    if cfg.out is not None:
        _write_table(Path(cfg.out), told)
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
    else:
        _print(told, len(cfg.indexes) > 1)
    if cfg.picture is not None:  # last: where a file is gone, on another machine say, what was found is told all the same
        _draw(Path(cfg.picture), told)
    return 0 if any(one["answers"] for one in told["queries"]) else 1


def _require_new(option: str, path: str | None, suffix: str) -> None:
    if path is not None and os.path.lexists(path):
        raise ValueError(f"{option}: {path} exists: give another file")
    if path is not None and Path(path).suffix.lower() != suffix:
        raise ValueError(f"{option}: {path} must end with {suffix}")


def _judge(cfg: Namespace, embedder: Embedder) -> Judge | None:
    """By the calibration that is given, or that is kept with the network; with mirror images it is another's."""
    if cfg.calibration is not None:
        return Judge(of_model(cfg.calibration, embedder.name), cfg.prior)
    calibration = None if cfg.flip else find_calibration(cfg.model, embedder.name)
    return None if calibration is None else Judge(calibration, cfg.prior)


def _searched(cfg: Namespace, queries: Sequence[str], embedder: Embedder) -> dict[str, Any]:
    filters = Filters(tuple(cfg.camera), tuple(cfg.person), cfg.since, cfg.until)
    judge = _judge(cfg, embedder)
    notes = notes_on(judge.calibration) if judge else ["similarity only: no calibration for this model (lightning-reid calibrate)"]
    if judge is not None and cfg.calibration is None and is_of_nobody(judge.calibration):
        judge, notes = None, [NOT_TAKEN]
    told: dict[str, Any] = {
        "indexes": cfg.indexes,
        "model": embedder.name,
        "searched": 0,
        "approximately": [],
        "queries": [],
        "notes": notes,
    }
    for part in _parts(embedder.how.stream(embedder.network, queries)):
        paths = part.paths

        def is_query(number: int, path: str, paths: Sequence[str] = paths) -> bool:
            return same_file(Path(path), Path(paths[number]))

        found = search_indexes(
            cfg.indexes,
            part.embeddings,
            embedder.name,
            top=cfg.top,
            filters=filters,
            leave_out=is_query,
            exact_up_to=cfg.exact_up_to,
        )
        told["searched"], told["notes"] = found.rows, [*told["notes"], *found.notes]
        told["approximately"] = sorted({*told["approximately"], *found.approximate})
        for path, answers in zip(paths, found.answers, strict=True):
            listed = [
                {
                    "rank": rank,
                    "path": one.path,
                    "similarity": round(one.similarity, 6),
                    "probability": judge.probability(one.similarity) if judge else None,
                    "verdict": judge.verdict(one.similarity) if judge else None,
                    "person": one.person,
                    "camera": one.camera,
                    "time": one.time,
                    "index": one.folder,
                }
                for rank, one in enumerate(answers, 1)
            ]
            told["queries"].append({"path": path, "answers": listed})
    return told


def _parts(batches: Iterator[EmbeddedImages]) -> Iterator[EmbeddedImages]:
    """Batches of a pass, put together for as few searches as there can be."""
    held: list[EmbeddedImages] = []

    def joined() -> EmbeddedImages:
        one = EmbeddedImages(tuple(path for part in held for path in part.paths), torch.cat([part.embeddings for part in held]))
        held.clear()
        return one

    for batch in batches:
        held.append(batch)
        if sum(len(one.paths) for one in held) >= QUERIES_AT_A_TIME:
            yield joined()
    if held:
        yield joined()


def _write_table(out: Path, told: dict[str, Any]) -> None:
    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as table:
            rows = csv.writer(table)
            rows.writerow(HEADING)
            for query in told["queries"]:
                rows.writerows([query["path"], *answer.values()] for answer in query["answers"])

    write_atomically(out, write)


def _notes_on_picture(picture: str, told: dict[str, Any]) -> list[str]:
    answered = sum(bool(query["answers"]) for query in told["queries"])
    if not answered:
        return [f"{picture} is not made: there is no answer to draw"]
    return [f"{picture} has room for {DRAWN} of {answered} queries, the first"] if answered > DRAWN else []


def _draw(picture: Path, told: dict[str, Any]) -> None:
    """One below the other, the rank lists of the first queries that have answers."""
    answered = [query for query in told["queries"] if query["answers"]]
    sheets = [
        draw_search(query["path"], [Neighbor(one["rank"], one["path"], one["similarity"]) for one in query["answers"]])
        for query in answered[:DRAWN]
    ]
    if not sheets:
        return
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    write_atomically(picture, lambda draft: whole.save(draft, format="PNG"))


def _print(told: dict[str, Any], several: bool) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_LOGS)
    for query in told["queries"]:
        table = Table(title=Text(f"most like {printable(query['path'])}"), title_justify="left")
        shown = [
            name
            for name in ("probability", "verdict", "person", "camera", "time")
            if any(one[name] is not None for one in query["answers"])
        ]
        names = ["rank", "similarity", *shown, *(["index"] if several else []), "path"]
        for name in names:
            heading = {"similarity": "cosine", "probability": "prob."}.get(name, name)
            right = name in ("rank", "similarity", "probability")
            table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=name != "path")
        for one in query["answers"]:
            cells = {**one, "similarity": f"{one['similarity']:.3f}"}
            cells |= {} if one["probability"] is None else {"probability": shown_probability(one["probability"])}
            cells["path"] = _short(one["path"])
            told_cells = ["" if cells[name] is None else str(cells[name]) for name in names]
            table.add_row(*(Text(printable(cell)) for cell in told_cells))
        if query["answers"]:
            console.print(table)
        else:
            console.print(Text(printable(f"nothing is found for {query['path']}")), soft_wrap=True)
    way = f", {', '.join(told['approximately'])} approximately" if told["approximately"] else ""
    console.print(Text(printable(f"{told['searched']:,} pictures were searched{way}")), soft_wrap=True)
    for note in told["notes"]:
        console.print(Text(printable(f"note: {note}")), soft_wrap=True)


def _short(path: str) -> str:
    """A path below the working directory as it is typed there."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
