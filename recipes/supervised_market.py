"""A supervised source model: cross-entropy and batch-hard triplet on one labeled data set, scored on its own test set.

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are a ResNet-50 at 256x128.
"""

from __future__ import annotations

import time
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage

SMALL_RUN = {
    **(SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"data.dataset": "market-like", "data.image_size": [96, 48], "data.crop_padding": 5}),
    **{"model.lr": 1e-3, "model.milestones": [6, 9], "epochs": 10},
}


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="supervised_market.py")
    RunOptions.add_to(parser, output="runs/supervised")
    parser.add_argument("--epochs", type=PositiveInt, default=120, help="passes over the training images")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "model")
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: the last model is scored, nothing is selected
    return parse_or_small_run(parser, argv, SMALL_RUN)


def main(argv: list[str] | None = None) -> ResultRow:
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg) as folder:
        data, stage, every = (
            ImageReIDDataModule(**cfg.data, seed=cfg.seed),
            Stage(RunOptions.of(cfg), "supervised"),
            max(1, cfg.epochs // 4),
        )
        folder.read(data)
        pictures = [RankListLogger(stage.folder / "rank_list.png")]
        model, row = stage.train_and_score(lambda: SupervisedReID(**cfg.model), data, cfg.epochs, pictures, validate_every_n_epochs=every)
        if is_first_process():
            title = f"supervised on {cfg.data.dataset}"
            report(Path(cfg.output), [row], model.protocol_stamp(data), title=title, began=began)
        return row


if __name__ == "__main__":
    main()
