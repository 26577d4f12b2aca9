"""Federated unsupervised re-ID (FedUReID): clients cluster their own images, a server averages their networks (Zhuang et al. 2021).

Without --datasets it generates two domains of pedestrians, each dealt to clients of unequal size, and trains small networks from nothing:
minutes on two CPU cores. With them, each data set is a client, and the defaults are a ResNet-50 at 256x128.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from torch import Tensor

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import FederatedData, ImageReIDDataModule, UnlabeledDataModule
from lightning_reid.federation import Client, LocalTraining, Personalization, fedureid_client
from lightning_reid.files import write_json
from lightning_reid.modules import BottomUpReID, SupervisedReID
from lightning_reid.networks import load_embedding_network
from lightning_reid.recipes.fedureid_tables import ALL, BASELINE, ROWS, START, TRUE_LABELS, RowName, curves, print_found
from lightning_reid.recipes.workshop.federated_row import federated_row
from lightning_reid.recipes.workshop.options import FederationOptions, network_arguments
from lightning_reid.recipes.workshop.round_scores import draw_rounds
from lightning_reid.recipes.workshop.run_folder import RunFolder, read_now
from lightning_reid.recipes.workshop.small_run import SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage
from lightning_reid.recipes.workshop.true_labels import TrueLabels
from lightning_reid.recipes.workshop.unlabeled import parse_start

ROW_OPTIONS = ("rows", "ablation")  # only choose which rows there are: a resumed run may give others
SMALL_RUN = {
    **(SMALL_CROPS | SMALL_NETWORK | {"datasets": ["market-like-small", "duke-like"], "split": "dirichlet", "num_clients": 2}),
    **{"data.batch_size": 32, "clustering.merge_share": 0.1, "clustering.k1": 10, "clustering.k2": 3, "rounds": 6, "epochs": 4},
}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="fedureid.py")
    FederationOptions.add_to(parser, output="runs/fedureid", rounds=20, epochs=2)
    parser.add_argument("--datasets", type=list[str], default=None, help="data sets of the clients; none: generate two")
    parser.add_argument("--pretraining", type=str | None, default=None, help="labeled data set on which the first network is trained")
    parser.add_argument("--pretraining_epochs", type=PositiveInt, default=20, help="passes over it")
    started = "network that all clients start from: last.ckpt, a model folder, or a shipped name; its backbone and size are taken"
    parser.add_argument("--start_from", type=str | None, default=None, help=started)
    parser.add_argument("--rows", type=list[RowName], default=[BASELINE, ALL], help="federations to run, of the poster's second table")
    parser.add_argument("--ablation", action="store_true", help="all of them, and clients that learn alone")
    parser.add_argument("--test_every_n_rounds", type=PositiveInt, default=1, help="rounds between two tests of all clients")
    precision_help = "training precision, measured with the training's dropout, at which PE ends a local fit"
    parser.add_argument("--personalization.precision", type=float, default=0.95, help=precision_help)
    parser.add_argument("--personalization.local_share", type=float, default=0.5, help="mu of PU, in [0, 1]")
    shared_help = "average the layer of the loss (--model.loss_features) too; the text has backbones uploaded"
    parser.add_argument("--personalization.shared_loss_layer", type=bool, default=False, help=shared_help)
    parser.add_class_arguments(UnlabeledDataModule, "data", skip={"dataset", "seed", "val_identities", "split"})
    parser.add_class_arguments(BottomUpReID, "model")
    skipped = {"every_n_epochs", "initial_epochs", "num_merges", "profile_steps", "merge_at_start"}
    parser.add_class_arguments(BottomUpClustering, "clustering", skip=skipped)
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 0.01})
    small = "two small ones and training small networks on their clients"
    cfg = parse_start(parser, argv, parse_or_small_run(parser, argv, SMALL_RUN, named=["datasets"], generating=small), SMALL_RUN)
    if len(set(cfg.rows)) < len(cfg.rows) or not cfg.rows:
        parser.error(f"--rows names one federation or more, each once, got {cfg.rows}")
    if cfg.start_from is not None and cfg.pretraining is not None:
        parser.error(f"--start_from {cfg.start_from} is a network that was trained: leave --pretraining {cfg.pretraining} out")
    return cfg


class Experiment:
    """Clients' images and the network they start from; runs one federation after another on them."""

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run = cfg, FederationOptions.of(cfg)
        self.data = FederatedData(cfg.datasets, unlabeled=True, **self.run.split_arguments(), **cfg.data)
        sizes = {name: cfg.data[name] for name in ("root", "image_size", "crop_padding", "num_workers")}
        options = sizes | {"seed": cfg.seed, "needs_test": False, "val_identities": 0}
        known = [] if cfg.pretraining is None else [ImageReIDDataModule(cfg.pretraining, **options)]
        read_now(self.data, *known)
        folder.holds(*(data.dataset for data in (*self.data.clients.values(), *known)))
        self.start = self._first_network(known[0]) if known else None
        if cfg.start_from is not None:
            self.start = load_embedding_network(cfg.start_from).state_dict()

    def _first_network(self, data: ImageReIDDataModule) -> dict[str, Tensor]:
        """The network that all clients start from, trained on other people's labeled images: what ImageNet is to a ResNet-50."""
        epochs, stage = self.cfg.pretraining_epochs, Stage(self.run.of_one_run(), "pretraining")
        options = network_arguments(self.cfg.model) | {"lr": 1e-3, "milestones": [epochs // 2, epochs * 3 // 4]}
        return stage.train(lambda: SupervisedReID(**options), data, epochs)[0].network.state_dict()

    def personalization(self, row: str) -> Personalization:
        """Which of the personal optimizations are on in a row, and their numbers."""
        return Personalization(**(self.cfg.personalization.as_dict() | ROWS[row]))

    def clients(self, row: str) -> list[Client]:
        """All of them, as if nothing had been run."""
        cfg, personal, found = self.cfg, self.personalization(row), []
        options: dict[str, Any] = {name: cfg[name].as_dict() for name in ("clustering", "model")}
        for name, images in self.data.clients.items():
            assert isinstance(images, UnlabeledDataModule)
            images.forget_target_state()
            member = fedureid_client(name, images, personal, rounds=cfg.rounds, seed=cfg.seed, **options)
            if self.start is not None:
                member.module.network.load_state_dict(self.start)
            if row == TRUE_LABELS:
                member.callbacks = [TrueLabels()]
            found.append(member)
        return found

    def before(self) -> dict[str, Any]:
        """Scores of the network that all clients start from."""
        personal, folder = self.personalization(BASELINE), Path(self.cfg.output)
        trainings = [
            LocalTraining(one, personal.strategy(), folder / f"{one.id}.ckpt", self.cfg.accelerator) for one in self.clients(BASELINE)
        ]
        return {"scores": {one.client.id: one.test() for one in trainings}, "clusters": {}, "steps": 0, "payload_bytes": 0}

    def federate(self, row: str) -> dict[str, Any]:
        """One federation: every client's scores with its personal model, and what the rounds cost."""
        strategy = self.personalization(row).strategy()
        federation = self.run.federation(row, strategy, self.clients(row))
        return federated_row(federation, self.cfg.rounds, self.cfg.test_every_n_rounds)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    cfg, began = parse(argv), time.monotonic()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    with RunFolder(cfg, ignored=ROW_OPTIONS) as folder:
        experiment = Experiment(cfg, folder)
        data = experiment.data
        data.print()
        data.save(Path(cfg.output) / "clients.json")
        rows = [*ROWS] if cfg.ablation else cfg.rows
        found = {START: experiment.before()} | {row: experiment.federate(row) for row in rows}
        write_json(Path(cfg.output) / "results.json", {"rows": found, "seconds": time.monotonic() - began})
        draw_rounds(Path(cfg.output) / "curves.png", curves(found), "mAP, mean over the clients, %")
        print_found(found, f"FedUReID, {len(data.clients)} clients, {cfg.rounds} rounds")
        return found


if __name__ == "__main__":
    main()
