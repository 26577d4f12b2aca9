"""Federated supervised re-ID (FedAvg of the backbone: FedPav): Table 7.5 of the thesis. Classifiers stay with the clients.

Without --datasets it generates two domains of pedestrians, each dealt to two clients, and trains small networks: minutes on two CPU
cores. With them, each data set is a client, and the defaults are a ResNet-50 at 256x128. --unseen names sets that nobody trains on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.datamodules import FederatedData, ImageReIDDataModule
from lightning_reid.federated import FedPav, FedUReID
from lightning_reid.federation import Client
from lightning_reid.federation.local_training import score_client
from lightning_reid.files import write_json
from lightning_reid.modules import SupervisedReID
from lightning_reid.recipes.workshop.options import FederationOptions
from lightning_reid.recipes.workshop.round_scores import RoundScores, draw_rounds, print_rounds, told_with_unmatched
from lightning_reid.recipes.workshop.run_folder import RunFolder, read_now
from lightning_reid.recipes.workshop.small_run import SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.tables import per_cent, print_table

SMALL_RUN = {
    **(SMALL_CROPS | SMALL_NETWORK | {"datasets": ["market-like-small", "duke-like-small"], "unseen": ["duke-like"]}),
    **{"split": "dirichlet", "num_clients": 2, "model.lr": 1e-3, "rounds": 15, "epochs": 2},
}
LOCAL, FEDAVG = "local supervised", "FedAvg"


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="fedpav.py")
    FederationOptions.add_to(parser, output="runs/fedpav", rounds=30, epochs=4)
    parser.add_argument("--datasets", type=list[str] | None, default=None, help="data sets of the clients; none: generate two")
    parser.add_argument("--test_every_n_rounds", type=PositiveInt, default=1, help="rounds between two tests of all clients")
    parser.add_argument("--unseen", type=list[str], default=[], help="data sets with a test part that the server's model is scored on")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"dataset", "seed", "needs_test", "val_identities", "split"})
    parser.add_class_arguments(SupervisedReID, "model", skip={"num_classes"})
    parser.set_defaults({"model.milestones": []})
    small = "small ones and training small networks on their clients"
    return parse_or_small_run(parser, argv, SMALL_RUN, named=["datasets"], generating=small)


class Experiment:
    """Clients and unseen sets, read before anything is trained."""

    def __init__(self, cfg: Namespace) -> None:
        self.cfg, self.run = cfg, FederationOptions.of(cfg)
        self.dealt = FederatedData(cfg.datasets, **self.run.split_arguments(), **cfg.data)
        self.unseen = {name: ImageReIDDataModule(name, seed=cfg.seed, val_identities=0, **cfg.data) for name in cfg.unseen}
        read_now(self.dealt, *self.unseen.values())

    def federate(self, row: str, strategy: FedPav) -> dict[str, Any]:
        """Each client's scores on its own test set, the server's on unseen sets, and what was sent."""
        members = []
        for name, images in self.dealt.clients.items():
            pl.seed_everything(self.cfg.seed, workers=True, verbose=False)
            members.append(Client(name, SupervisedReID(**self.cfg.model), images))
        federation = self.run.federation(row, strategy, members)
        scores = RoundScores(federation, self.cfg.test_every_n_rounds)
        state = federation.fit(self.cfg.rounds, scores)
        found: dict[str, Any] = {"clients": scores.test(), "server": federation.test_server(), "unseen": {}}
        found["mAP by round"] = scores.means("mAP")
        module = members[0].module
        module.load_state_dict(module.state_dict() | state.tensors)
        if row == FEDAVG:
            folder = Path(self.cfg.output)
            for name, data in self.unseen.items():
                found["unseen"][name] = score_client(Client(name, module, data), self.cfg.accelerator, folder)
        found["payload_bytes"] = sum(tensor.numel() * tensor.element_size() for tensor in state.tensors.values())
        return found


def print_scores(title: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]], caption: str) -> None:
    """Both scores of each set, a row a method."""
    headings, told = ("method", *next(iter(rows.values()))), told_with_unmatched(caption, next(iter(rows.values())))
    cells = [[row, *(f"{per_cent(one['mAP'])} / {per_cent(one['R1'])}" for one in scores.values())] for row, scores in rows.items()]
    print_table(title, headings, cells, caption=told)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    cfg, began = parse(argv), time.monotonic()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    with RunFolder(cfg) as folder:
        experiment = Experiment(cfg)
        folder.holds(*(data.dataset for data in (*experiment.dealt.clients.values(), *experiment.unseen.values())))
        experiment.dealt.print()
        experiment.dealt.save(Path(cfg.output) / "clients.json")
        # a client that keeps all of its own model is not in a federation, and trains as often
        found = {LOCAL: experiment.federate(LOCAL, FedUReID(local_share=1.0)), FEDAVG: experiment.federate(FEDAVG, FedPav())}
        write_json(Path(cfg.output) / "results.json", {"rows": found, "seconds": time.monotonic() - began})
        curves = {row: one["mAP by round"] for row, one in found.items()}
        draw_rounds(Path(cfg.output) / "curves.png", curves, "mAP, mean over the clients, %")
        print_rounds(curves, "mAP of the personal models, mean over the clients, per cent")
        personal = {
            LOCAL: found[LOCAL]["clients"],
            f"{FEDAVG}, client's": found[FEDAVG]["clients"],
            f"{FEDAVG}, server's": found[FEDAVG]["server"],
        }
        sent = f"mAP / R1 in per cent; {found[FEDAVG]['payload_bytes'] / 1e6:.2f} MB one way, a client and round"
        print_scores(f"Table 7.5: {len(personal[LOCAL])} clients, {cfg.rounds} rounds of {cfg.epochs} epochs", personal, sent)
        if cfg.unseen:
            print_scores("Table 7.5: unseen data sets", {FEDAVG: found[FEDAVG]["unseen"]}, "mAP / R1 in per cent of the server's model")
        return found


if __name__ == "__main__":
    main()
