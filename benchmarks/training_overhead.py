"""What a ``Trainer`` around the HSR training step costs beside the same loop written bare.

    python benchmarks/training_overhead.py

Loops over the same loader, network, losses and optimizer alternate, an epoch of each a round: "bare" is a plain PyTorch loop; "trainer" is
``Trainer.fit`` with the options of the recipes (CSV logger, ``log_every_n_steps=10``, no progress bar); "trainer, nothing logged" is the
same with the step's ``log_dict`` left out, so what lies between the two is the logging. All must end in the same losses. A step lasts
from the beginning of one to the beginning of the next, loading included; per round the medians are compared, then their median is taken.
One thread by default, and CPU time beside wall-clock time: on a machine that others use too, only these two together can be trusted.

Generated data, resnet18 of a quarter of the usual widths, 128x64 pixels, 8 x 4 images and 8 x 4 more for inter-camera mining. The figure
in milliseconds is what to carry over to other networks; ``--image_size 32 16`` makes steps small enough to see it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from typing_extensions import override

from lightning_reid.clustering import inter_camera_pairs
from lightning_reid.datamodules import CrossDomainDataModule
from lightning_reid.datamodules.generated import GeneratedPedestrians
from lightning_reid.losses import masked_weighted_triplet_loss, weighted_triplet_loss
from lightning_reid.modules import HSR
from lightning_reid.normalization import normalize_images
from lightning_reid.records import TargetState

LOOPS = ("bare", "trainer", "trainer, nothing logged")
NETWORK: dict[str, Any] = {"backbone": "resnet18", "backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]}}


def now() -> tuple[float, float]:
    """Wall-clock and CPU time in seconds."""
    return time.perf_counter(), time.process_time()


class TimedHSR(HSR):
    """HSR that notes when its steps begin."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.began: list[tuple[float, float]] = []
        self.losses: list[Tensor] = []
        self.logs = True

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.began.append(now())
        self.losses.append(super().training_step(batch, batch_idx))
        return self.losses[-1]

    @override
    def log_dict(self, *args: Any, **options: Any) -> None:
        if self.logs:
            super().log_dict(*args, **options)


def target_data(folder: Path, image_size: tuple[int, int], workers: int, state_dim: int) -> CrossDomainDataModule:
    """Generated images whose pseudo-labels are their identities, with neighbor lists over cameras."""
    people = GeneratedPedestrians("market-like", num_train_pids=32, num_test_pids=1, num_distractors=0)
    crops = str(people.write(folder / "crops", progress=False))
    data = CrossDomainDataModule(crops, crops, image_size=image_size, num_workers=workers)
    data.setup()
    pids = torch.tensor([record.pid for record in data.target_records])
    labels = pids.unique(return_inverse=True)[1]
    camids = torch.tensor([record.camid for record in data.target_records])
    draw = torch.Generator().manual_seed(0)
    embeddings = F.normalize(
        torch.randn(len(pids), state_dim, generator=draw) + 2 * torch.randn(len(pids), state_dim, generator=draw)[labels]
    )
    data.set_target_state(TargetState(0, labels, camids, embeddings, neighbors=inter_camera_pairs(embeddings, camids)))
    return data


