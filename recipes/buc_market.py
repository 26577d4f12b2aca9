"""Bottom-up clustering on Market-1501: no labels at all, every image its own cluster, the closest merge (Lin et al. 2019).

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are the public code's (ResNet-50 at 256x128, 20 epochs, then 19 steps of 2 epochs).
"""

from __future__ import annotations

import time
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import BottomUpClustering, EmbeddingProjector, RankListLogger
from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.modules import BottomUpReID
from lightning_reid.recipes.workshop.curves import CLUSTERS, LOSS, SCORE, draw_curves
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process
from lightning_reid.recipes.workshop.small_run import SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage

SMALL_RUN = {
    **(SMALL_CROPS | SMALL_NETWORK | {"data.dataset": "duke-like", "data.batch_size": 32}),
    **{"clustering.initial_epochs": 8, "clustering.every_n_epochs": 1, "clustering.merge_share": 0.1, "steps": 5},
}
UNTRAINED, BUC = "untrained network", "BUC"


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="buc_market.py")
    RunOptions.add_to(parser, output="runs/buc")
    parser.add_argument("--steps", type=PositiveInt, default=19, help="mergings, each followed by --clustering.every_n_epochs epochs")
    parser.add_class_arguments(UnlabeledDataModule, "data", skip={"seed", "val_identities"})
    parser.add_class_arguments(BottomUpReID, "model")
    parser.add_class_arguments(BottomUpClustering, "clustering", skip={"num_merges", "merge_at_start"})
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 0.01, "model.milestones": []})
    return parse_or_small_run(parser, argv, SMALL_RUN)


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    run = RunOptions.of(cfg)
    with RunFolder(cfg) as folder:
        data = UnlabeledDataModule(**cfg.data, seed=run.seed)
        folder.read(data)
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
        if is_first_process():
            stamp, output, title = model.protocol_stamp(data), Path(run.output), f"bottom-up clustering on {cfg.data.dataset}"
            levels = {UNTRAINED: before.scores["mAP"]}
            draw_curves(output / "curves.png", {BUC: stage.metrics_files}, panels=(SCORE, CLUSTERS, LOSS), stamp=stamp, levels=levels)
            report(output, rows, stamp, title=title, began=began)
        return rows


if __name__ == "__main__":
    main()
