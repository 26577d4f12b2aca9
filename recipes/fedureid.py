"""Federated unsupervised re-ID (FedUReID): clients cluster their own images, a server averages their networks (Zhuang et al. 2021).

Without --datasets it generates two domains of pedestrians, each dealt to clients of unequal size, and trains small networks from nothing:
minutes on two CPU cores. With them, each data set is a client, and the defaults are a ResNet-50 at 256x128.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import FederatedDataModule, ImageReIDDataModule, UnlabeledDataModule
from lightning_reid.files import write_json
from lightning_reid.modules import BottomUpReID, SupervisedReID
from lightning_reid.runners import (
    Client,
    FederationOptions,
    LocalTraining,
    Personalisation,
    RoundScores,
    RunFolder,
    RunOptions,
    Stage,
    draw_rounds,
    fedureid_client,
    print_rounds,
    told_with_unmatched,
)

SMALL_RUN: dict[str, Any] = {
    "datasets": ["market-like-small", "duke-like"],
    "split": "dirichlet",
    "num_clients": 2,
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.batch_size": 32,
    "data.num_workers": 0,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "clustering.merge_share": 0.1,
    "clustering.k1": 10,
    "clustering.k2": 3,
    "rounds": 6,
    "epochs": 4,
}
Row = Literal["standalone", "baseline", "PC", "PE", "PC and PE", "PU", "all"]
START, STANDALONE, BASELINE, ALL = "first network", "standalone", "baseline", "all"
ROWS: dict[str, tuple[bool, bool, bool]] = {
    BASELINE: (False, False, False),
    "PC": (True, False, False),
    "PE": (False, True, False),
    "PC and PE": (True, True, False),
    "PU": (False, False, True),
    ALL: (True, True, True),
}
"""Of the poster's ablation: personalised clustering, epoch, update."""
FOUR_SCORES = ("R1", "R5", "R10", "mAP")


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="fedureid.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    FederationOptions.add_to(parser, output="runs/fedureid", rounds=20, epochs=2)
    parser.add_argument("--datasets", type=list[str], default=None, help="data sets of the clients; none: generate two")
    parser.add_argument("--pretraining", type=str | None, default=None, help="labelled data set on which the first network is trained")
    parser.add_argument("--pretraining_epochs", type=PositiveInt, default=20, help="passes over it")
    parser.add_argument("--rows", type=list[Row], default=[BASELINE, ALL], help="federations to run, of the poster's second table")
    parser.add_argument("--ablation", action="store_true", help="all of them, and clients that learn alone")
    parser.add_argument("--test_every_n_rounds", type=PositiveInt, default=1, help="rounds between two tests of all clients")
    precision_help = "training precision, measured with the training's dropout, at which PE ends a local fit"
    parser.add_argument("--personalisation.precision", type=float, default=0.95, help=precision_help)
    parser.add_argument("--personalisation.local_share", type=float, default=0.5, help="mu of PU, in [0, 1]")
    parser.add_class_arguments(UnlabeledDataModule, "data", skip={"dataset", "root", "seed", "val_identities", "split"})
    parser.add_class_arguments(BottomUpReID, "model")
    skipped = {"every_n_epochs", "initial_epochs", "num_merges", "profile_steps", "merge_at_start"}
    parser.add_class_arguments(BottomUpClustering, "clustering", skip=skipped)
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 0.01})
    cfg = parser.parse_args(argv)
    if cfg.datasets is None:
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data sets named (--datasets): generating two small ones and training small networks on their clients")
    return cfg


def personalisation(cfg: Namespace, row: str) -> Personalisation:
    """The switches of a row; a client that goes on with its own model alone is not in a federation."""
    precision = cfg.personalisation.precision
    if row == STANDALONE:
        return Personalisation(clustering=False, epoch=False, update=True, local_share=1.0)
    return Personalisation(*ROWS[row], precision=precision, local_share=cfg.personalisation.local_share)


def labelled_data(cfg: Namespace) -> list[ImageReIDDataModule]:
    """The data that the first network is trained on, if it is trained at all."""
    if cfg.pretraining is None:
        return []
    sizes = {name: cfg.data[name] for name in ("image_size", "crop_padding", "num_workers")}
    data = ImageReIDDataModule(cfg.pretraining, cfg.root, seed=cfg.seed, needs_test=False, val_identities=0, **sizes)
    data.prepare_data()
    data.setup()
    return [data]


