"""SGC-DPL on Market-1501: few labeled identities, unlabeled images of others (thesis chapter 3, Tables 3.2 and 3.4).

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are the thesis' (ResNet-50, 256x128, 8 iterations of 200 epochs).
"""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from lightning_reid.callbacks import (
    AffinityPseudoLabels,
    ClusterStripLogger,
    EmbeddingProjector,
    NMILogger,
    ProgressiveSelection,
    PseudoLabelClustering,
    RankListLogger,
)
from lightning_reid.datamodules import SemiSupervisedDataModule
from lightning_reid.modules import SGCDPL
from lightning_reid.recipes import sgcdpl_tables as tables
from lightning_reid.recipes.sgcdpl_tables import INITIALIZATION, LABELED, METHODS, SEEDED_AS, Method
from lightning_reid.recipes.workshop.curves import CLUSTERS, RANK1, SCORE, draw_curves
from lightning_reid.recipes.workshop.options import RunOptions, adam_arguments
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage

# Batches are half the thesis', as there are few labeled identities. The learning rate falls at the end of each iteration, since the
# initialization was trained so too.
SMALL_RUN = {
    **(SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"data.dataset": "market-like", "data.p": 8, "data.unlabeled_per_batch": 4}),
    **{"model.lr": 0.01, "model.warmup_epochs": 0, "model.milestones": [2], "clustering.every_n_epochs": 3, "iterations": 3},
    **{"initial_epochs": 30, "initial_lr": 1e-3},
}


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="sgcdpl_market.py")
    RunOptions.add_to(parser, output="runs/sgcdpl")
    parser.add_argument("--labeled", type=int | str | None, help="short for --data.labeled: a share of the identities (1/6) or a number")
    parser.add_argument("--nmi", action="store_true", help="also score k-means clusters of the gallery, as for CUB-200 (NMI, in [0, 1])")
    parser.add_argument("--ablation", action="store_true", help="all rows of Tables 3.2 and 3.4, and training with all identities labeled")
    parser.add_argument("--iterations", type=PositiveInt, default=8, help="clusterings, each before --clustering.every_n_epochs epochs")
    parser.add_argument("--initial_epochs", type=PositiveInt, default=200, help="epochs of the initialization")
    parser.add_argument("--initial_lr", type=PositiveFloat, default=3.5e-4, help="learning rate of the initialization (Adam)")
    parser.add_class_arguments(SemiSupervisedDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SGCDPL, "model", skip={"iteration_epochs"})
    parser.add_class_arguments(AffinityPseudoLabels, "clustering", skip={"preference", "labels", "picture"})
    parser.add_class_arguments(ProgressiveSelection, "selection", skip={"picture"})
    parser.add_class_arguments(PseudoLabelClustering, "dbscan", skip={"every_n_epochs"})
    parser.set_defaults({"model.milestones": [50, 100, 150], "model.warmup_epochs": 10})
    return parser


def parse(argv: list[str] | None) -> Namespace:
    cfg = parse_or_small_run(build_parser(), argv, SMALL_RUN)
    cfg.data.labeled = cfg.labeled if cfg.labeled is not None else cfg.data.labeled
    return cfg


