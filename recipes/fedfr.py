"""Federated re-ID, generic and personal at once (FedFR, thesis chapter 7): Tables 7.1 to 7.3 on re-ID data.

Without --public or --clients it generates a public domain and another one that is dealt to clients, and trains small networks: minutes on
two CPU cores. With them, the defaults are a ResNet-50 at 256x128, 30 rounds of 4 epochs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import HardNegativeSampling
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.federated import FedFace, FedFR, FedPav
from lightning_reid.federation import Client
from lightning_reid.files import write_json
from lightning_reid.modules import FedFRClient
from lightning_reid.recipes import fedfr_tables as tables
from lightning_reid.recipes.fedfr_tables import FEDFR, METHODS, Method
from lightning_reid.recipes.workshop.fedfr_data import FedFRData
from lightning_reid.recipes.workshop.options import FederationOptions
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage

ROW_OPTIONS = ("rows", "ablation", "sweep")  # only choose which rows there are: a resumed run may give others
SMALL_RUN = {
    **(SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"public": "duke-like", "clients": ["market-like-small", "duke-like-small"]}),
    **{"split": "dirichlet", "num_clients": 2, "held_out": 0.5, "far": [0.01], "fpir": [0.1], "rounds": 5, "epochs": 2},
    **{"data.image_size": [48, 24], "data.crop_padding": 3, "model.lr": 0.01, "pretraining_epochs": 20, "tuning_epochs": 2},
    **{"model.backbone_options": {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}},
}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="fedfr.py")
    FederationOptions.add_to(parser, output="runs/fedfr")
    parser.add_argument("--public", type=str | None, default=None, help="labeled data set that the server was trained on and shares")
    parser.add_argument("--clients", type=list[str] | None, default=None, help="data sets of the clients")
    parser.add_argument("--held_out", type=float, default=0.4, help="share of a client's images that it is tested on, in (0, 1)")
    parser.add_argument("--pretraining_epochs", type=PositiveInt, default=60, help="passes over the public data before the first round")
    parser.add_argument("--threshold", type=float, default=0.4, help="t_HN: public images of a larger cosine to a local one are used")
    parser.add_argument("--tuning_epochs", type=PositiveInt, default=4, help="of a client's own training in two rows of Table 7.2")
    parser.add_argument("--rows", type=list[tables.RowName], default=[tables.FEDAVG, FEDFR], help="federations to run")
    parser.add_argument("--ablation", action="store_true", help="every row of Tables 7.1 and 7.2, and FedFace")
    parser.add_argument("--sweep", action="store_true", help="also other thresholds of hard negatives (Fig. 7.3)")
    parser.add_argument("--far", type=list[float], default=[1e-3, 1e-2], help="false accept rates, each in (0, 1]")
    parser.add_argument("--fpir", type=list[float], default=[1e-2, 1e-1], help="false positive identification rates, each in (0, 1]")
    parser.add_argument("--batch_size", type=PositiveInt, default=64, help="images of a client's training batch")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"dataset", "seed", "needs_test", "val_identities", "split"})
    skipped = {"num_local", "num_public", "personal_embeddings", "branch", "distillation", *Method().weights()}
    parser.add_class_arguments(FedFRClient, "model", skip=skipped)
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 1e-3})
    cfg = parse_or_small_run(parser, argv, SMALL_RUN, named=("public", "clients"), generating="two domains and training small networks")
    if (cfg.public is None) != (cfg.clients is None):
        parser.error("--public and --clients go together: the server's data set, and those of the clients")
    if cfg.sweep and not cfg.ablation and FEDFR not in cfg.rows:
        parser.error("--sweep compares thresholds of FedFR: name it among --rows")
    return cfg


class Experiment:
    """Public data, clients, unseen people, and the pre-trained server; runs one federation after another on them."""

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run, self.data = cfg, FederationOptions.of(cfg), FedFRData(cfg)
        folder.holds(*self.data.datasets)
        self.data.dealt.print()
        self.data.dealt.save(Path(cfg.output) / "clients.json")
        self.server = self._pretrained()

    def _pretrained(self) -> FedFRClient:
        """A network and the public proxies, by CosFace on the public data."""
        epochs = self.cfg.pretraining_epochs
        adam = {"optimizer": "adam", "lr": 1e-3, "milestones": [epochs // 2, epochs * 3 // 4]}
        stage = Stage(self.run.of_one_run(), "pretraining")
        return stage.train(lambda: self.module(self.data.public.num_classes, 0, Method(public=False), **adam), self.data.public, epochs)[0]

    def module(self, num_local: int, num_public: int, method: Method, **options: Any) -> FedFRClient:
        """A client's module, of the same first weights each time."""
        pl.seed_everything(self.cfg.seed, workers=True, verbose=False)
        options = self.cfg.model.as_dict() | {"branch": method.branch} | method.weights() | options
        return FedFRClient(num_local, num_public, **options)

    def client(self, name: str, method: Method, threshold: float) -> Client:
        """A client that starts from the server's network and proxies."""
        data = self.data.clients[name]
        module = self.module(data.num_local, data.num_public if method.public else 0, method)
        module.network.load_state_dict(self.server.network.state_dict())
        if method.public:
            module.public_proxies.data.copy_(self.server.local_proxies.data)
        return Client(name, module, data, [HardNegativeSampling(threshold if method.public else None)])

    def federate(self, row: str, method: Method, threshold: float) -> dict[str, Any]:
        """One federation: the server's generic scores, the clients' personal ones with each of three models, and what it cost."""
        strategy = FedFace() if row == tables.FEDFACE else FedFR() if method.public else FedPav()
        members = [self.client(name, method, threshold) for name in self.data.clients]
        federation = self.run.federation(row, strategy, members)
        state, server = federation.fit(self.run.rounds), self.module(1, 0, method)
        shared = {name.removeprefix("network."): tensor for name, tensor in state.tensors.items() if name.startswith("network.")}
        server.network.load_state_dict(shared)
        modules = {one.id: one.module for one in members if isinstance(one.module, FedFRClient)}
        personal = {tables.SERVER: self.data.personal(dict.fromkeys(modules, server)), tables.OWN: self.data.personal(modules)}
        if method.branch_weight > 0:
            for module in modules.values():
                module.personal_embeddings = True
            personal[tables.TRANSFORMED] = self.data.personal(modules)
        sampling = [callback for one in members for callback in one.callbacks if isinstance(callback, HardNegativeSampling)]
        share = mean(one.share for one in sampling) if method.public else 0.0  # of the last round: adapting samples once more
        if row == tables.CONTRASTIVE:
            ways = {name: tables.adapted(members, state, weight, self.cfg) for name, weight in tables.ADAPTATIONS.items()}
            personal |= {name: self.data.personal(alone) for name, alone in ways.items()}
        steps = sum(sum(one.steps.values()) for one in federation.rounds)
        costs = {"payload_bytes": max(size for one in federation.rounds for size in one.report.bytes_up.values())}
        return {"generic": self.data.generic(server), "personal": personal, "steps": steps, "public share": share, **costs}


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    cfg, began = parse(argv), time.monotonic()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    with RunFolder(cfg, ignored=ROW_OPTIONS) as folder:
        experiment, output = Experiment(cfg, folder), Path(cfg.output)
        data, first = experiment.data, experiment.server
        server = {"generic": data.generic(first), "personal": {tables.SERVER: data.personal(dict.fromkeys(data.clients, first))}}
        found: dict[str, dict[str, Any]] = {tables.PRETRAINED: server | {"steps": 0, "payload_bytes": 0}}
        found |= {row: experiment.federate(row, METHODS[row], cfg.threshold) for row in ([*METHODS] if cfg.ablation else cfg.rows)}
        if cfg.sweep:
            others = {t: experiment.federate(f"FedFR-{t:g}", METHODS[FEDFR], t) for t in tables.THRESHOLDS if t != cfg.threshold}
            tables.draw_sweep(output / "sweep.png", {cfg.threshold: found[FEDFR]} | others)
            found |= {f"FedFR, t_HN={t:g}": row for t, row in others.items()}
        write_json(output / "results.json", {"rows": found, "seconds": time.monotonic() - began})
        tables.print_rows(found, f"{len(data.clients)} clients, {cfg.rounds} rounds of {cfg.epochs} epochs")
        if FEDFR in found:
            tables.print_models(found[FEDFR]["personal"], "Table 7.3: FedFR, personal scores by the model that is asked")
        if cfg.ablation:
            tables.print_adaptations(found)
        return found


if __name__ == "__main__":
    main()
