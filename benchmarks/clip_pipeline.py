"""Clips a second from the files of tracklets to a normalized training batch, on one thread: decoding, packed tracklets, and the usual way.

    python benchmarks/clip_pipeline.py

Ours is ``TrainClips`` (RRS, flip) and ``normalize_images``, over the image files ("decode"), and over tracklets packed as ``jpeg`` and as
``raw`` at the network's size. The usual way, as in the released code of the papers, opens the T images of the clip with PIL, runs
torchvision's first transforms over the list of them (Resize, a flip of all or none, ToTensor, Normalize) and stacks. All draw the same
tracklets; batches of the four take turns, and a ratio is the median over the rounds. Frames are generated; files lie in the file cache.
"Worker" leaves out what a loader's worker does not do: our batches travel as uint8 and are normalized where the network is.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from lightning_reid.datamodules.clip_sampling import rrs_train_frames
from lightning_reid.datamodules.clips import FrameReader, TrainClips, collate_train_clips
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.images import Draw
from lightning_reid.datamodules.packing import PackedCache
from lightning_reid.datamodules.readers import read_mars_folder
from lightning_reid.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize_images
from lightning_reid.records import TrackletRecord

MakeBatch = Callable[[Sequence[int]], Tensor]
Figures = dict[str, dict[str, float]]


def generated_tracklets(folder: Path, *, people: int, frames: int, height: int) -> list[TrackletRecord]:
    tracklets = GeneratedTracklets(
        "mars-like", num_train_pids=people, num_test_pids=1, num_distractors=0, frames=(frames, frames), height=height, width=height // 2
    )
    return list(read_mars_folder(tracklets.write(folder / f"{height}", progress=False)).train)


def usual_pipeline(records: list[TrackletRecord], size: tuple[int, int], clip_length: int) -> MakeBatch:
    resize, to_tensor, normalize = transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    draw = np.random.default_rng(0)

    def clip(record: TrackletRecord) -> Tensor:
        images = [
            Image.open(record.paths[frame]).convert("RGB") for frame in rrs_train_frames(len(record.paths), clip_length, draw).tolist()
        ]
        images = [resize(image) for image in images]
        if random.random() < 0.5:
            images = [transforms.functional.hflip(image) for image in images]
        return torch.stack([normalize(to_tensor(image)) for image in images])

    return lambda rows: torch.stack([clip(records[row]) for row in rows])


def our_pipeline(records: list[TrackletRecord], reader: FrameReader, clip_length: int) -> MakeBatch:
    clips = TrainClips(records, reader, clip_length=clip_length, erasing_probability=0.0, seed=0)
    return lambda rows: collate_train_clips([clips[Draw(row, row)] for row in rows])["clips"]


def all_pipelines(records: list[TrackletRecord], folder: Path, size: tuple[int, int], clip_length: int) -> dict[str, MakeBatch]:
    """The four ways by name, and what the caches take; packing is not timed here."""
    pipelines = {"PIL": usual_pipeline(records, size, clip_length), "decode": our_pipeline(records, FrameReader(size), clip_length)}
    for encoding in ("jpeg", "raw"):
        cache = PackedCache(folder, size, encoding)
        cache.make(records, progress=False)
        pipelines[f"packed {encoding}"] = our_pipeline(records, FrameReader(size, cache.files(records)), clip_length)
    return pipelines


def measure(pipelines: dict[str, MakeBatch], num_records: int, *, batch: int, rounds: int) -> Figures:
    laps: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    draw, names = np.random.default_rng(0), list(pipelines)
    for number in range(rounds + 1):
        rows = draw.integers(num_records, size=batch).tolist()
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            clips = pipelines[name](rows)
            made = time.perf_counter()
            if clips.dtype == torch.uint8:
                clips = normalize_images(clips)
            laps[name].append((made - start, time.perf_counter() - start))
            assert len(clips) == batch
            assert clips.dtype == torch.float32
    seconds = {name: np.array(times[1:]) for name, times in laps.items()}  # the first round warms up; [rounds, (worker, whole)]
    figures = {}
    for name, times in seconds.items():
        low, ratio, high = np.quantile(seconds["PIL"][:, 1] / times[:, 1], (0.25, 0.5, 0.75))
        worker = np.median(seconds["PIL"][:, 0] / times[:, 0])
        figures[name] = {"clips": batch / float(np.median(times[:, 1])), "ratio": float(ratio), "low": float(low), "high": float(high)}
        figures[name] |= {"worker_clips": batch / float(np.median(times[:, 0])), "worker_ratio": float(worker)}
    return figures


def main(argv: list[str] | None = None) -> dict[int, Figures]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2, help="generated people; each has some five to eight tracklets")
    parser.add_argument("--frames", type=int, default=60, help="frames a tracklet, MARS has 59 on average")
    parser.add_argument("--heights", type=int, nargs="+", default=[256, 128], help="of the frames on disk; MARS: 256")
    parser.add_argument("--size", type=int, nargs=2, default=[256, 128], help="height and width of the network's input")
    parser.add_argument("--clip_length", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8, help="clips a batch")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args(argv)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    size, figures = (args.size[0], args.size[1]), {}
    print(
        f"to {size[0]}x{size[1]}, T={args.clip_length}, batches of {args.batch}, one thread of {os.cpu_count()}, torch {torch.__version__}"
    )
    print("| frames on disk | way | clips/s | to PIL | quartiles | worker clips/s | to PIL | bytes a frame |")
    print("|---|---|---|---|---|---|---|---|")
    try:
        for height in args.heights:
            with tempfile.TemporaryDirectory() as folder:
                records = generated_tracklets(Path(folder), people=args.people, frames=args.frames, height=height)
                cache = Path(folder) / "cache"
                pipelines = all_pipelines(records, cache, size, args.clip_length)
                figures[height] = measure(pipelines, len(records), batch=args.batch, rounds=args.rounds)
                num_frames = sum(len(record.paths) for record in records)
                sizes = {f"packed {home.name.split('-')[1]}": folder_bytes(home) / num_frames for home in cache.iterdir()}
            for name, row in figures[height].items():
                print(
                    f"| {height}x{height // 2} | {name} | {row['clips']:.0f} | {row['ratio']:.2f} | {row['low']:.2f}-{row['high']:.2f} | "
                    f"{row['worker_clips']:.0f} | {row['worker_ratio']:.2f} | {f'{sizes[name]:,.0f}' if name in sizes else ''} |"
                )
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return figures


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


if __name__ == "__main__":
    main()
