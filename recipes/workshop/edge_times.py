"""What the parts of the method take on this machine: Table 4 of the edge-device text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.callbacks import TrackletMemories
from lightning_reid.clustering import global_labels
from lightning_reid.clustering.distances import squared_distances
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.datamodules.unpaired_images import UnpairedImages
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.networks import count_multiply_adds
from lightning_reid.recipes.workshop.costs import median_milliseconds
from lightning_reid.recipes.workshop.tables import print_table

WARM_UP = 2


class TimedPart(NamedTuple):
    """A row of the table.

    Attributes:
        part: What is timed.
        of: One unit of it.
        seconds: The median.
        network: Its parameters in millions, multiply-adds of one picture in 10^9 and MB of float32; ``None`` where there is none.
    """

    part: str
    of: str
    seconds: float
    network: tuple[float, float, float] | None


class _StepTimes(pl.Callback):
    """Seconds of training steps, with the optimizers' own, without the reading of pictures."""

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.seconds: dict[int, list[float]] = {}
        self._began = 0.0

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        _finish(pl_module.device)
        self._began = time.perf_counter()

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        _finish(pl_module.device)
        self.seconds.setdefault(len(batch["images"]), []).append(time.perf_counter() - self._began)
        trainer.should_stop = max(map(len, self.seconds.values())) >= self.asked


def time_parts(
    module: TrackletReID,
    transfer: StyleTransfer,
    data: DeviceDataModule,
    banks: Mapping[str, Tensor],
    *,
    style_size: tuple[int, int],
    folder: Path,
    accelerator: str = "cpu",
    repetitions: int = 10,
) -> list[TimedPart]:
    """Time each part: the median of ``repetitions``, after two that warm up.

    Args:
        module: Is trained for some steps.
        transfer: Is trained for some steps.
        data: A device whose pictures are learned from; it must have at least two tracklets.
        banks: Memories ``[N_m, D]`` of each device.
        style_size: (height, width) in pixels at which pictures are translated.
        folder: For what Trainers want a folder for.
        accelerator: Of the Trainers, and where networks are timed.
        repetitions: At least 1.
    """
    trainer_options = {"accelerator": accelerator, "default_root_dir": folder}
    asked = WARM_UP + repetitions
    addresses = ([record.path for record in data.target_records] * asked)[:asked]
    unpaired = UnpairedImages(addresses, data.picture, [data.picture(one) for one in addresses], image_size=style_size)
    style_steps = _training_seconds(transfer, unpaired, [], asked, max_epochs=1, **trainer_options)
    reid_steps = _training_seconds(module, data, [TrackletMemories()], asked, max_epochs=asked, **trainer_options)
    device = module.device
    height, width = data.image_size
    style, reid = _costs(transfer.to_style, style_size), _costs(module.network, data.image_size)
    rows = torch.cat([*banks.values()]).float().to(device)
    camids = torch.arange(len(banks), device=device).repeat_interleave(torch.tensor([len(bank) for bank in banks.values()], device=device))
    one_style = median_milliseconds(transfer.to_style, (1, 3, *style_size), device, repetitions=repetitions) / 1000
    one_reid = median_milliseconds(module.network, (1, 3, height, width), device, repetitions=repetitions) / 1000
    size = max(reid_steps)
    memories = f"{len(rows):,} memories of {rows.shape[1]}"
    return [
        TimedPart("style, inference", f"an image, {style_size[0]}x{style_size[1]}", one_style, style),
        TimedPart("style, training", f"a mini-batch of 1 and 1, {style_size[0]}x{style_size[1]}", median(style_steps[1]), style),
        TimedPart("re-ID, inference", f"an image, {height}x{width}", one_reid, reid),
        TimedPart("re-ID, training", f"a mini-batch of {size}, {height}x{width}", median(reid_steps[size]), reid),
        TimedPart("retrieval", f"one memory among {memories}", _median(lambda: _retrieved(rows), device, repetitions), None),
        TimedPart("graph", f"{memories}, {len(banks)} cameras", _median(lambda: global_labels(rows, camids, 0), device, repetitions), None),
    ]


def print_parts(rows: list[TimedPart], device: str) -> None:
    """Print what the parts take as a table.

    Args:
        rows: See ``time_parts``.
        device: Where they were timed.
    """
    cells = []
    for row in rows:
        sizes = ["-"] * 3 if row.network is None else [f"{one:.2f}" for one in row.network]
        cells.append([row.part, row.of, f"{row.seconds:.3g}", *sizes])
    headings = ("part", "of", "seconds", "M parameters", "G multiply-adds", "MB")
    threads = torch.get_num_threads()
    told = f"{device}, threads: {threads}, float32; medians after {WARM_UP} that warm up; pictures are read before"
    print_table("what the parts take", headings, cells, caption=told, names=2)


def _training_seconds(
    module: pl.LightningModule, data: pl.LightningDataModule, callbacks: list[pl.Callback], asked: int, **options: Any
) -> dict[int, list[float]]:
    """Seconds of training steps after those that warm up, by the number of own pictures."""
    steps = _StepTimes(asked)
    trainer = pl.Trainer(
        devices=1,
        limit_train_batches=asked,
        callbacks=[*callbacks, steps],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, data)
    return {size: seconds[WARM_UP:] for size, seconds in steps.seconds.items() if len(seconds) > WARM_UP}


def _costs(network: nn.Module, image_size: tuple[int, int]) -> tuple[float, float, float]:
    number = sum(weights.numel() for weights in network.parameters())
    stored = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return number / 1e6, count_multiply_adds(network, (1, 3, *image_size)).total / 1e9, stored / 1e6


def _retrieved(rows: Tensor) -> Tensor:
    """The rows by their distance to the first."""
    norms = rows.square().sum(1)
    return squared_distances(rows[:1], rows, norms[:1], norms).argsort(1)


def _median(work: Callable[[], object], device: torch.device, repetitions: int) -> float:
    seconds = []
    for _ in range(WARM_UP + repetitions):
        _finish(device)
        began = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[WARM_UP:])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
