"""A supervised source model: cross-entropy and batch-hard triplet on one labelled data set, scored on its own test set.

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are a ResNet-50 at 256x128.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID
from lightning_reid.runners import ResultRow, RunFolder, RunOptions, Stage, print_table, write_report

SMALL_RUN: dict[str, Any] = {
    "data.dataset": "market-like",
    "data.image_size": [96, 48],
    "data.crop_padding": 5,
    "data.erasing_probability": 0.0,
    "data.num_workers": 0,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "model.lr": 1e-3,
    "model.milestones": [6, 9],
    "epochs": 10,
}


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="supervised_market.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/supervised")
    parser.add_argument("--epochs", type=PositiveInt, default=120, help="passes over the training images")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "model")
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: the last model is scored, nothing is selected
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating a small one and training a small network on it")
    return cfg


def main(argv: list[str] | None = None) -> ResultRow:
    cfg = parse(argv)
    began = time.monotonic()
    run = RunOptions.of(cfg)
    with RunFolder(cfg) as folder:
        data = ImageReIDDataModule(**cfg.data, seed=run.seed)
        data.prepare_data()
        data.setup()
        folder.holds(data.dataset)
        stage = Stage(run, "supervised")
        stage.seed_everything()
        model = SupervisedReID(**cfg.model)
        trainer = stage.trainer(
            cfg.epochs, [RankListLogger(stage.folder / "rank_list.png")], validate_every_n_epochs=max(1, cfg.epochs // 4)
        )
        stage.fit(trainer, model, data)
        row = stage.finished_row() or stage.score(trainer, model, data)
        if trainer.is_global_zero:
            stamp = model.protocol_stamp(data)
            write_report(Path(run.output), [row], stamp, title=f"supervised on {cfg.data.dataset}", seconds=time.monotonic() - began)
            print_table([row], stamp, f"supervised on {cfg.data.dataset}")
        return row


if __name__ == "__main__":
    main()
