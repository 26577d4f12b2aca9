"""``lightning-reid pack SET URL``: a data set to blocks, in a folder or at an address."""

from __future__ import annotations

import json
import sys
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.storage_options import add_storage_options

DESCRIPTION = """Pack a data set into blocks: ZIP files of about 32 MB that hold whole tracklets, and an index.

Images stay as they are, byte by byte; the same set gives the same blocks on any machine. URL is a new folder, or an address such as
s3://bucket/market (extra s3). Datamodules and recipes take it wherever they take a data set: --data.dataset URL.
Cut off, it goes on; blocks that are there as they should be are kept. --append adds what is new, a camera's tracklets of today say.
"""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("set", type=str, help="data set: a name, a folder or a table, as recipes take it")
    parser.add_argument("url", type=str, help="new folder, or address, for the blocks")
    parser.add_argument("--root", type=str | None, default=None, help="folder of the named data sets; default ./data")
    parser.add_argument("--split", type=int, default=0, help="of sets that have several")
    parser.add_argument("--append", action="store_true", help="add to the set that is there what it has not yet, as new blocks")
    parser.add_argument(
        "--block_mb", type=float, default=32.0, help="about the size of a block, in MiB; a larger tracklet is a block of its own"
    )
    parser.add_argument("--allow_paths_outside", action="store_true", help="a table may list files that do not lie below its folder")
    add_storage_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Pack, and tell what was written.

    Raises:
        OSError: A file cannot be read, or the store does not take what is written.
        ValueError: An image cannot be decoded, or the address holds another set.
    """
    from lightning_reid.datamodules.blocks import BlockStore, pack  # with torch, which --help need not wait for
    from lightning_reid.datamodules.catalog import prepare_dataset, prepare_video_dataset, read_prepared, read_prepared_video
    from lightning_reid.datamodules.readers.image_check import find_unreadable_files
    from lightning_reid.datamodules.tested import holds_only_tracklets

    if not 0 < cfg.block_mb <= 1024:
        raise ValueError(f"--block_mb must be above 0 and at most 1024, got {cfg.block_mb}")
    options: dict[str, Any] = {
        "split": cfg.split,
        "needs_train": False,
        "needs_test": False,
        "allow_paths_outside": cfg.allow_paths_outside,
    }
    dataset: Any
    if holds_only_tracklets(cfg.set):
        prepare_video_dataset(cfg.set, cfg.root)
        dataset = read_prepared_video(cfg.set, cfg.root, **options)
    else:
        prepare_dataset(cfg.set, cfg.root)
        dataset = read_prepared(cfg.set, cfg.root, **options)
    files = [path for _, split in dataset.splits() for one in split for path in getattr(one, "paths", None) or [one.path]]
    wrong = find_unreadable_files(files, decode=True, progress=not cfg.json)
    if wrong:
        raise ValueError(f"{wrong[0].path} cannot be decoded: {wrong[0].reason} ({len(wrong)} of {len(files)} are so); nothing was packed")
    report = pack(
        dataset, BlockStore(cfg.url, cfg.storage_options), append=cfg.append, block_bytes=int(cfg.block_mb * 2**20), progress=not cfg.json
    )
    index = report.index
    told = {
        "url": cfg.url,
        "name": index.name,
        "kind": index.kind,
        "blocks": len(index.blocks),
        "written": report.written,
        "kept": report.kept,
        "frames": index.num_frames,
        "tracklets": index.num_tracklets,
        "left_out": report.left_out,
        "bytes": sum(block.size for block in index.blocks),
        "splits": {name: len(rows) for name, rows in index.splits.items()},
    }
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")
        return 0
    console = Console()
    console.print(
        f"{printable(index.name)}: {index.num_frames:,} frames of {index.num_tracklets:,} tracklets in {len(index.blocks):,} blocks"
    )
    console.print(f"written {report.written:,}, kept {report.kept:,}; {told['bytes'] / 1e6:,.1f} MB in all at {printable(cfg.url)}")
    if cfg.append:
        console.print(f"tracklets that were there already: {report.left_out:,}")
    return 0