def new_trainer(folder: Path, steps: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        logger=CSVLogger(folder, name="logs", flush_logs_every_n_steps=10),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def bare_epoch(model: TimedHSR, data: CrossDomainDataModule, folder: Path, steps: int) -> None:
    """The epoch as one would write it without Lightning; the Trainer here only tells the datamodule which epoch to draw."""
    data.trainer = new_trainer(folder, steps)
    classifier, state = model.classifier, data.target_state
    assert classifier is not None
    assert state is not None
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=model.hparams["lr"], momentum=0.9, weight_decay=model.hparams["weight_decay"])
    model.train()
    for batch in islice(data.train_dataloader(), steps):
        images, icm = normalize_images(batch["images"]), batch["icm"]
        mined_images = normalize_images(icm["images"])
        model.began.append(now())
        output = model.network(images)
        logits = classifier(output.embedding)[:, : state.num_clusters]
        loss = F.cross_entropy(logits, batch["pids"]) + weighted_triplet_loss(output.before_bnneck, batch["pids"])
        mined = model.network(mined_images).before_bnneck
        loss = loss + masked_weighted_triplet_loss(mined, icm["positives"], icm["negatives"], anchors=icm["anchors"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.losses.append(loss)


def step_times(loop: str, data: CrossDomainDataModule, folder: Path, steps: int) -> tuple[np.ndarray, list[float]]:
    """Median seconds of a step of one epoch, by the wall's clock and the CPU's ``[2]``, and its losses."""
    state = data.target_state
    assert state is not None
    torch.manual_seed(0)
    model = TimedHSR(max_clusters=state.num_clusters, classifier_init="random", **NETWORK)
    model.logs = loop != "trainer, nothing logged"
    if loop == "bare":
        rows = torch.empty(model.classifier.weight.shape).normal_(std=0.001, generator=torch.Generator().manual_seed(0))
        model.classifier.weight.data.copy_(rows)  # as HSR refills it
        bare_epoch(model, data, folder, steps)
    else:
        new_trainer(folder, steps).fit(model, data)
    times = [np.subtract(after, before) for before, after in pairwise(model.began)]
    return np.median(times, axis=0), torch.stack([loss.detach() for loss in model.losses]).tolist()


def measure(data: CrossDomainDataModule, folder: Path, *, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    laps: dict[str, list[np.ndarray]] = {loop: [] for loop in LOOPS}
    losses: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for loop in LOOPS if number % 2 else reversed(LOOPS):
            lap, losses[loop] = step_times(loop, data, folder, steps)
            if number:  # the first round warms up
                laps[loop].append(lap)
    figures = {}
    for loop in LOOPS:
        off = float(np.abs(np.subtract(losses[loop], losses["bare"])).max())
        step_ms, cpu_ms = 1e3 * np.median(laps[loop], axis=0)
        more_ms, cpu_more_ms = 1e3 * np.median(np.subtract(laps[loop], laps["bare"]), axis=0)
        (low, cpu_low), (ratio, cpu_ratio), (high, cpu_high) = np.quantile(np.divide(laps[loop], laps["bare"]), (0.25, 0.5, 0.75), axis=0)
        row = {"step_ms": step_ms, "more_ms": more_ms, "ratio": ratio, "low": low, "high": high, "loss_off": off}
        row |= {"cpu_ms": cpu_ms, "cpu_more_ms": cpu_more_ms, "cpu_ratio": cpu_ratio, "cpu_low": cpu_low, "cpu_high": cpu_high}
        figures[loop] = {name: float(value) for name, value in row.items()}
    return figures


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="steps an epoch, at most one pass over the images")
    parser.add_argument("--rounds", type=int, default=12, help="epochs of each loop")
    parser.add_argument("--image_size", type=int, nargs=2, default=(128, 64), help="height and width in pixels")
    parser.add_argument("--threads", type=int, default=1, help="threads of the arithmetic")
    parser.add_argument("--workers", type=int, default=0, help="worker processes of the loader")
    args = parser.parse_args(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = target_data(Path(folder), tuple(args.image_size), args.workers, state_dim=64)
            figures = measure(data, Path(folder), steps=args.steps, rounds=args.rounds)
    finally:
        torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {args.threads} thread(s), {args.rounds} rounds of {args.steps} steps")
    print("| loop | clock | ms a step | more than bare, ms | to bare | quartiles | losses off by |")
    print("|---|---|---|---|---|---|---|")
    for loop, row in figures.items():
        for clock, prefix in (("wall", ""), ("CPU", "cpu_")):
            step_ms = row["cpu_ms" if prefix else "step_ms"]
            more_ms, ratio, low, high = (row[prefix + name] for name in ("more_ms", "ratio", "low", "high"))
            print(f"| {loop} | {clock} | {step_ms:.1f} | {more_ms:.2f} | {ratio:.3f} | {low:.3f}-{high:.3f} | {row['loss_off']:.0e} |")
    return figures


if __name__ == "__main__":
    main()
