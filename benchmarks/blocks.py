"""Blocks beside single files, and beside the cache of decoded frames: CPU time, requests, clips a second, and memory of the index.

    python benchmarks/blocks.py                        # two minutes
    python benchmarks/blocks.py --images FOLDER        # other images, in any layout that lightning-reid reads
    python benchmarks/blocks.py --only memory

- ``cpu``: CPU seconds a frame of blocks in a folder, divided by those of single files as the library reads them, and (without decoding)
  by those of a bare ``open(path).read()``. Batches of P x K images, and clips of 8 frames (restricted random sampling) of P x K
  tracklets; the ways take turns, and a ratio is the median over the batches. Files lie in the file cache: compared is work, not disks.
- ``requests``: those that reach a store, counted there, a frame where frames come in ranges, and a block where blocks are cached.
- ``clips``: clips a second to a batch of uint8, from files, from blocks, and from the packed cache of raw frames.
- ``memory``: of the index of a set of the size of MARS, and of smaller ones; each process is one of its own. Private megabytes are those
  that it holds beyond what it held after its imports and shares with nobody (``RssAnon``), peak ones are of all kinds (``VmHWM``).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import fsspec
import numpy as np
import torch
from clip_pipeline import our_pipeline
from fsspec.implementations.memory import MemoryFileSystem

from lightning_reid.blocks import serialized
from lightning_reid.blocks.index import BLOCKS, INDEX, SPLITS, BlockFile, BlockIndex
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.blocks import BlockStore, PackedData, pack
from lightning_reid.datamodules.catalog import read_prepared, read_prepared_video
from lightning_reid.datamodules.clip_sampling import rrs_train_frames
from lightning_reid.datamodules.clips import FrameReader
from lightning_reid.datamodules.generated import GeneratedPedestrians, GeneratedTracklets
from lightning_reid.datamodules.images import ResizedCrops
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.packing import PackedCache
from lightning_reid.datamodules.samplers import identity_batches
from lightning_reid.records import PictureSource, Record, ReIDDataset, Splits, TrackletDataset
from lightning_reid.regular_files import read_regular

T, SIZE = 8, (256, 128)
MARS = (1_200_000, 20_000)
ASKED_CPU, ASKED_REQUESTS = 0.6, 0.4
Batch = list[tuple[Sequence[str], Sequence[int]]]
"""Paths and which of them, of what is asked for together: a batch of images at once, clips one by one."""
Row = dict[str, Any]


class CountedFileSystem(MemoryFileSystem):
    """Objects in memory, under ``counted://``, that count who asks for them."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("counted://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Count, and give."""
        type(self).asked.append("whole" if start is None else "range")
        return super().cat_file(path, start=start, end=end, **kwargs)


fsspec.register_implementation("counted", CountedFileSystem, clobber=True)


def image_batches(records: Sequence[Any], rows: torch.Tensor) -> list[Batch]:
    return [[([records[row].path for row in batch], range(len(batch)))] for batch in rows.tolist()]


def clip_batches(records: Sequence[Any], rows: torch.Tensor) -> list[Batch]:
    draw = np.random.default_rng(0)
    return [
        [(paths := records[row].paths, np.unique(rrs_train_frames(len(paths), T, draw)).tolist()) for row in batch]
        for batch in rows.tolist()
    ]


def batch_rows(records: Sequence[Record], p: int, k: int, batches: int) -> torch.Tensor:
    """``[batches, p * k]`` rows, as the datamodules plan them, of as many epochs as it takes."""
    people = {pid: label for label, pid in enumerate(sorted({record.pid for record in records}))}
    labels, plans = torch.tensor([people[record.pid] for record in records]), list[torch.Tensor]()
    while sum(map(len, plans)) < batches:
        plans.append(identity_batches(labels, min(p, len(people)), k, generator=np.random.default_rng(len(plans)), epoch="records"))
    return torch.cat(plans)[:batches]


def from_blocks(pictures: Any, batch: Batch, *, decoding: bool) -> None:
    asked = [paths[place] for paths, places in batch for place in places]
    pictures.fetch(asked)
    for path in asked if decoding else ():
        pictures(path)


def from_files(read: Callable[[str], Any], batch: Batch) -> None:
    for paths, places in batch:
        for place in places:
            read(paths[place])


