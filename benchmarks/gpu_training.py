"""Images a second of the HSR training step in a ``Trainer``, as a share of the device's matrix-product rate.

    python benchmarks/gpu_training.py
    python benchmarks/gpu_training.py --device cpu --batch 8

With a CUDA device: ResNet-50 at 256x128, 64 images a step (half labeled, half for inter-camera mining), bf16, channels-last, eager and
compiled. The batch lies on the device, so that no loader is measured. The share is images/s times the floating-point operations of
forward and backward pass an image (convolutions and products, from ``torch.utils.flop_counter``), over the rate of square bf16 products
measured before and after. Then ``retrieval.py`` and ``clustering.py`` run on the device at both sizes.
Without one it says so and takes the same path on the CPU, small.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from lightning_reid.modules import HSR
from lightning_reid.normalization import normalize_images
from lightning_reid.records import ImageRecord, TargetState

SIDES = {"cuda": 8192, "cpu": 256}
BESIDE = (("retrieval.py", "market"), ("retrieval.py", "msmt17"), ("clustering.py", "market"), ("clustering.py", "100k"))


class BatchOnDevice(pl.LightningDataModule):
    """The same target batch again and again: half of it pseudo-labeled, half for inter-camera mining."""

    def __init__(self, batch: int, image_size: tuple[int, int], steps: int, device: str) -> None:
        super().__init__()
        half = batch // 2
        labels = torch.arange(half) // min(4, half // 2)  # K = 4, and two identities at least
        self.target_records = tuple(ImageRecord("", int(pid) + 1, 1) for pid in labels)
        self.target_state = TargetState(0, labels, torch.ones_like(labels), F.normalize(torch.randn(half, 16)))
        same = labels[:, None] == labels
        positives = same & ~torch.eye(half, dtype=torch.bool)
        icm = {"anchors": torch.arange(half), "positives": positives, "negatives": ~same, "images": self._pixels(half, image_size)}
        self.batch: dict[str, Any] = {"images": self._pixels(half, image_size), "pids": labels, "icm": icm}
        self.batch = pl.utilities.move_data_to_device(self.batch, device)
        self.steps = steps

    @staticmethod
    def _pixels(count: int, image_size: tuple[int, int]) -> Tensor:
        return torch.randint(256, (count, 3, *image_size), dtype=torch.uint8)

    def forget_target_state(self) -> None:
        """Part of ``TargetData``."""
        raise RuntimeError("the benchmark's labels are made once")

    def set_target_state(self, state: TargetState) -> None:
        """Part of ``TargetData``."""
        self.target_state = state

    def ground_truth(self) -> Tensor:
        """Part of ``TargetData``."""
        return torch.tensor([record.pid for record in self.target_records])

    def target_dataloader(self) -> DataLoader:
        """Part of ``TargetData``."""
        return self.train_dataloader()

    @override
    def train_dataloader(self) -> DataLoader:
        return DataLoader([0] * self.steps, batch_size=None)

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Any]:
        icm = self.batch["icm"] | {"images": normalize_images(self.batch["icm"]["images"])}
        return self.batch | {"images": normalize_images(self.batch["images"]), "icm": icm}


class Stopwatch(pl.Callback):
    """Seconds from the end of the warm-up steps to the end of the last one, the device's queue drained at both ends."""

    def __init__(self, warm_up: int, device: str) -> None:
        self.warm_up, self.device, self.began, self.seconds = warm_up, device, 0.0, 0.0

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.warm_up:
            self.began = now(self.device)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = now(self.device) - self.began


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def product_rate(side: int, device: str) -> float:
    """Floating-point operations a second of the best of some bf16 products of square matrices."""
    left, right = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(6):
        start = now(device)
        for _ in range(5):
            left @ right
        seconds.append((now(device) - start) / 5)
    return 2 * side**3 / min(seconds)


def flops_an_image(model: HSR, image_size: tuple[int, int]) -> float:
    """Forward and backward pass of the network; a multiplication and an addition count as two."""
    network = deepcopy(model.network).to("meta").train()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(2, 3, *image_size, device="meta")).embedding.sum().backward()
    return counter.get_total_flops() / 2


def images_per_second(model: HSR, data: BatchOnDevice, images: int, *, warm_up: int, device: str, compiled: bool) -> float:
    model = deepcopy(model).to(device=device, memory_format=torch.channels_last)
    if compiled:
        model.network.compile()
    watch = Stopwatch(warm_up, device)
    trainer = pl.Trainer(
        accelerator=device,
        devices=1,
        precision="bf16-mixed",
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, data)
    return (data.steps - warm_up) * images / watch.seconds


def measure(args: argparse.Namespace, device: str) -> dict[str, dict[str, float]]:
    image_size, images = tuple(args.image_size), args.batch
    data = BatchOnDevice(args.batch, image_size, args.warm_up + args.steps, device)
    model = HSR(max_clusters=len(data.target_records), classifier_init="random", backbone=args.backbone)
    gflops = flops_an_image(model, image_size) / 1e9
    figures = {}
    for name in ("eager", "compiled") if args.compile else ("eager",):
        rates = [product_rate(SIDES[device], device)]
        speed = images_per_second(model, data, images, warm_up=args.warm_up, device=device, compiled=name == "compiled")
        rates.append(product_rate(SIDES[device], device))
        rate = sum(rates) / 2e12
        figures[name] = {
            "images_per_second": speed,
            "gflops_an_image": gflops,
            "product_tflops": rate,
            "share": speed * gflops / rate / 1e3,
        }
    return figures


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: cuda where there is one")
    parser.add_argument("--backbone", default="resnet50", help="timm model name")
    parser.add_argument("--image_size", type=int, nargs=2, default=(256, 128), help="height and width in pixels")
    parser.add_argument("--batch", type=int, help="images a step, a multiple of 8; default 64, on the CPU 8")
    parser.add_argument("--steps", type=int, help="timed steps; default 50, on the CPU 3")
    parser.add_argument("--warm_up", type=int, help="steps before; default 15, on the CPU 2")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="also torch.compile the network; default on CUDA only")
    parser.add_argument("--training_only", action="store_true", help="leave out retrieval.py and clustering.py")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but torch sees no CUDA device: leave the option out")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    for name, (on_cuda, on_cpu) in {"batch": (64, 8), "steps": (50, 3), "warm_up": (15, 2), "compile": (True, False)}.items():
        if getattr(args, name) is None:
            setattr(args, name, on_cuda if device == "cuda" else on_cpu)
    if args.batch < 8 or args.batch % 8:
        parser.error(f"--batch must be a multiple of 8, got {args.batch}")
    if device == "cpu":
        print("no CUDA device used: the same code path on the CPU, small; its figures say nothing of a GPU")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = measure(args, device)
    named = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{args.backbone}, {args.image_size[0]}x{args.image_size[1]}, {args.batch} images a step, bf16, channels-last; {named}")
    print("| step | images/s | GFLOP an image | product TFLOP/s | share of it |")
    print("|---|---|---|---|---|")
    for name, row in figures.items():
        print(
            f"| {name} | {row['images_per_second']:.1f} | {row['gflops_an_image']:.1f} | {row['product_tflops']:.2f} | {row['share']:.1%} |"
        )
    if device == "cuda" and not args.training_only:
        for script, size in BESIDE:
            print(f"\n{script} --size {size}", flush=True)
            subprocess.run([sys.executable, str(Path(__file__).with_name(script)), "--size", size, "--device", "cuda"], check=True)
    return figures


if __name__ == "__main__":
    main()
