"""Images a second from JPEG files to a normalized training batch, on one thread, beside the usual PIL pipeline.

    python benchmarks/image_pipeline.py

Ours is ``TrainImages`` (OpenCV's decoder, torchvision v2 on uint8 tensors, augmentation pinned to seed, epoch and position),
``collate_images`` and ``normalize_images``. The usual one opens with PIL and runs torchvision's first transforms image by image: Resize,
RandomHorizontalFlip, Pad, RandomCrop, ToTensor, Normalize, RandomErasing; then ``default_collate``. The third is ours again once
``ResizedCrops`` has kept the crops, as it does for a small data set. Batches of the three alternate, the ratio is the median over these
rounds. The crops are generated, 128 x 64 pixels, and lie in the file cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import transforms

from lightning_reid.datamodules.generated import GeneratedPedestrians
from lightning_reid.datamodules.images import Draw, ResizedCrops, TrainImages, collate_images
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers import read_market_folder
from lightning_reid.datamodules.transforms import EvaluationTransform, TrainTransform
from lightning_reid.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize_images
from lightning_reid.records import ImageRecord

SIZES = ((256, 128), (128, 64), (64, 32))
PADDING, ERASING = 10, 0.5

MakeBatch = Callable[[list[int]], Tensor]


def generated_records(folder: Path, count: int) -> list[ImageRecord]:
    people = GeneratedPedestrians("market-like", num_train_pids=max(2, count // 8), num_test_pids=1, num_distractors=0)
    return list(read_market_folder(people.write(folder / "crops", progress=False), "market-like").train[:count])


def usual_pipeline(records: list[ImageRecord], size: tuple[int, int]) -> MakeBatch:
    steps = [
        transforms.Resize(size),
        transforms.RandomHorizontalFlip(),
        transforms.Pad(PADDING),
        transforms.RandomCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        transforms.RandomErasing(p=ERASING, scale=(0.02, 0.4), ratio=(0.3, 3.33)),
    ]
    transform = transforms.Compose(steps)

    def item(row: int) -> tuple[Tensor, int, int, int]:
        with Image.open(records[row].path) as image:
            return transform(image.convert("RGB")), records[row].pid, records[row].camid, row

    return lambda rows: default_collate([item(row) for row in rows])[0]


def our_pipeline(records: list[ImageRecord], size: tuple[int, int], load: Callable[[str], Tensor] = load_image) -> MakeBatch:
    transform = TrainTransform(size, PADDING, ERASING)
    images = TrainImages(records, transform, seed=0, load=load)
    return lambda rows: normalize_images(collate_images([images[Draw(row, row)] for row in rows])["images"])


def gray_levels_apart(records: list[ImageRecord], size: tuple[int, int]) -> float:
    """Mean absolute difference of what both decode and resize, of 255: the faster one must not be another picture."""
    resize_usual, resize_ours = transforms.Resize(size), EvaluationTransform(size)
    apart = []
    for record in records:
        with Image.open(record.path) as image:
            usual = np.asarray(resize_usual(image.convert("RGB")), dtype=np.int16)
        ours = resize_ours(load_image(record.path)).permute(1, 2, 0).numpy().astype(np.int16)
        apart.append(np.abs(usual - ours).mean())
    return float(np.mean(apart))


def measure(records: list[ImageRecord], size: tuple[int, int], *, batch: int, rounds: int) -> dict[str, float]:
    crops = ResizedCrops(size, len(records))
    for record in records:
        crops(record.path)
    usual, ours, kept = usual_pipeline(records, size), our_pipeline(records, size), our_pipeline(records, size, crops)
    laps: dict[MakeBatch, list[float]] = {usual: [], ours: [], kept: []}
    draw = np.random.default_rng(0)
    for number in range(rounds + 1):
        rows = draw.permutation(len(records))[:batch].tolist()
        for pipeline in (usual, ours, kept) if number % 2 else (kept, ours, usual):
            start = time.perf_counter()
            assert pipeline(rows).shape == (len(rows), 3, *size)
            laps[pipeline].append(time.perf_counter() - start)
    ratios = np.divide(laps[usual][1:], laps[ours][1:])  # the first round warms up
    low, ratio, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    named = (("usual", usual), ("ours", ours), ("kept", kept))
    per_second = {name: len(rows) / float(np.median(laps[pipeline][1:])) for name, pipeline in named}
    per_second["kept_to_ours"] = float(np.median(np.divide(laps[ours][1:], laps[kept][1:])))
    apart = gray_levels_apart(records[:batch], size)
    return per_second | {"ratio": float(ratio), "low": float(low), "high": float(high), "gray_levels_apart": apart}


def main(argv: list[str] | None = None) -> dict[tuple[int, int], dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="crops to draw from")
    parser.add_argument("--batch", type=int, default=64, help="images a batch")
    parser.add_argument("--rounds", type=int, default=60, help="pairs of batches a size")
    args = parser.parse_args(argv)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            records = generated_records(Path(folder), args.images)
            figures = {size: measure(records, size, batch=args.batch, rounds=args.rounds) for size in SIZES}
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    print(f"128x64 JPEG to normalized batch of {args.batch}, one thread of {os.cpu_count()} cores, torch {torch.__version__}")
    print("| to | PIL images/s | ours images/s | ours / PIL | quartiles | gray levels apart | kept images/s | kept / ours |")
    print("|---|---|---|---|---|---|---|---|")
    for (height, width), row in figures.items():
        print(
            f"| {height}x{width} | {row['usual']:.0f} | {row['ours']:.0f} | {row['ratio']:.2f} | {row['low']:.2f}-{row['high']:.2f} | "
            f"{row['gray_levels_apart']:.2f} | {row['kept']:.0f} | {row['kept_to_ours']:.2f} |"
        )
    return figures


if __name__ == "__main__":
    main()