def bare(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123  (Path.open is slower)
        return file.read()


def cpu_ratios(files: list[Batch], blocks: list[Batch], pictures: PictureSource) -> Row:
    """Medians over the batches: microseconds of CPU a frame, and ratios."""
    ways: dict[str, Callable[[int], None]] = {
        "blocks": lambda batch: from_blocks(pictures, blocks[batch], decoding=False),
        "files": lambda batch: from_files(read_regular, files[batch]),
        "bare": lambda batch: from_files(bare, files[batch]),
        "blocks decoded": lambda batch: from_blocks(pictures, blocks[batch], decoding=True),
        "files decoded": lambda batch: from_files(load_image, files[batch]),
    }
    frames = np.array([sum(len(places) for _, places in batch) for batch in files])
    spent = {name: np.zeros(len(files)) for name in ways}
    for batch in range(len(files)):
        names = list(ways)
        for name in names[batch % len(names) :] + names[: batch % len(names)]:
            begun = time.process_time()
            ways[name](batch)
            spent[name][batch] = time.process_time() - begun
    spent = {name: seconds[1:] / frames[1:] * 1e6 for name, seconds in spent.items()}  # the first batch warms up
    row: Row = {f"{name} us": float(np.median(one)) for name, one in spent.items()}
    row["read"] = float(np.median(spent["blocks"] / spent["files"]))
    row["to bare"] = float(np.median(spent["blocks"] / spent["bare"]))
    row["decoded"] = float(np.median(spent["blocks decoded"] / spent["files decoded"]))
    return row


def measure_set(dataset: Splits[Any], folder: Path, *, p: int, k: int, batches: int) -> tuple[Row, Row]:
    """Ratios of CPU and requests for one set."""
    is_video = isinstance(dataset, TrackletDataset)
    planned = clip_batches if is_video else image_batches
    rows = batch_rows(dataset.train, p, k, batches)
    pack(dataset, BlockStore(str(folder)), progress=False)
    local = PackedData(str(folder))
    records = (local.tracklets() if is_video else local.images()).train
    files, blocks = planned(dataset.train, rows), planned(records, rows)
    cpu = cpu_ratios(files, blocks, local.pictures)
    url = f"counted://{folder.name}"
    pack(dataset, BlockStore(url), progress=False)
    there = PackedData(url, cache_gb=0)
    CountedFileSystem.asked.clear()
    for batch in blocks:
        from_blocks(there.pictures, batch, decoding=False)
    frames = sum(len(places) for batch in blocks for _, places in batch)
    assert set(CountedFileSystem.asked) == {"range"}
    sizes = local.index.frames["length"]
    requests = {
        "requests a frame": len(CountedFileSystem.asked) / frames,
        "bytes a frame": float(sizes.mean()),
        "read / needed": there.pictures.reader.counts.total().bytes_read / (frames * float(sizes.mean())),
        "blocks": len(local.index.blocks),
    }
    return cpu, requests


def cached_requests(name: str, options: dict[str, Any], folder: Path) -> Row:
    """Whole reads a block of two epochs of a datamodule with a cache."""
    data = VideoReIDDataModule(f"counted://{name}", block_cache=str(folder), num_workers=0, val_identities=0, epoch="tracklets", **options)
    data.setup("fit")
    blocks = len(data.dataset.pictures.reader.index.blocks)  # type: ignore[union-attr]
    row: Row = {}
    data._crops.keeps = False  # so that the second epoch asks for frames again, as with a set that memory does not hold
    for epoch in (0, 1):
        CountedFileSystem.asked.clear()
        loader = data.train_dataloader()
        loader.epoch_batches.set_epoch(epoch)  # type: ignore[attr-defined]
        for _ in loader:
            pass
        assert set(CountedFileSystem.asked) <= {"whole"}
        row[f"epoch {epoch}"] = len(CountedFileSystem.asked) / blocks
    return row


def clips_a_second(
    dataset: TrackletDataset, blocks: Path, cache: Path, size: tuple[int, int], *, batch: int, rounds: int
) -> dict[str, Row]:
    packed = PackedCache(cache, size, "raw")
    packed.make(dataset.train, progress=False)
    local = PackedData(str(blocks))
    unkept = ResizedCrops(size, 10**9, local.pictures)  # of so many none is kept in memory
    ways = {
        "files": our_pipeline(list(dataset.train), FrameReader(size), T),
        "blocks": our_pipeline(list(local.tracklets().train), FrameReader(size, load=unkept), T),
        "packed raw": our_pipeline(list(dataset.train), FrameReader(size, packed.files(dataset.train)), T),
    }
    laps: dict[str, list[float]] = {name: [] for name in ways}
    draw, names = np.random.default_rng(0), list(ways)
    for number in range(rounds + 1):
        rows = draw.integers(len(dataset.train), size=batch).tolist()
        made = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begun = time.process_time()
            made[name] = ways[name](rows)
            laps[name].append(time.process_time() - begun)
        assert made["files"].equal(made["blocks"])
    seconds = {name: np.array(one[1:]) for name, one in laps.items()}
    return {
        name: {"clips": batch / float(np.median(one)), "to packed raw": float(np.median(seconds["packed raw"] / one))}
        for name, one in seconds.items()
    }


def made_up_index(folder: Path, frames: int, tracklets: int) -> None:
    """A set of which only the first block is there: of its index's other frames nobody asks."""
    people = GeneratedTracklets(num_train_pids=1, num_test_pids=1, num_distractors=0, frames=(T, T), height=32, width=16)
    dataset = read_prepared_video(str(people.write(folder / "people", progress=False)), None, needs_test=False)
    small = pack(dataset, BlockStore(str(folder / "small")), progress=False).index
    counts = np.full(tracklets, frames // tracklets)
    counts[: len(small.tracklets["count"])] = small.tracklets["count"]
    counts[-1] += frames - counts.sum()
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    made, length = np.arange(frames), 8000
    a_block = 32 * 2**20 // length
    columns = {
        "block": 1 + made // a_block,
        "suffix": np.zeros(frames),
        "offset": made % a_block * length,
        "length": np.full(frames, length),
        "crc32": made,
        "frame": np.full(frames, -1),
    }
    of_tracklets = {
        "first": first,
        "count": counts,
        "pid": np.arange(tracklets) // 16 + 2,
        "camid": np.arange(tracklets) % 6 + 1,
        "number": np.arange(tracklets) // 6 + 1,
        "second_pid": np.full(tracklets, -1),
        "start": np.full(tracklets, -1),
    }
    for name, column in columns.items():
        columns[name] = column.astype(small.frames[name].dtype)
        columns[name][: small.num_frames] = small.frames[name]
    for name, column in of_tracklets.items():
        if name != "first":
            column[: small.num_tracklets] = small.tracklets[name]
    blocks = [small.blocks[0], *(BlockFile(f"{one:05d}.zip", 32 * 2**20, f"{one:032x}") for one in range(1, 2 + frames // a_block))]
    splits = {name: np.arange(tracklets if name == "train" else 0) for name in SPLITS}
    index = BlockIndex("made-up", "tracklets", tuple(blocks), small.suffixes, (), columns, of_tracklets, splits)
    (folder / "set" / BLOCKS).mkdir(parents=True)
    (folder / "set" / BLOCKS / small.blocks[0].name).write_bytes((folder / "small" / BLOCKS / small.blocks[0].name).read_bytes())
    (folder / "set" / INDEX).write_bytes(serialized(index))


def memory_of_this_process() -> dict[str, float]:
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(told[key].split()[0]) / 1024 for name, key in (("private", "RssAnon"), ("peak", "VmHWM"), ("all", "VmRSS"))}


def opened_in_a_process(url: str, cache: str) -> None:
    """What ``--opened`` does: prints its memory as JSON."""
    PackedData.is_named(url)
    before, begun = memory_of_this_process(), time.process_time()
    packed = PackedData(url, cache=cache)
    records = packed.tracklets()
    packed.pictures.fetch(records.train[0].paths)
    seconds = time.process_time() - begun
    after = memory_of_this_process()
    sent = pickle.dumps((records.train, packed.pictures))
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    worker = context.Process(target=opened_in_a_worker, args=(there,))
    worker.start()
    here.send_bytes(sent)
    told: dict[str, float] = here.recv()
    worker.join()
    print(
        json.dumps(
            {
                "CPU s": seconds,
                "private MB": after["private"] - before["private"],
                "peak MB": after["peak"] - before["all"],
                "sent MB": len(sent) / 1e6,
                "sent reader MB": len(pickle.dumps(packed.pictures)) / 1e6,
                "worker private MB": told["private"],
                "worker peak MB": told["peak"],
            }
        )
    )


def opened_in_a_worker(pipe: Any) -> None:
    before = memory_of_this_process()
    records, pictures = pickle.loads(pipe.recv_bytes())
    pictures.fetch(records[0].paths)
    after = memory_of_this_process()
    pipe.send({"private": after["private"] - before["private"], "peak": after["peak"] - before["all"]})


def measure_memory(sizes: Sequence[tuple[int, int]]) -> dict[int, Row]:
    found = {}
    for frames, tracklets in sizes:
        with tempfile.TemporaryDirectory() as home:
            made_up_index(Path(home), frames, tracklets)
            told = subprocess.run(
                [sys.executable, __file__, "--opened", f"{home}/set", f"{home}/cache"], capture_output=True, text=True, check=True
            )
            found[frames] = {"index MB": Path(home, "set", INDEX).stat().st_size / 1e6} | json.loads(told.stdout)
    return found


def table(heading: Sequence[str], rows: dict[Any, Row], digits: dict[str, int]) -> str:
    names = list(next(iter(rows.values())))
    lines = [f"| {' | '.join((*heading, *names))} |", "|---" * len(heading) + "|---:" * len(names) + "|"]
    for key, row in rows.items():
        told = " | ".join(key if isinstance(key, tuple) else (f"{key:,}" if isinstance(key, int) else key,))
        lines.append(f"| {told} | {' | '.join(f'{row[name]:,.{digits.get(name, 2)}f}' for name in names)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="data set of images, in the place of generated ones")
    parser.add_argument("--batches", type=int, default=60, help="of each kind")
    parser.add_argument("--people", type=int, default=20, help="generated people with tracklets; each has some six of them")
    parser.add_argument("--only", nargs="+", choices=("cpu", "clips", "memory"), default=["cpu", "clips", "memory"])
    parser.add_argument("--small", action="store_true", help="tiny sets, for a test")
    parser.add_argument("--opened", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.opened:
        opened_in_a_process(*args.opened)
        return {}
    people, batches, height, frames = (3, 3, 32, 20) if args.small else (args.people, args.batches, 256, 60)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if {"cpu", "clips"} & {*args.only}:
            walks = GeneratedTracklets(
                num_train_pids=people, num_test_pids=1, num_distractors=0, frames=(frames, frames), height=height, width=height // 2
            )
            videos = read_prepared_video(str(walks.write(home / "walks", progress=False)), None, needs_test=False)
            videos = TrackletDataset(videos.name, videos.train)
        if "cpu" in args.only:
            images = args.images
            if images is None:
                crops = GeneratedPedestrians("market-like", num_train_pids=4 * people, num_test_pids=1, images_per_camera=4)
                images = str(crops.write(home / "crops", progress=False))
            pictures = read_prepared(images, None, needs_test=False)
            train = ReIDDataset(pictures.name, pictures.train)
            measured = {
                "images, 16 x 4": measure_set(train, home / "image-blocks", p=16, k=4, batches=batches),
                f"clips of {T}, 8 x 4": measure_set(videos, home / "video-blocks", p=8, k=4, batches=batches),
            }
            found["cpu"] = {name: cpu for name, (cpu, _) in measured.items()}
            found["requests"] = {name: requests for name, (_, requests) in measured.items()}
            told = dict.fromkeys(("read", "to bare", "decoded", "requests a frame", "epoch 0", "epoch 1"), 3)
            told |= {"blocks": 0, "bytes a frame": 0}
            print(f"CPU a frame; asked: read at most {ASKED_CPU}\n\n{table(('batches',), found['cpu'], told)}")
            print(
                f"Requests with ranges; asked: at most {ASKED_REQUESTS} a frame for clips\n\n{table(('batches',), found['requests'], told)}"
            )
            options = {"image_size": (height, height // 2), "clip_length": T, "p": 2, "k": 2, "needs_test": False}
            found["cached"] = {"clips": cached_requests("video-blocks", options, home / "cache")}
            print(f"Requests a block with the cache; asked: 1, then 0\n\n{table(('batches',), found['cached'], told)}")
        if "clips" in args.only:
            blocks = home / "video-blocks"
            if not blocks.exists():
                pack(videos, BlockStore(str(blocks)), progress=False)
            size = (32, 16) if args.small else SIZE
            found["clips"] = clips_a_second(videos, blocks, home / "raw", size, batch=8, rounds=2 if args.small else 40)
            print(f"Clips a CPU second\n\n{table(('from',), found['clips'], {'clips': 0})}")
    if "memory" in args.only:
        sizes = [(400, 40), (800, 80)] if args.small else [(MARS[0] // part, MARS[1] // part) for part in (100, 10, 1)]
        found["memory"] = measure_memory(sizes)
        print(f"Memory of the index\n\n{table(('frames',), cast('dict[Any, Row]', found['memory']), {'sent reader MB': 3})}")
    return found


if __name__ == "__main__":
    main()
