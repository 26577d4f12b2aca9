"""``lightning-reid index add|remove|forget|show|speed INDEX``: pictures of people that can be searched, on the disk."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.seconds import seconds
from lightning_reid.search_index import (
    IndexRow,
    add_rows,
    build_fast,
    create_index,
    forget_person,
    open_index,
    remove_paths,
    write_index,
)
from lightning_reid.search_index.holdings import describe_index, paths_within

if TYPE_CHECKING:
    from lightning_reid.command_line.embedding_options import Embedder
    from lightning_reid.inference import EmbeddedImages

DESCRIPTION = """Keep an index of pictures on the disk, in which lightning-reid search finds people.

lightning-reid index add INDEX crops/ --pattern "{camera}/{person}_{frame}.jpg"     # a folder INDEX is made, or added to
lightning-reid index remove INDEX crops/door/                                       # what lies there is found no more
lightning-reid index forget INDEX anna                                              # nor is anna, of whom no number is left
lightning-reid index show INDEX                                                     # of which network, whom, where, when
lightning-reid index speed INDEX                                                    # approximate search, for millions of pictures
"""
ROWS_AT_A_TIME = 4096
"""That are embedded before they are part of the index: what a process that stops loses."""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    return ArgumentParser(description=DESCRIPTION)


def add_acts(parser: ArgumentParser, asked: str) -> None:
    """Give the parser what can be done with an index, once it is part of that of the command.

    Args:
        parser: Of the verb.
        asked: What will be done: only adding needs networks, whose import takes seconds.
    """
    acts = parser.add_subcommands(required=True, dest="act")
    acts.add_subcommand(
        "add",
        _add_parser() if asked == "add" else ArgumentParser(),
        help="embed pictures, and add them; one whose path is there already is replaced",
    )
    for name, operand, does in (
        ("remove", "paths", "take pictures out"),
        ("forget", "person", "take a person out, with every number and name that is kept of them"),
        ("show", "", "tell what an index holds"),
        ("speed", "", "prepare approximate search, for indexes of millions of pictures (extra faiss)"),
    ):
        one = ArgumentParser(description=does)
        one.add_argument("index", type=str, help="folder of the index")
        if operand == "paths":
            one.add_argument("paths", type=str, nargs="+", help="files as they were added, and folders, which need not be there any more")
        if operand == "person":
            one.add_argument("person", type=str, help="as index show or search name them")
        if name == "speed":
            one.add_argument("--seed", type=int, default=0, help="of the pictures that codes are learned of")
        one.add_argument("--json", action="store_true", help="print one JSON object, for programs")
        acts.add_subcommand(name, one, help=does)


def _add_parser() -> ArgumentParser:
    from lightning_reid.command_line.embedding_options import add_embedding_options

    parser = ArgumentParser(description="Embed pictures, and add them to an index, which is made if there is none.")
    parser.add_argument("index", type=str, help="folder of the index")
    parser.add_argument("paths", type=str, nargs="+", help="image files, folders with images at any depth, and tables")
    told = "how names say who is seen where: {camera}/{person}_{frame}.jpg, * for anything; the Market naming and tables need none"
    parser.add_argument("--pattern", type=str, default=None, help=told)
    parser.add_argument("--person", type=str, default=None, help="whom all these pictures show")
    parser.add_argument("--camera", type=str, default=None, help="where all were taken")
    parser.add_argument("--time", type=seconds, default=None, help="when all were taken, in seconds on a clock of your own")
    add_embedding_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Add, remove, forget, show or speed up, and tell what was done.

    Raises:
        OSError: A file is not there, the disk fails, or another process writes to the index.
        ValueError: What is named is not in the index, it is none or a damaged one, of another model, or a picture cannot be read.
    """
    act = cfg.act
    with listening(logging.WARNING) as notes:
        told = {"add": _add, "remove": _remove, "forget": _forget, "show": _show, "speed": _speed}[act](cfg[act])
    told["notes"] = [*told.get("notes", []), *notes]
    if cfg[act].json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
    else:
        _print(told)
    return 0


def _add(cfg: Namespace) -> dict[str, Any]:
    from lightning_reid.command_line.embedding_options import embedder_of
    from lightning_reid.command_line.named_crops import named_crops

    folder = Path(cfg.index)
    found = named_crops(cfg.paths, cfg.pattern, person=cfg.person, camera=cfg.camera, time=cfg.time)
    embedder, began, added, replaced = embedder_of(cfg), time.monotonic(), 0, 0
    is_there = folder.is_dir() and any(folder.iterdir())
    with ExitStack() as stack:
        index = stack.enter_context(write_index(folder, embedder.name)) if is_there else None
        for rows, embeddings in _embedded(found.rows, embedder):
            if index is None:  # made once there is something to add, so that a mistake leaves none behind
                create_index(folder, embedder.name, embeddings.shape[1])
                index = stack.enter_context(write_index(folder, embedder.name))
            replaced += add_rows(index, rows, embeddings)
            added += len(rows)
    return {
        "index": cfg.index,
        "added": added,
        "of them replaced": replaced,
        "left out": len(found.rows) - added,
        "people": len({row.person for row in found.rows} - {None}),
        "cameras": len({row.camera for row in found.rows} - {None}),
        "model": embedder.name,
        "seconds": round(time.monotonic() - began, 2),
        "notes": found.notes,
    }


def _embedded(rows: Sequence[IndexRow], embedder: Embedder) -> Iterator[tuple[list[IndexRow], torch.Tensor]]:
    """Rows with their embeddings, some thousands at a time."""
    of_path = {row.path: row for row in rows}
    held: list[EmbeddedImages] = []

    def flushed() -> tuple[list[IndexRow], torch.Tensor]:
        some = [of_path[path] for part in held for path in part.paths], torch.cat([part.embeddings for part in held])
        held.clear()
        return some

    for part in embedder.how.stream(embedder.network, list(of_path)):
        held.append(part)
        if sum(len(one.paths) for one in held) >= ROWS_AT_A_TIME:
            yield flushed()
    if held:
        yield flushed()


def _remove(cfg: Namespace) -> dict[str, Any]:
    with write_index(Path(cfg.index)) as index:
        found = {place: paths_within(index, place) for place in cfg.paths}
        missing = [place for place, paths in found.items() if not paths]
        if missing:
            raise ValueError(f"{cfg.index} has no picture {missing[0]}, and none in a folder of that name: nothing was removed")
        removed = remove_paths(index, [path for paths in found.values() for path in paths])
    return {"index": cfg.index, "removed": removed}


def _forget(cfg: Namespace) -> dict[str, Any]:
    with write_index(Path(cfg.index)) as index:
        return {"index": cfg.index, "person": cfg.person, "forgotten pictures": forget_person(index, cfg.person)}


def _show(cfg: Namespace) -> dict[str, Any]:
    with open_index(Path(cfg.index)) as index:
        return {"index": cfg.index} | describe_index(index)


def _speed(cfg: Namespace) -> dict[str, Any]:
    began = time.monotonic()
    with write_index(Path(cfg.index)) as index:
        built = build_fast(index, seed=cfg.seed)
    return {"index": cfg.index} | built._asdict() | {"seconds": round(time.monotonic() - began, 1)}


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, value in told.items():
        for line in value if name == "notes" else [value]:
            shown = ", ".join(f"{one} {count:,}" for one, count in line.items()) if isinstance(line, dict) else line
            shown = f"{shown:,}" if isinstance(shown, int) else shown
            console.print(printable(f"{name}: {shown}"))
