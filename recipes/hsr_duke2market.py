"""HSR from Duke to Market: source model, direct transfer, DBSCAN baseline, HSR (thesis chapter 4, Table 4.2).

Without --data.root, --source or --target it generates two small domains and trains a small network: minutes on two CPU cores.
With them, the defaults are the thesis' (ResNet-50, 256x128, 30 iterations of 10 epochs).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from lightning_reid.callbacks import EmbeddingProjector, InterCameraMining, PartBasedHomogeneity, PseudoLabelClustering, RankListLogger
from lightning_reid.datamodules import CrossDomainDataModule
from lightning_reid.modules import HSR, SupervisedReID
from lightning_reid.runners import CLUSTERS, SCORE, ResultRow, RunFolder, RunOptions, Stage, draw_curves, print_table, write_report

# A network that starts from nothing unlearns under random erasing before it learns from it. The learning rate falls at the end because
# the source model, whose score is the first row, was trained so too.
SMALL_RUN: dict[str, Any] = {
    "data.source": "duke-like",
    "data.target": "market-like",
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.erasing_probability": 0.0,
    "data.num_workers": 0,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "model.lr": 0.01,
    "model.milestones": [4],
    "clustering.every_n_epochs": 3,
    "clustering.k1": 20,
    "epochs": 6,
    "source_epochs": 25,
    "source_lr": 1e-3,
}

ROWS = {"DBSCAN baseline": (False, False), "baseline + PBH": (True, False), "baseline + ICM": (False, True), "HSR": (True, True)}
"""Row of Table 4.2 to (part-based homogeneity?, inter-camera mining?)."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="hsr_duke2market.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/hsr")
    parser.add_argument(
        "--source", type=str | None, default=None, help="short for --data.source: labelled folder in the Market naming, or a name"
    )
    parser.add_argument(
        "--target", type=str | None, default=None, help="short for --data.target: folder to adapt to and to score on, or a name"
    )
    parser.add_argument("--reverse", action="store_true", help="swap the domains: Market to Duke")
    parser.add_argument("--ablation", action="store_true", help="all five rows of Table 4.2")
    parser.add_argument("--epochs", type=PositiveInt, default=300, help="epochs on the target's pseudo-labels")
    parser.add_argument("--source_epochs", type=PositiveInt, default=60, help="epochs on the labelled source")
    parser.add_argument("--source_lr", type=PositiveFloat, default=3.5e-4, help="learning rate of the source model (Adam)")
    parser.add_class_arguments(CrossDomainDataModule, "data", skip={"seed"})
    parser.add_class_arguments(HSR, "model")
    parser.add_class_arguments(PseudoLabelClustering, "clustering")
    parser.add_class_arguments(PartBasedHomogeneity, "pbh", skip={"seed"})
    parser.add_class_arguments(InterCameraMining, "icm")
    parser.set_defaults({"model.label_smoothing": 0.1})  # ours: eq. 4.1 has none
    parser.link_arguments("clustering.min_samples", "model.min_samples")
    return parser


def parse(argv: list[str] | None) -> Namespace:
    parser = build_parser()
    cfg = parser.parse_args(argv)
    named = [
        cfg.source,
        cfg.target,
        cfg.data.root,
        *(cfg.data[part] != parser.get_default(f"data.{part}") for part in ("source", "target")),
    ]
    if not any(named):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --source, --target): generating two small domains and training a small network on them")
    cfg.data.source, cfg.data.target = cfg.source or cfg.data.source, cfg.target or cfg.data.target
    if cfg.reverse:
        cfg.data.source, cfg.data.target = cfg.data.target, cfg.data.source
    return cfg


def train_source_model(run: RunOptions, cfg: Namespace, data: CrossDomainDataModule) -> tuple[SupervisedReID, ResultRow]:
    """Pre-train on the labelled source; its score on the target is the row "direct transfer"."""
    stage = Stage(run, "direct transfer")
    stage.seed_everything()
    network = {name: cfg.model[name] for name in ("backbone", "backbone_options", "pretrained", "weights", "pooling", "bn_group")}
    model = SupervisedReID(
        **network, optimizer="adam", lr=cfg.source_lr, milestones=[cfg.source_epochs * 6 // 10, cfg.source_epochs * 85 // 100]
    )
    trainer = stage.trainer(cfg.source_epochs, [RankListLogger(stage.folder / "rank_list.png")], validate_every_n_epochs=None)
    stage.fit(trainer, model, data.source)
    return model, stage.finished_row() or stage.score(trainer, model, data)


def adapt(run: RunOptions, cfg: Namespace, data: CrossDomainDataModule, source_model: SupervisedReID, name: str) -> ResultRow:
    """Adapt a copy of the source model to the target: cluster, refine, train, again and again."""
    with_pbh, with_icm = ROWS[name]
    stage = Stage(run, name, told={"part-based homogeneity": with_pbh, "inter-camera mining": with_icm})
    finished = stage.finished_row()
    if finished is not None:
        return finished
    callbacks: list[pl.Callback] = [PseudoLabelClustering(**cfg.clustering)]
    callbacks += [PartBasedHomogeneity(**cfg.pbh, seed=run.seed)] * with_pbh
    callbacks += [InterCameraMining(**cfg.icm)] * with_icm
    callbacks += [EmbeddingProjector(stage.folder / "clusters.png"), RankListLogger(stage.folder / "rank_list.png")]
    stage.seed_everything()
    model = HSR(**(cfg.model.as_dict() | {"pretrained": False, "weights": None}))
    model.network.load_state_dict(source_model.network.state_dict())
    data.forget_target_state()
    trainer = stage.trainer(cfg.epochs, callbacks, validate_every_n_epochs=cfg.clustering.every_n_epochs)
    stage.fit(trainer, model, data)
    return stage.score(trainer, model, data)


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg = parse(argv)
    began = time.monotonic()
    run = RunOptions.of(cfg)
    with RunFolder(cfg, ignored=("ablation", "source", "target", "reverse")) as folder:
        data = CrossDomainDataModule(**cfg.data, seed=run.seed)
        for domain in (data, data.source):  # a missing folder is found now, not after the source model was trained
            domain.prepare_data()
            domain.setup()
        folder.holds(data.dataset, data.source.dataset)
        source_model, direct_transfer = train_source_model(run, cfg, data)
        names = [name for name, parts in ROWS.items() if cfg.ablation or parts in ((False, False), (True, True))]
        rows = [direct_transfer, *(adapt(run, cfg, data, source_model, name) for name in names)]
        if pl.utilities.rank_zero_only.rank == 0:
            stamp, output = data.protocol_stamp(), Path(run.output)
            title = f"{cfg.data.source} to {cfg.data.target}"
            curves = {name: Stage(run, name).metrics_files for name in names}
            levels = {direct_transfer.name: direct_transfer.scores["mAP"]}
            draw_curves(output / "curves.png", curves, panels=(SCORE, CLUSTERS), stamp=stamp, levels=levels)
            write_report(output, rows, stamp, title=title, seconds=time.monotonic() - began)
            print_table(rows, stamp, title)
        return rows


if __name__ == "__main__":
    main()
