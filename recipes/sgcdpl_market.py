"""SGC-DPL on Market-1501: few labelled identities, unlabelled images of others (thesis chapter 3, Tables 3.2 and 3.4).

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are the thesis' (ResNet-50, 256x128, 8 iterations of 200 epochs).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

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
from lightning_reid.datamodules import ImageReIDDataModule, SemiSupervisedDataModule
from lightning_reid.modules import SGCDPL, SupervisedReID
from lightning_reid.runners import CLUSTERS, RANK1, SCORE, ResultRow, RunFolder, RunOptions, Stage, draw_curves, print_table, write_report

# A network that starts from nothing unlearns under random erasing before it learns from it. Batches are half the thesis', as there are few
# labelled identities. The learning rate falls at the end of each iteration, since the initialisation was trained so too.
SMALL_RUN: dict[str, Any] = {
    "data.dataset": "market-like",
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.erasing_probability": 0.0,
    "data.num_workers": 0,
    "data.p": 8,
    "data.unlabeled_per_batch": 4,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "model.lr": 0.01,
    "model.warmup_epochs": 0,
    "model.milestones": [2],
    "clustering.every_n_epochs": 3,
    "iterations": 3,
    "initial_epochs": 30,
    "initial_lr": 1e-3,
}


class Method(NamedTuple):
    """A row of Table 3.2 or 3.4: how unlabelled images are clustered, for how long, and from which initialisation."""

    clustering: str
    labels: str = "hard"
    progressive: bool = False
    first_iteration_only: bool = False


LABELLED, INITIALISATION, FULL = "labelled only", "initialisation", "all identities labelled"
METHODS = {
    "AP, hard": Method("median"),
    "AP, soft": Method("median", "soft"),
    "AP, soft, progressive": Method("median", "soft", progressive=True),
    "SGC-DPL": Method("guided", "soft", progressive=True),
}
"""The other rows of Table 3.2, all from the initialisation."""
FIRST_ITERATION = {
    "one iteration, AP": Method("median", first_iteration_only=True),
    "one iteration, DBSCAN": Method("dbscan", first_iteration_only=True),
    "one iteration, DBSCAN, SSG's radius": Method("dbscan-ssg", first_iteration_only=True),
}
"""The rows of Table 3.4, from the model that saw labelled images only."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="sgcdpl_market.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/sgcdpl")
    parser.add_argument(
        "--labeled", type=int | str | None, default=None, help="short for --data.labeled: a share of the identities (1/6) or a number"
    )
    parser.add_argument(
        "--nmi", action="store_true", help="also score k-means clusters of the gallery, as is usual for CUB-200 (NMI, in [0, 1])"
    )
    parser.add_argument("--ablation", action="store_true", help="all rows of Tables 3.2 and 3.4, and training with all identities labelled")
    parser.add_argument(
        "--iterations", type=PositiveInt, default=8, help="clusterings, each followed by --clustering.every_n_epochs epochs"
    )
    parser.add_argument("--initial_epochs", type=PositiveInt, default=200, help="epochs of the initialisation")
    parser.add_argument("--initial_lr", type=PositiveFloat, default=3.5e-4, help="learning rate of the initialisation (Adam)")
    parser.add_class_arguments(SemiSupervisedDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SGCDPL, "model", skip={"iteration_epochs"})
    parser.add_class_arguments(AffinityPseudoLabels, "clustering", skip={"preference", "labels", "picture"})
    parser.add_class_arguments(ProgressiveSelection, "selection", skip={"picture"})
    parser.add_class_arguments(PseudoLabelClustering, "dbscan", skip={"every_n_epochs"})
    parser.set_defaults({"model.milestones": [50, 100, 150], "model.warmup_epochs": 10})
    return parser


def parse(argv: list[str] | None) -> Namespace:
    parser = build_parser()
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating a small one and training a small network on it")
    cfg.data.labeled = cfg.labeled if cfg.labeled is not None else cfg.data.labeled
    return cfg


