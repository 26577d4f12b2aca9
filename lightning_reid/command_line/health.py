"""``lightning-reid health URL``: whether all blocks of a set are as they were packed."""

from __future__ import annotations

import json
import sys

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.storage_options import add_storage_options

DESCRIPTION = """Read every block of a packed set whole and compare it with what was packed; tell what is missing, damaged or foreign.

Reading whole blocks makes a replicated store look at its copies: a damaged one is set aside and made anew from the others.
"""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("url", type=str, help="folder or address of the blocks")
    add_storage_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Look, and tell: 0 where every frame can be had, else 1.

    Raises:
        OSError: There is no index, or the store does not answer.
        ValueError: The index is damaged.
    """
    from lightning_reid.datamodules.blocks.health import health  # with what --help need not wait for

    found = health(cfg.url, cfg.storage_options, progress=not cfg.json)
    if cfg.json:
        sys.stdout.write(json.dumps(found.as_plain(), allow_nan=False) + "\n")
        return 0 if found.is_whole else 1
    console = Console()
    console.print(
        f"{printable(found.name)} at {printable(found.url)}: {found.blocks:,} blocks, {found.frames:,} frames, {found.size / 1e6:,.1f} MB"
    )
    for told, names in (
        ("missing", found.missing),
        ("damaged", found.damaged),
        ("mended by the store", found.mended),
        ("foreign", found.foreign),
    ):
        if names:
            console.print(f"{told}: {len(names):,} ({printable(', '.join(names[:10]))})")
    for name, words in found.unreadable.items():
        console.print(f"not given: {printable(name)}: {printable(words)}")
    console.print("every frame can be had as it was packed" if found.is_whole else "pack the set again: what is whole is kept")
    return 0 if found.is_whole else 1
