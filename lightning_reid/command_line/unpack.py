"""``lightning-reid unpack URL DIR``: blocks back to a folder of files."""

from __future__ import annotations

import os
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.storage_options import add_storage_options

DESCRIPTION = """Write the frames of a packed set as files, byte by byte as they were, with a table that any datamodule reads.

DIR is a new folder: images/ and images.csv, or for tracklets tracklets.csv.
"""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("url", type=str, help="folder or address of the blocks")
    parser.add_argument("dir", type=str, help="new folder")
    add_storage_options(parser)
    return parser


def run(cfg: Namespace) -> int:
    """Unpack, and tell what was written.

    Raises:
        OSError: The store does not answer, or the disk is full.
        ValueError: DIR exists, or the index is damaged.
        CorruptBlockError: A frame cannot be had as it was packed; nothing is left at DIR.
    """
    from lightning_reid.datamodules.blocks.unpacking import unpack  # with what --help need not wait for

    if os.path.lexists(cfg.dir):
        raise ValueError(f"{cfg.dir} exists: give another DIR")
    index, table = unpack(cfg.url, Path(cfg.dir), cfg.storage_options)
    Console().print(f"{printable(index.name)}: {index.num_frames:,} frames in {printable(cfg.dir)}, listed in {table}")
    return 0