class Rows:
    """Trains the rows of the tables, each a stage of its own; those already trained by an interrupted run are read back."""

    def __init__(self, cfg: Namespace) -> None:
        self.cfg, self.run = cfg, RunOptions.of(cfg)
        self.data = SemiSupervisedDataModule(**cfg.data, seed=self.run.seed)
        self.labelled_data = SemiSupervisedDataModule(**(cfg.data.as_dict() | {"unlabeled_per_batch": 0}), seed=self.run.seed)
        for data in (self.data, self.labelled_data):  # a missing folder or an impossible split is found now, not hours later
            data.prepare_data()
            data.setup()

    def initial(self, name: str) -> tuple[SGCDPL, ResultRow]:
        """Training on labelled images, with the augmented triplet loss on unlabelled ones or without."""
        data = self.data if name == INITIALISATION else self.labelled_data
        data.forget_target_state()
        stage = Stage(self.run, name)
        stage.seed_everything()
        model = SGCDPL(**(self.cfg.model.as_dict() | self._initial_options()))
        trainer = stage.trainer(self.cfg.initial_epochs, self._scoring(stage.folder), validate_every_n_epochs=None)
        stage.fit(trainer, model, data)
        return model, stage.finished_row() or stage.score(trainer, model, data)

    def _scoring(self, folder: Path) -> list[pl.Callback]:
        return [RankListLogger(folder / "rank_list.png"), *[NMILogger(self.run.seed)] * self.cfg.nmi]

    def fully_supervised(self) -> ResultRow:
        """Training with all identities labelled, on so many images in all as the initialisation and the iterations see."""
        stage = Stage(self.run, FULL)
        finished = stage.finished_row()
        if finished is not None:
            return finished
        theirs = {name: value for name, value in self.cfg.data.items() if name not in ("labeled", "unlabeled_per_batch", "split_seed")}
        data = ImageReIDDataModule(**theirs, seed=self.run.seed, val_identities=0)
        network = {name: self.cfg.model[name] for name in ("backbone", "backbone_options", "pretrained", "weights", "pooling", "bn_group")}
        stage.seed_everything()
        model = SupervisedReID(**network, label_smoothing=0.0, margin=self.cfg.model.margin, **self._initial_options())
        trainer = stage.trainer(self.cfg.initial_epochs, self._scoring(stage.folder), validate_every_n_epochs=None)
        stage.fit(trainer, model, data)
        return stage.score(trainer, model, data)

    def _initial_options(self) -> dict[str, Any]:
        epochs = self.cfg.initial_epochs
        return {"optimizer": "adam", "lr": self.cfg.initial_lr, "milestones": [epochs * 6 // 10, epochs * 85 // 100]}

    def iterate(self, name: str, method: Method, initial: SGCDPL) -> ResultRow:
        """Cluster, select, train, again and again, from a copy of the initial model."""
        stage, cfg = Stage(self.run, name, told=method._asdict()), self.cfg
        finished = stage.finished_row()
        if finished is not None:
            return finished
        every = cfg.clustering.every_n_epochs
        stage.seed_everything()
        model = SGCDPL(**(cfg.model.as_dict() | {"pretrained": False, "weights": None, "iteration_epochs": every}))
        model.start_from(initial)
        self.data.forget_target_state()
        callbacks = [*self._callbacks(method, stage.folder), *self._scoring(stage.folder)]
        trainer = stage.trainer(every * (1 if method.first_iteration_only else cfg.iterations), callbacks, validate_every_n_epochs=every)
        stage.fit(trainer, model, self.data)
        costs: dict[str, float] = {}
        if method.first_iteration_only and self.data.target_state is not None:
            costs = {"clusters": self.data.target_state.num_clusters, "identities": len(self.data.ground_truth().unique())}
        return stage.score(trainer, model, self.data, costs)

    def _callbacks(self, method: Method, folder: Path) -> list[pl.Callback]:
        cfg = self.cfg
        callbacks: list[pl.Callback] = []
        if method.clustering.startswith("dbscan"):
            radius = {"eps": None} if method.clustering == "dbscan-ssg" else {}
            callbacks.append(PseudoLabelClustering(cfg.clustering.every_n_epochs, **(cfg.dbscan.as_dict() | radius)))
        else:
            picture = str(folder / "search.png") if method.clustering == "guided" else None
            callbacks.append(AffinityPseudoLabels(**cfg.clustering, preference=method.clustering, labels=method.labels, picture=picture))
        if method.progressive:
            callbacks += [
                ProgressiveSelection(**cfg.selection, picture=str(folder / "threshold.png")),
                ClusterStripLogger(folder / "strips.png"),
            ]
        return [*callbacks, EmbeddingProjector(folder / "clusters.png")]


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg = parse(argv)
    began = time.monotonic()
    with RunFolder(cfg, ignored=("ablation", "labeled")) as folder:
        rows = Rows(cfg)
        folder.holds(rows.data.dataset)
        labelled_model, labelled = rows.initial(LABELLED)
        initial_model, initial = rows.initial(INITIALISATION)
        names = [name for name in METHODS if cfg.ablation or name == "SGC-DPL"]
        results = [labelled, initial, *(rows.iterate(name, METHODS[name], initial_model) for name in names)]
        first = [rows.iterate(name, method, labelled_model) for name, method in FIRST_ITERATION.items() if cfg.ablation]
        results += [rows.fully_supervised()] if cfg.ablation else []
        if pl.utilities.rank_zero_only.rank == 0:
            stamp, output, seconds = rows.data.protocol_stamp(), Path(cfg.output), time.monotonic() - began
            title = f"{cfg.data.dataset}, {cfg.data.labeled} of the identities labelled"
            draw_curves(
                output / "curves.png",
                {name: Stage(rows.run, name).metrics_files for name in names},
                panels=(SCORE, RANK1, CLUSTERS),
                stamp=stamp,
                levels={row.name: row.scores["mAP"] for row in results if row.name in (LABELLED, INITIALISATION, FULL)},
                epochs_per_iteration=cfg.clustering.every_n_epochs,
            )
            write_report(output, results, stamp, title=title, seconds=seconds)
            print_table(results, stamp, title)
            if first:
                title = f"after one iteration, {title}"
                write_report(output / "first-iteration", first, stamp, title=title, seconds=seconds)
                print_table(first, stamp, title)
        return [*results, *first]


if __name__ == "__main__":
    main()
