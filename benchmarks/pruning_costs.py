"""What pruning costs and what it gains in time: importance estimation, a whole CAIE run, and pruned networks against whole ones.

    python benchmarks/pruning_costs.py                       # all, about ten minutes
    python benchmarks/pruning_costs.py --measures estimation
    python benchmarks/pruning_costs.py --measures run        # ResNet-50 at 64x32, batch 8, 200 channels a step, to half its multiply-adds
    python benchmarks/pruning_costs.py --measures speed      # STE-NVAN, a clip of 8 frames at 256x128, with fewer channels

Batches are random: what is learned from them does not matter for the time. Steps with and without estimation alternate in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from statistics import median

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import STENVAN, ChannelPlan, materialize
from lightning_reid.networks.channels.costs import ChannelCosts
from lightning_reid.networks.channels.groups import find_channel_groups
from lightning_reid.pruning import filter_l1_norm
from lightning_reid.pruning.channel_selection import least_important
from lightning_reid.recipes.workshop.costs import median_milliseconds

MEASURES = ("estimation", "run", "speed")
IMAGE, CLIP = (64, 32), (1, 8, 3, 256, 128)


class RandomBatches(IterableDataset[dict[str, Tensor]]):
    """The same batch of noise again and again, two images an identity."""

    def __init__(self, batch: int) -> None:
        self.batch = {"images": torch.randn(batch, 3, *IMAGE), "pids": torch.arange(batch) // 2}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield self.batch


class Clock(pl.Callback):
    """Seconds of every training step, from the start of one batch to the start of the next."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict, batch_idx: int) -> None:
        self.starts.append(time.perf_counter())

    def seconds(self, warm_up: int) -> float:
        """Median of a step, the first ones left out."""
        steps = [after - before for before, after in zip(self.starts, self.starts[1:])]
        return median(steps[warm_up:])


def fit(batch: int, callbacks: list[pl.Callback], max_steps: int) -> SupervisedReID:
    torch.manual_seed(0)
    model = SupervisedReID(batch, backbone="resnet50", optimizer="sgd", lr=1e-3, weight_decay=1e-4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", max_steps=max_steps, callbacks=callbacks, **quiet)
    trainer.fit(model, DataLoader(RandomBatches(batch), batch_size=None))
    return model


def estimation(batch: int, rounds: int, steps: int) -> dict[str, float]:
    """Median seconds of a training step, plain and with importance estimated in it."""
    times: dict[str, list[float]] = {"plain": [], "estimating": []}
    for _ in range(rounds):
        for name, found in times.items():
            clock = Clock()
            pruning = CAIEPruning({"flops": 0.5}, batches_per_step=10**6)
            fit(batch, [clock, pruning] if name == "estimating" else [clock], steps)
            found.append(clock.seconds(warm_up=min(3, steps // 2)))
    return {name: median(found) for name, found in times.items()}


def whole_run(batch: int, filters_per_step: int, batches_per_step: int) -> dict[str, float]:
    """Seconds of a run to half the multiply-adds, and how many steps it took."""
    pruning = CAIEPruning({"flops": 0.5}, filters_per_step=filters_per_step, batches_per_step=batches_per_step)
    began = time.perf_counter()
    fit(batch, [pruning], -1)
    last = pruning.history[-1]
    return {"seconds": time.perf_counter() - began, "steps": last["step"], "flops": last["flops"], "params": last["params"]}


def evenly_pruned(network: nn.Module, shape: tuple[int, ...], share: float) -> ChannelPlan:
    """The smallest filters of every group gone, the same share of each, until ``share`` of the multiply-adds is left."""
    groups = find_channel_groups(network, shape)
    costs = ChannelCosts(network, groups, shape)
    keep = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    ranks = {}
    for group in groups:
        weight = network.get_submodule(group.name).weight
        assert isinstance(weight, Tensor)
        ranks[group.name] = filter_l1_norm(weight).argsort().argsort().float() / group.size
    full = costs(costs.full)["flops"]
    while costs({name: int(mask.sum()) for name, mask in keep.items()})["flops"] > share * full:
        keep = least_important(ranks, keep, 50)
    return ChannelPlan(shape, keep)


def speed(shares: tuple[float, ...], repetitions: int) -> dict[float, float]:
    """Milliseconds of a clip through STE-NVAN, by the share of its multiply-adds that is left."""
    torch.manual_seed(0)
    network, cpu = STENVAN("resnet50").to(memory_format=torch.channels_last).eval(), torch.device("cpu")
    networks = {share: materialize(network, evenly_pruned(network, CLIP, share)) if share < 1 else network for share in shares}
    return {share: median_milliseconds(some, CLIP, cpu, repetitions=repetitions) for share, some in networks.items()}


def main(argv: list[str] | None = None) -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="which to take")
    parser.add_argument("--batch", type=int, default=8, help="images a training step")
    parser.add_argument("--steps", type=int, default=15, help="training steps a round of the estimation")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the estimation")
    parser.add_argument("--filters_per_step", type=int, default=200, help="channels a step of the run")
    parser.add_argument("--batches_per_step", type=int, default=30, help="batches a step of the run")
    parser.add_argument("--repetitions", type=int, default=10, help="clips timed")
    arguments = parser.parse_args(argv)
    found: dict[str, dict] = {}
    if "estimation" in arguments.measures:
        found["estimation"] = times = estimation(arguments.batch, arguments.rounds, arguments.steps)
        plain, estimating = times["plain"], times["estimating"]
        print(f"ResNet-50, batch {arguments.batch}: {plain:.3f} s a step, {estimating:.3f} s estimating, ratio {estimating / plain:.2f}")
    if "run" in arguments.measures:
        found["run"] = run = whole_run(arguments.batch, arguments.filters_per_step, arguments.batches_per_step)
        left = f"{100 * run['flops']:.1f} % of multiply-adds and {100 * run['params']:.1f} % of parameters left"
        print(f"CAIE to half the multiply-adds: {run['seconds'] / 60:.1f} min, {run['steps']} steps, {left}")
    if "speed" in arguments.measures:
        found["speed"] = by_share = speed((1.0, 0.75, 0.5), arguments.repetitions)
        for share, milliseconds in by_share.items():
            print(f"STE-NVAN, {share:.0%} of multiply-adds: {milliseconds:.0f} ms a clip, {by_share[1.0] / milliseconds:.2f} times as fast")
    return found


if __name__ == "__main__":
    main()
