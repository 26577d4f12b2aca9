"""Crops a second from the addresses of generated people to a training batch, on one core, beside what a network takes to learn from them.

    python benchmarks/generated_people.py

Batches of ``ImageReIDDataModule("generated-people")`` (drawn, compressed, decoded, resized, augmented) and training steps of MobileNetV2 on
them alternate, in seconds of CPU time of one thread; the ratio is the median over these rounds. Above 1 the network is what one waits for.
Places are drawn before the clock starts, as they are once a process; people are drawn when they first come.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.loading import load_image
from lightning_reid.networks import build_backbone
from lightning_reid.normalization import normalize_images

SIZES = ((64, 32), (128, 64), (256, 128))


def batches_of(name: str, size: tuple[int, int], p: int) -> Iterator[dict[str, Any]]:
    data = ImageReIDDataModule(name, image_size=size, p=p, k=4, num_workers=0, val_identities=0)
    data.setup()
    for path in {record.camid: record.path for record in data.dataset.train}.values():
        load_image(path)
    while True:
        yield from data.train_dataloader()


def measure(name: str, size: tuple[int, int], *, backbone: str, p: int, rounds: int) -> dict[str, float]:
    batches, network = batches_of(name, size, p), build_backbone(backbone)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    drawing, learning = [], []
    for _ in range(rounds + 1):
        start = time.process_time()
        images = normalize_images(next(batches)["images"])
        drawn = time.process_time()
        features = network(images)
        functional.mse_loss(features, torch.zeros_like(features)).backward()
        optimizer.step()
        optimizer.zero_grad()
        drawing.append(drawn - start)
        learning.append(time.process_time() - drawn)
    low, ratio, high = np.quantile(np.divide(learning[1:], drawing[1:]), (0.25, 0.5, 0.75))  # the first round warms up
    per_second = {"drawn": len(images) / float(np.median(drawing[1:])), "learned": len(images) / float(np.median(learning[1:]))}
    return per_second | {"ratio": float(ratio), "low": float(low), "high": float(high)}


def main(argv: list[str] | None = None) -> dict[tuple[int, int], dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="generated-people", help="with options, as in generated-people,cameras=500")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="network that learns")
    parser.add_argument("--p", type=int, default=16, help="people a batch, of 4 crops each")
    parser.add_argument("--rounds", type=int, default=12, help="batches a size")
    args = parser.parse_args(argv)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        figures = {size: measure(args.dataset, size, backbone=args.backbone, p=args.p, rounds=args.rounds) for size in SIZES}
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    print(f"{args.dataset}, batches of {4 * args.p}, one thread, torch {torch.__version__}, OpenCV {cv2.__version__}")
    print(f"| size | drawn, crops/s | {args.backbone} learns, crops/s | drawn / learned | quartiles |")
    print("|---|---:|---:|---:|---|")
    for (height, width), row in figures.items():
        print(f"| {height}x{width} | {row['drawn']:.0f} | {row['learned']:.0f} | {row['ratio']:.2f} | {row['low']:.2f}-{row['high']:.2f} |")
    return figures


if __name__ == "__main__":
    main()
