"""HSR from Duke to Market: source model, direct transfer, DBSCAN baseline, HSR (thesis chapter 4, Table 4.2).

Without --data.root, --source or --target it generates two small domains and trains a small network: minutes on two CPU cores.
With them, the defaults are the thesis' (ResNet-50, 256x128, 30 iterations of 10 epochs); with --start_from no source is needed.
"""

from __future__ import annotations

import time

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from lightning_reid.callbacks import EmbeddingProjector, InterCameraMining, PartBasedHomogeneity, PseudoLabelClustering, RankListLogger
from lightning_reid.datamodules import CrossDomainDataModule
from lightning_reid.modules import HSR, SupervisedReID
from lightning_reid.recipes.workshop import unlabeled
from lightning_reid.recipes.workshop.domains import NAMED, SHORT, add_short_domains, apply_short_domains
from lightning_reid.recipes.workshop.options import RunOptions, adam_arguments, network_arguments
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage

ROW_OPTIONS = ("ablation", *SHORT)  # choose rows, or others stand for them: a resumed run may give others
# The learning rate falls at the end because the source model, whose score is the first row, was trained so too.
SMALL_RUN = {
    **(SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"data.source": "duke-like", "data.target": "market-like"}),
    **{"model.lr": 0.01, "model.milestones": [4], "clustering.every_n_epochs": 3, "clustering.k1": 20, "epochs": 6},
    **{"source_epochs": 25, "source_lr": 1e-3},
}
ROWS = {"DBSCAN baseline": (False, False), "baseline + PBH": (True, False), "baseline + ICM": (False, True), "HSR": (True, True)}
PARTS = ("part-based homogeneity", "inter-camera mining")
"""What the rows of Table 4.2 have or lack."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="hsr_duke2market.py")
    RunOptions.add_to(parser, output="runs/hsr")
    add_short_domains(parser)
    unlabeled.add_start_and_test(parser)
    parser.add_argument("--ablation", action="store_true", help="all five rows of Table 4.2")
    parser.add_argument("--epochs", type=PositiveInt, default=300, help="epochs on the target's pseudo-labels")
    parser.add_argument("--source_epochs", type=PositiveInt, default=60, help="epochs on the labeled source")
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
    parser, small = build_parser(), "two small domains and training a small network on them"
    cfg = parse_or_small_run(parser, argv, SMALL_RUN, named=NAMED, generating=small)
    return apply_short_domains(unlabeled.parse_start(parser, argv, cfg, SMALL_RUN))


def train_source_model(cfg: Namespace, data: CrossDomainDataModule, tested: unlabeled.Tested) -> tuple[SupervisedReID, list[ResultRow]]:
    """Pre-train on the labeled source; its score on the target is the row "direct transfer". Or take the network that is given."""
    options, run = network_arguments(cfg.model), RunOptions.of(cfg)
    if cfg.start_from:
        return unlabeled.given_network(Stage(run, unlabeled.START), SupervisedReID(**options), cfg.start_from, tested)
    stage, options = Stage(run, "direct transfer"), options | adam_arguments(cfg.source_lr, cfg.source_epochs)
    pictures = [RankListLogger(stage.folder / "rank_list.png")]
    return unlabeled.train_and_score(stage, lambda: SupervisedReID(**options), data.source, cfg.source_epochs, pictures, tested)


def adapt(stage: Stage, cfg: Namespace, data: CrossDomainDataModule, source: SupervisedReID, tested: unlabeled.Tested) -> list[ResultRow]:
    """Adapt a copy of the source model to the target: cluster, refine, train, again and again."""
    with_pbh, with_icm = ROWS[stage.name]
    refining = [PartBasedHomogeneity(**cfg.pbh, seed=cfg.seed)] * with_pbh + [InterCameraMining(**cfg.icm)] * with_icm
    callbacks: list[pl.Callback] = [PseudoLabelClustering(**cfg.clustering), *refining]
    callbacks += [EmbeddingProjector(stage.folder / "clusters.png"), RankListLogger(stage.folder / "rank_list.png")]
    data.forget_target_state()
    options, every = cfg.model.as_dict() | {"pretrained": False, "weights": None}, unlabeled.validation_every(cfg, data, tested)
    return unlabeled.row_of(stage, lambda: HSR(**options).start_from(source), data, cfg.epochs, callbacks, tested, every)


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg, ignored=ROW_OPTIONS) as folder:
        data = CrossDomainDataModule(**cfg.data, seed=cfg.seed)
        folder.read(data, *([] if cfg.start_from else [data.source]))
        tested = unlabeled.tested_data(cfg, data)
        source_model, first = train_source_model(cfg, data, tested)
        asked = unlabeled.rows_of_cameras(data, {name: parts for name, parts in ROWS.items() if cfg.ablation or parts[0] == parts[1]}, ROWS)
        stages = {name: Stage(RunOptions.of(cfg), name, told=dict(zip(PARTS, parts))) for name, parts in asked.items()}
        rows = first + [row for stage in stages.values() for row in adapt(stage, cfg, data, source_model, tested)]
        stamp, source = None if tested is None else tested.protocol_stamp(), cfg.start_from or cfg.data.source
        unlabeled.report_adaptation(cfg, rows, stages, data, stamp, title=f"{source} to {cfg.data.target}", began=began)
        return rows


if __name__ == "__main__":
    main()
