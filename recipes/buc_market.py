"""Bottom-up clustering on Market-1501: no labels at all, every image its own cluster, the closest merge (Lin et al. 2019).

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are the public code's (ResNet-50 at 256x128, 20 epochs, then 19 steps of 2 epochs). Data need no labels
(a table without pid, a folder of images, what lightning-reid crops makes): nothing is scored then, or --scored_on. With --start_from it
starts from a network, and a few steps are the default.
"""

from __future__ import annotations

import time

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import BottomUpClustering, EmbeddingProjector, RankListLogger
from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.modules import BottomUpReID
from lightning_reid.recipes.workshop.curves import LOSS
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.small_run import SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage
from lightning_reid.recipes.workshop.unlabeled import (
    START,
    add_start_and_test,
    given_network,
    parse_start,
    report_adaptation,
    tested_data,
    validation_every,
)

SMALL_RUN = {
    **(SMALL_CROPS | SMALL_NETWORK | {"data.dataset": "duke-like", "data.batch_size": 32}),
    **{"clustering.initial_epochs": 8, "clustering.every_n_epochs": 1, "clustering.merge_share": 0.1, "steps": 5},
}
UNTRAINED, BUC = "untrained network", "BUC"


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="buc_market.py")
    RunOptions.add_to(parser, output="runs/buc")
    add_start_and_test(parser)
    parser.add_argument("--steps", type=PositiveInt, default=19, help="mergings, each followed by --clustering.every_n_epochs epochs")
    parser.add_class_arguments(UnlabeledDataModule, "data", skip={"seed", "val_identities"})
    parser.add_class_arguments(BottomUpReID, "model")
    parser.add_class_arguments(BottomUpClustering, "clustering", skip={"num_merges", "merge_at_start"})
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 0.01, "model.milestones": []})
    return parse_start(parser, argv, parse_or_small_run(parser, argv, SMALL_RUN), SMALL_RUN)


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    run = RunOptions.of(cfg)
    with RunFolder(cfg) as folder:
        data = UnlabeledDataModule(**cfg.data, seed=run.seed)
        folder.read(data)
        tested, stage = tested_data(cfg, data), Stage(run, BUC)
        stage.seed_everything()
        untrained = Stage(run, START if cfg.start_from else UNTRAINED)
        model, before = given_network(untrained, BottomUpReID(**cfg.model), cfg.start_from, tested)
        clustering, every = BottomUpClustering(**cfg.clustering), cfg.clustering.every_n_epochs
        pictures = [RankListLogger(stage.folder / "rank_list.png"), EmbeddingProjector(stage.folder / "clusters.png")]
        epochs = cfg.clustering.initial_epochs + every * cfg.steps
        trainer = stage.trainer(epochs, [clustering, *pictures], validate_every_n_epochs=validation_every(cfg, data, tested))
        stage.fit(trainer, model, data)
        rows = before + ([] if tested is None else [stage.finished_row() or stage.score(trainer, model, tested)])
        stamp, title = None if tested is None else model.protocol_stamp(tested), f"bottom-up clustering on {cfg.data.dataset}"
        report_adaptation(cfg, rows, {BUC: stage}, data, stamp, title=title, began=began, more_panels=[LOSS])
        return rows


if __name__ == "__main__":
    main()
