"""Bottom-up clustering on Market-1501: no labels at all, every image its own cluster, the closest merge (Lin et al. 2019).

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are the public code's (ResNet-50 at 256x128, 20 epochs, then 19 steps of 2 epochs).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import BottomUpClustering, EmbeddingProjector, RankListLogger
from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.modules import BottomUpReID
from lightning_reid.runners import CLUSTERS, LOSS, SCORE, ResultRow, RunFolder, RunOptions, Stage, draw_curves, print_table, write_report

SMALL_RUN: dict[str, Any] = {
    "data.dataset": "duke-like",
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.batch_size": 32,
    "data.num_workers": 0,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "clustering.initial_epochs": 8,
    "clustering.every_n_epochs": 1,
    "clustering.merge_share": 0.1,
    "steps": 5,
}
UNTRAINED, BUC = "untrained network", "BUC"


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="buc_market.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/buc")
    parser.add_argument("--steps", type=PositiveInt, default=19, help="mergings, each followed by --clustering.every_n_epochs epochs")
    parser.add_class_arguments(UnlabeledDataModule, "data", skip={"seed", "val_identities"})
    parser.add_class_arguments(BottomUpReID, "model")
    parser.add_class_arguments(BottomUpClustering, "clustering", skip={"num_merges", "merge_at_start"})
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 0.01, "model.milestones": []})
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating a small one and training a small network on it")
    return cfg


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg = parse(argv)
    began = time.monotonic()
    run = RunOptions.of(cfg)
    with RunFolder(cfg) as folder:
        data = UnlabeledDataModule(**cfg.data, seed=run.seed)
        data.prepare_data()  # a missing folder is found now
        data.setup()
        folder.holds(data.dataset)
        untrained, stage = Stage(run, UNTRAINED), Stage(run, BUC)
        stage.seed_everything()
        model = BottomUpReID(**cfg.model)
        before = untrained.finished_row() or untrained.score(untrained.trainer(1, [], validate_every_n_epochs=None), model, data)
        clustering, every = BottomUpClustering(**cfg.clustering), cfg.clustering.every_n_epochs
        pictures = [RankListLogger(stage.folder / "rank_list.png"), EmbeddingProjector(stage.folder / "clusters.png")]
        epochs = cfg.clustering.initial_epochs + every * cfg.steps
        trainer = stage.trainer(epochs, [clustering, *pictures], validate_every_n_epochs=every)
        stage.fit(trainer, model, data)
        rows = [before, stage.finished_row() or stage.score(trainer, model, data)]
        if trainer.is_global_zero:
            stamp, output, title = model.protocol_stamp(data), Path(run.output), f"bottom-up clustering on {cfg.data.dataset}"
            levels = {UNTRAINED: before.scores["mAP"]}
            draw_curves(output / "curves.png", {BUC: stage.metrics_files}, panels=(SCORE, CLUSTERS, LOSS), stamp=stamp, levels=levels)
            write_report(output, rows, stamp, title=title, seconds=time.monotonic() - began)
            print_table(rows, stamp, title)
        return rows


if __name__ == "__main__":
    main()