class Rows:
    """Trains the rows of the tables, each a stage of its own; those already trained by an interrupted run are read back.

    Args:
        cfg: Arguments of the recipe.
        folder: Of the run.
        pictures: Whether to draw what is found, which takes longer than finding it does in a small run.
    """

    def __init__(self, cfg: Namespace, folder: RunFolder, *, pictures: bool = True) -> None:
        self.cfg, self.run, self.pictures = cfg, RunOptions.of(cfg), pictures
        self.data = SemiSupervisedDataModule(**cfg.data, seed=cfg.seed)
        self.labeled_data = SemiSupervisedDataModule(**(cfg.data.as_dict() | {"unlabeled_per_batch": 0}), seed=cfg.seed)
        folder.read(self.data)  # of the other, whose labeled people are the same, nothing else can be wrong
        self.adam = adam_arguments(cfg.initial_lr, cfg.initial_epochs)

    def initial(self, name: str) -> tuple[SGCDPL, ResultRow]:
        """Training on labeled images, with the augmented triplet loss on unlabeled ones or without."""
        data, stage = self.data if name == INITIALIZATION else self.labeled_data, Stage(self.run, name, seeded_as=SEEDED_AS[name])
        data.forget_target_state()
        options = self.cfg.model.as_dict() | self.adam
        return stage.train_and_score(lambda: SGCDPL(**options), data, self.cfg.initial_epochs, self.scoring(stage.folder))

    def iterate(self, name: str, method: Method, initial: SGCDPL) -> ResultRow:
        """Cluster, select, train, again and again, from a copy of the initial model."""
        stage, cfg, every = Stage(self.run, name, told=method._asdict()), self.cfg, self.cfg.clustering.every_n_epochs
        self.data.forget_target_state()
        options = cfg.model.as_dict() | {"pretrained": False, "weights": None, "iteration_epochs": every}
        callbacks = [*self._labeling(method, stage.folder), *self.scoring(stage.folder)]
        epochs, costs = (every, tables.counted_clusters(self.data)) if method.first_iteration_only else (every * cfg.iterations, None)

        def build() -> SGCDPL:
            return SGCDPL(**options).start_from(initial)

        return stage.row(build, self.data, epochs, callbacks, validate_every_n_epochs=every, costs=costs)

    def _labeling(self, method: Method, folder: Path) -> list[pl.Callback]:
        """What clusters and selects, and draws pictures of it into ``folder``."""
        cfg, drawn = self.cfg, self.pictures
        found: list[pl.Callback] = []
        if method.clustering == "dbscan" or method.clustering == "dbscan-ssg":
            radius = {"eps": None} if method.clustering == "dbscan-ssg" else {}
            found.append(PseudoLabelClustering(cfg.clustering.every_n_epochs, **(cfg.dbscan.as_dict() | radius)))
        else:
            picture = str(folder / "search.png") if drawn and method.clustering == "guided" else None
            found.append(AffinityPseudoLabels(**cfg.clustering, preference=method.clustering, labels=method.labels, picture=picture))
        if method.progressive:
            found.append(ProgressiveSelection(**cfg.selection, picture=str(folder / "threshold.png") if drawn else None))
            found += [ClusterStripLogger(folder / "strips.png")] if drawn else []
        return [*found, *([EmbeddingProjector(folder / "clusters.png")] if drawn else [])]

    def scoring(self, folder: Path) -> list[pl.Callback]:
        """What scores and draws beside the module, into ``folder``."""
        return [*([RankListLogger(folder / "rank_list.png")] if self.pictures else []), *[NMILogger(self.cfg.seed)] * self.cfg.nmi]


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg, ignored=("ablation", "labeled")) as folder:
        rows = Rows(cfg, folder)
        labeled_model, labeled = rows.initial(LABELED)
        initial_model, initial = rows.initial(INITIALIZATION)
        names = [name for name in METHODS if cfg.ablation or name == tables.SGCDPL_ROW]
        results = [labeled, initial, *(rows.iterate(name, METHODS[name], initial_model) for name in names)]
        first = [rows.iterate(name, method, labeled_model) for name, method in tables.FIRST_ITERATION.items() if cfg.ablation]
        results += [tables.all_labeled(rows.run, cfg, rows.adam, rows.scoring)] if cfg.ablation else []
        if is_first_process():
            stamp, output = rows.data.protocol_stamp(), Path(cfg.output)
            title = f"{cfg.data.dataset}, {cfg.data.labeled} of the identities labeled"
            curves = {name: Stage(rows.run, name).metrics_files for name in names}
            levels = {row.name: row.scores["mAP"] for row in results if row.name in (LABELED, INITIALIZATION, tables.FULL)}
            panels, every = (SCORE, RANK1, CLUSTERS), cfg.clustering.every_n_epochs
            draw_curves(output / "curves.png", curves, panels=panels, stamp=stamp, levels=levels, epochs_per_iteration=every)
            report(output, results, stamp, title=title, began=began)
            if first:
                report(output / "first-iteration", first, stamp, title=f"after one iteration, {title}", began=began)
        return [*results, *first]


if __name__ == "__main__":
    main()