def first_network(cfg: Namespace, data: ImageReIDDataModule) -> dict[str, Tensor]:
    """The network that all clients start from, trained on other people's labelled images: what ImageNet is to a ResNet-50."""
    run = RunOptions(output=cfg.output, accelerator=cfg.accelerator, seed=cfg.seed, resume=cfg.resume, quiet=cfg.quiet)
    stage, epochs = Stage(run, "pretraining"), cfg.pretraining_epochs
    stage.seed_everything()
    names = ("backbone", "backbone_options", "pretrained", "weights", "pooling")
    module = SupervisedReID(**{name: cfg.model[name] for name in names}, lr=1e-3, milestones=[epochs // 2, epochs * 3 // 4])
    stage.fit(stage.trainer(epochs, [], validate_every_n_epochs=None), module, data)
    return module.network.state_dict()


class Experiment:
    """Clients' images and the network they start from; runs one federation after another on them."""

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run = cfg, FederationOptions.of(cfg)
        self.data = FederatedDataModule(cfg.datasets, unlabeled=True, **self.run.split_arguments(), **cfg.data)
        self.data.prepare_data()
        self.data.setup()
        known = labelled_data(cfg)
        folder.holds(*(data.dataset for data in (*self.data.clients.values(), *known)))
        self.start = first_network(cfg, known[0]) if known else None

    def clients(self, personal: Personalisation) -> list[Client]:
        """All of them, as if nothing had been run."""
        cfg, found = self.cfg, []
        options: dict[str, Any] = {name: cfg[name].as_dict() for name in ("clustering", "model")}
        for name, images in self.data.clients.items():
            assert isinstance(images, UnlabeledDataModule)
            images.forget_target_state()
            member = fedureid_client(name, images, personal, rounds=cfg.rounds, seed=cfg.seed, **options)
            if self.start is not None:
                member.module.network.load_state_dict(self.start)
            found.append(member)
        return found

    def before(self) -> dict[str, Any]:
        """Scores of the network that all clients start from."""
        personal, folder = personalisation(self.cfg, BASELINE), Path(self.cfg.output)
        trainings = [
            LocalTraining(one, personal.strategy(), folder / f"{one.id}.ckpt", self.cfg.accelerator) for one in self.clients(personal)
        ]
        return {"scores": {one.client.id: one.test() for one in trainings}, "clusters": {}, "steps": 0, "payload_bytes": 0}

    def federate(self, row: str) -> dict[str, Any]:
        """One federation: every client's scores with its personal model, and what the rounds cost."""
        personal = personalisation(self.cfg, row)
        members = self.clients(personal)
        federation = self.run.federation(row, personal.strategy(), members)
        scores = RoundScores(federation, self.cfg.test_every_n_rounds)
        federation.fit(self.cfg.rounds, scores)
        states = {one.id: one.data.target_state for one in members if isinstance(one.data, UnlabeledDataModule)}
        going = [one for one in federation.rounds if not one.report.repeat]
        payload = max((size for one in going for size in (*one.bytes_down.values(), *one.report.bytes_up.values())), default=0)
        return {
            "scores": scores.test(),
            "mAP by round": scores.means("mAP"),
            "clusters": {name: state.num_clusters for name, state in states.items() if state is not None},
            "steps": sum(sum(one.steps.values()) for one in federation.rounds),
            "payload_bytes": payload,
        }


def print_rows(found: dict[str, dict[str, Any]], title: str) -> None:
    """Rank-1 and mAP of each client by row, the means, and what was trained and sent."""
    names = list(next(iter(found.values()))["scores"])
    caption = "R1 / mAP in per cent of each client's personal model; MB are one way, a client and round"
    table = Table(title=title, caption=told_with_unmatched(caption, next(iter(found.values()))["scores"]))
    table.add_column("client")
    for row in found:
        table.add_column(row, justify="right")
    for name in names:
        table.add_row(name, *(_cell(one["scores"][name]) for one in found.values()))
    means = [{key: mean(scores[key] for scores in one["scores"].values()) for key in ("R1", "mAP")} for one in found.values()]
    table.add_section()
    table.add_row("mean", *map(_cell, means))
    table.add_row("local steps", *(f"{one['steps']:,}" for one in found.values()))
    table.add_row("MB", *(f"{one['payload_bytes'] / 1e6:.2f}" for one in found.values()))
    Console(width=max(Console().width, 120)).print(table)


def print_methods(found: dict[str, dict[str, Any]]) -> None:
    """The poster's first table: four scores of each client, a row a method."""
    table = Table(title="every client's personal model, per cent")
    for heading in ("client", "method", *FOUR_SCORES):
        table.add_column(heading, justify="left" if heading in ("client", "method") else "right")
    methods = [row for row in (STANDALONE, BASELINE, ALL) if row in found]
    for name in next(iter(found.values()))["scores"]:
        for number, row in enumerate(methods):
            scores = found[row]["scores"][name]
            table.add_row(name if number == 0 else "", row, *(f"{100 * scores[score]:.1f}" for score in FOUR_SCORES))
        table.add_section()
    Console(width=max(Console().width, 100)).print(table)


def _cell(scores: dict[str, float]) -> str:
    return f"{100 * scores['R1']:.1f} / {100 * scores['mAP']:.1f}"


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    cfg = parse(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    began = time.monotonic()
    with RunFolder(cfg, ignored=("rows", "ablation")) as folder:
        experiment = Experiment(cfg, folder)
        data = experiment.data
        data.print()
        data.save(Path(cfg.output) / "clients.json")
        rows = [STANDALONE, *ROWS] if cfg.ablation else cfg.rows
        found = {START: experiment.before()} | {row: experiment.federate(row) for row in rows}
        write_json(Path(cfg.output) / "results.json", {"rows": found, "seconds": time.monotonic() - began})
        curves = {row: found[row]["mAP by round"] for row in rows}
        draw_rounds(Path(cfg.output) / "curves.png", curves, "mAP, mean over the clients, %")
        print_rounds(curves, "mAP of the personal models, mean over the clients, per cent")
        print_methods(found)
        print_rows(found, f"FedUReID, {len(data.clients)} clients, {cfg.rounds} rounds")
        return found


if __name__ == "__main__":
    main()
