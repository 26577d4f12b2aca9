"""Train an image network, prune it layer by layer up to an expected drop (CPO, thesis chapter 5), retrain and export it.

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are a ResNet-50 at 256x128 and the text's 8 epochs a trial.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table

from lightning_reid.callbacks import CPOPruning
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.files import write_json
from lightning_reid.modules import SupervisedReID
from lightning_reid.runners import PruningRun, ResultRow, RunFolder, RunOptions

SMALL_RUN: dict[str, Any] = {
    "data.dataset": "duke-like",  # a trial is an epoch, and the search makes dozens of them
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.erasing_probability": 0.0,
    "data.num_workers": 0,
    "data.val_identities": 30,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "model.lr": 1e-3,
    "model.milestones": [15, 21],
    "epochs": 25,
    "cpo.retrain_epochs": 1,
    "tuning_epochs": 4,
}


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="prune_cpo.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/cpo")
    parser.add_argument("--epochs", type=PositiveInt, default=120, help="passes over the data before pruning")
    parser.add_argument("--checkpoint", type=str | None, default=None, help="prune this trained SupervisedReID instead of training one")
    parser.add_argument("--pruning_lr", type=PositiveFloat, default=1e-4, help="learning rate of trials and of retraining (Adam)")
    parser.add_argument("--tuning_epochs", type=PositiveInt, default=40, help="passes over the data after pruning")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "model")
    parser.add_class_arguments(CPOPruning, "cpo", skip={"network"})
    parser.set_defaults({"cpo.expected_drop": 0.02})
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating a small one and training a small network on it")
    return cfg


def print_trials(pruning: CPOPruning) -> None:
    """What was tried, and what was kept of it."""
    table = Table(title=f"trials against {pruning.metric} {pruning.reference:.3f}, expected drop {pruning.expected_drop:g}")
    for heading in ("trial", "layer", "factor", "drop", "multiply-adds left %", "parameters left %", "verdict"):
        table.add_column(heading, justify="left" if heading in ("layer", "verdict") else "right")
    for row in pruning.history:
        verdict = "probe" if row["probe"] else row["verdict"]
        shares = (f"{100 * row[name]:.1f}" for name in ("flops", "params"))
        table.add_row(str(row["trial"]), row["layer"], f"{row['factor']:.3g}", f"{row['drop']:+.4f}", *shares, verdict)
    Console(width=max(Console().width, 120)).print(table)


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg = parse(argv)
    began = time.monotonic()
    with RunFolder(cfg) as folder:
        run = PruningRun(RunOptions.of(cfg), ImageReIDDataModule(**cfg.data, seed=cfg.seed), SupervisedReID)
        folder.holds(run.data.dataset)
        results, checkpoint = [], cfg.checkpoint
        if checkpoint is None:
            run.stage("trained").seed_everything()
            trained, checkpoint = run.fit("trained", SupervisedReID(**cfg.model), cfg.epochs)
            results.append(trained)
        gentle: dict[str, Any] = {"lr": cfg.pruning_lr, "warmup_epochs": 0, "milestones": []}
        pruning, every = CPOPruning(**cfg.cpo), cfg.cpo.retrain_epochs
        pruned, small = run.prune("pruned", run.load(checkpoint, **gentle), pruning, max_epochs=-1, validate_every_n_epochs=every)
        model = run.load(small, **gentle)
        retrained, _ = run.fit("retrained", model, cfg.tuning_epochs)
        results += [pruned, retrained]
        if pruning.history and pl.utilities.rank_zero_only.rank == 0:  # empty where pruning was finished by an earlier run
            write_json(Path(cfg.output) / "trials.json", {"reference": pruning.reference, "trials": pruning.history})
            print_trials(pruning)
        title = f"pruned up to a drop of {cfg.cpo.expected_drop:g} in {cfg.cpo.metric} on {cfg.data.dataset}"
        run.finish(results, model, title, time.monotonic() - began)
        return results


if __name__ == "__main__":
    main()
