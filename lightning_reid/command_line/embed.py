"""``lightning-reid embed PATH... OUT.npz``: pictures of people to embeddings, for one's own programs."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.command_line.embedding_options import add_embedding_options, embedder_of
from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.printable import printable
from lightning_reid.inference import find_crops, write_embedding_parts

DESCRIPTION = """Embed crops of people, one of each, with a network: numbers whose dot product tells how alike two people look.

OUT.npz holds embeddings, float32 [N, D], each of length 1, and paths, text [N], for numpy.load. It takes no more memory for more pictures.
To find somebody among many pictures, lightning-reid index and lightning-reid search do all of it.
"""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("paths", type=str, nargs="+", help="image files, and folders with images at any depth")
    parser.add_argument("out", type=str, help="new file, which ends with .npz")
    add_embedding_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Embed pictures, and tell what was written.

    Raises:
        OSError: A picture or the network is not there, or OUT cannot be written.
        ValueError: OUT exists, a picture cannot be read, or the network is none of crops.
    """
    out = Path(cfg.out)
    if out.suffix.lower() != ".npz":
        raise ValueError(f"{out} must end with .npz")
    if os.path.lexists(out):
        raise ValueError(f"{out} exists: give another OUT")
    with listening() as notes:
        crops = find_crops(cfg.paths)
    with listening(logging.WARNING) as warned:
        embedder = embedder_of(cfg)
        began = time.monotonic()
        written = write_embedding_parts(out, embedder.how.stream(embedder.network, crops))
    told: dict[str, Any] = {
        "out": cfg.out,
        "images": written.number,
        "left out": len(crops) - written.number,
        "dimension": written.dimension,
        "model": embedder.name,
        "seconds": round(time.monotonic() - began, 2),
        "notes": [*notes, *warned],
    }
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")
        return 0
    sys.stdout.write(printable(f"{out}: {written.number:,} embeddings of {written.dimension} numbers by {embedder.name}") + "\n")
    rate = written.number / max(told["seconds"], 0.01)
    sys.stdout.write(f"{rate:,.0f} pictures a second\n")
    for note in told["notes"]:
        sys.stdout.write(printable(f"note: {note}") + "\n")
    return 0
