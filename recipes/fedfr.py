"""Federated re-ID, generic and personal at once (FedFR, thesis chapter 7): Tables 7.1 to 7.3 on re-ID data.

Without --public or --clients it generates a public domain and another one that is dealt to clients, and trains small networks: minutes on
two CPU cores. With them, the defaults are a ResNet-50 at 256x128, 30 rounds of 4 epochs.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lightning_reid.callbacks import HardNegativeSampling
from lightning_reid.datamodules import FederatedDataModule, ImageReIDDataModule, PublicAndLocalDataModule
from lightning_reid.federated import FedAvg, FedFace, FedFR, ServerState
from lightning_reid.files import write_atomically, write_json
from lightning_reid.modules import FedFRClient
from lightning_reid.runners import (
    Client,
    FederationOptions,
    RunFolder,
    RunOptions,
    Stage,
    check_generic_rates,
    check_personal_rates,
    generic_scores,
    local_trainer,
    personal_scores,
)

SMALL_RUN: dict[str, Any] = {
    "public": "duke-like",
    "clients": ["market-like-small", "duke-like-small"],
    "split": "dirichlet",
    "num_clients": 2,
    "data.image_size": [48, 24],
    "data.crop_padding": 3,
    "data.erasing_probability": 0.0,
    "data.num_workers": 0,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "model.lr": 0.01,
    "pretraining_epochs": 20,
    "tuning_epochs": 2,
    "held_out": 0.5,
    "far": [0.01],
    "fpir": [0.1],
    "rounds": 5,
    "epochs": 2,
}


class Method(NamedTuple):
    """A row of Table 7.1 or 7.2: what is used of the public data, the weights of the three losses, and the loss of the branch."""

    public: bool
    weights: tuple[float, float, float]
    branch: Literal["one-vs-all", "cosface"] = "one-vs-all"


Row = Literal["FedAvg", "FedFace", "hard negatives", "and contrastive", "FedFR, CosFace branch", "FedFR"]
PRETRAINED, FEDAVG, FEDFACE, FEDFR = "pre-trained", "FedAvg", "FedFace", "FedFR"
CONTRASTIVE, COSFACE = "and contrastive", "FedFR, CosFace branch"
METHODS = {
    FEDAVG: Method(False, (1.0, 0.0, 0.0)),
    FEDFACE: Method(False, (1.0, 0.0, 0.0)),
    "hard negatives": Method(True, (1.0, 0.0, 0.0)),
    CONTRASTIVE: Method(True, (1.0, 5.0, 0.0)),
    COSFACE: Method(True, (1.0, 5.0, 1.0), "cosface"),
    FEDFR: Method(True, (1.0, 5.0, 10.0)),
}
ADAPTATIONS = {"fine-tuning": 0.0, "distillation": 1.0}
"""Of Table 7.2: weight of the global model's logits in each client's own training after the last round."""
SERVER, OWN, TRANSFORMED = "server's", "client's", "client's, transformed"
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Of Fig. 7.3."""


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="fedfr.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    FederationOptions.add_to(parser, output="runs/fedfr")
    parser.add_argument("--public", type=str | None, default=None, help="labelled data set that the server was trained on and shares")
    parser.add_argument("--clients", type=list[str] | None, default=None, help="data sets of the clients")
    parser.add_argument("--held_out", type=float, default=0.4, help="share of a client's images that it is tested on, in (0, 1)")
    parser.add_argument("--pretraining_epochs", type=PositiveInt, default=60, help="passes over the public data before the first round")
    parser.add_argument("--threshold", type=float, default=0.4, help="t_HN: public images of a larger cosine to a local one are used")
    parser.add_argument("--tuning_epochs", type=PositiveInt, default=4, help="of a client's own training in two rows of Table 7.2")
    parser.add_argument("--rows", type=list[Row], default=[FEDAVG, FEDFR], help="federations to run")
    parser.add_argument("--ablation", action="store_true", help="every row of Tables 7.1 and 7.2, and FedFace")
    parser.add_argument("--sweep", action="store_true", help="also other thresholds of hard negatives (Fig. 7.3)")
    parser.add_argument("--far", type=list[float], default=[1e-3, 1e-2], help="false accept rates, each in (0, 1]")
    parser.add_argument("--fpir", type=list[float], default=[1e-2, 1e-1], help="false positive identification rates, each in (0, 1]")
    parser.add_argument("--batch_size", type=PositiveInt, default=64, help="images of a client's training batch")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"dataset", "root", "seed", "needs_test", "val_identities", "split"})
    skipped = {"num_local", "num_public", "weights_of_losses", "personal_embeddings", "branch", "distillation"}
    parser.add_class_arguments(FedFRClient, "model", skip=skipped)
    parser.set_defaults({"model.optimizer": "sgd", "model.lr": 1e-3})
    cfg = parser.parse_args(argv)
    if (cfg.public is None) != (cfg.clients is None):
        parser.error("--public and --clients go together: the server's data set, and those of the clients")
    if cfg.sweep and not cfg.ablation and FEDFR not in cfg.rows:
        parser.error("--sweep compares thresholds of FedFR: name it among --rows")
    if cfg.public is None:
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data sets named (--public, --clients): generating two domains and training small networks on them")
    return cfg


class Experiment:
    """Public data, clients, unseen people, and the pre-trained server; runs one federation after another on them."""

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run, self.output = cfg, FederationOptions.of(cfg), Path(cfg.output)
        shared = cfg.data.as_dict() | {"val_identities": 0}  # nothing is selected: what is scored is the model of the last round
        self.public = ImageReIDDataModule(cfg.public, cfg.root, seed=cfg.seed, needs_test=False, **shared)
        self.unseen = ImageReIDDataModule(cfg.clients[0], cfg.root, seed=cfg.seed, **shared)
        self.dealt = FederatedDataModule(cfg.clients, held_out=cfg.held_out, **self.run.split_arguments(), **shared)
        for data in (self.public, self.unseen, self.dealt):  # a missing folder is found now, not after the server was trained
            data.prepare_data()
            data.setup()
        public = self.public.dataset
        options = {name: value for name, value in shared.items() if name not in ("p", "k")} | {
            "seed": cfg.seed,
            "batch_size": cfg.batch_size,
        }
        self.clients = {name: PublicAndLocalDataModule(one.dataset, public, **options) for name, one in self.dealt.clients.items()}
        self.rates = {"far": cfg.far, "fpir": cfg.fpir}
        check_generic_rates(self.unseen, **self.rates)
        check_personal_rates(self.clients, **self.rates)
        folder.holds(*(data.dataset for data in (self.public, self.unseen, *self.dealt.clients.values())))
        self.server = self._pretrained()

    def _pretrained(self) -> FedFRClient:
        """A network and the public proxies, by CosFace on the public data."""
        cfg = self.cfg
        run = RunOptions(output=cfg.output, accelerator=cfg.accelerator, seed=cfg.seed, resume=cfg.resume, quiet=cfg.quiet)
        stage, epochs = Stage(run, "pretraining"), cfg.pretraining_epochs
        adam: dict[str, Any] = {"optimizer": "adam", "lr": 1e-3, "milestones": [epochs // 2, epochs * 3 // 4]}
        model = self.module(self.public.num_classes, 0, (1.0, 0.0, 0.0), **adam)
        stage.fit(stage.trainer(epochs, [], validate_every_n_epochs=None), model, self.public)
        return model

    def module(self, num_local: int, num_public: int, weights: tuple[float, float, float], **options: Any) -> FedFRClient:
        """Of the same first weights each time."""
        pl.seed_everything(self.cfg.seed, workers=True, verbose=False)
        return FedFRClient(num_local, num_public, weights, **(self.cfg.model.as_dict() | options))

    def client(self, name: str, method: Method, threshold: float) -> Client:
        """A client that starts from the server's network and proxies."""
        data = self.clients[name]
        module = self.module(data.num_local, data.num_public if method.public else 0, method.weights, branch=method.branch)
        module.network.load_state_dict(self.server.network.state_dict())
        if method.public:
            module.public_proxies.data.copy_(self.server.local_proxies.data)
        return Client(name, module, data, [HardNegativeSampling(threshold if method.public else None)])

    def generic(self, module: FedFRClient) -> dict[str, float]:
        """Scores on people that nobody trained on."""
        return generic_scores(module, self.unseen, **self.rates)

    def personal(self, modules: dict[str, FedFRClient]) -> dict[str, float]:
        """Means over the clients of the scores on their own people."""
        found = [personal_scores(module, name, self.clients, **self.rates) for name, module in modules.items()]
        return {score: mean(one[score] for one in found) for score in found[0]}

    def federate(self, row: str, method: Method, threshold: float) -> dict[str, Any]:
        """One federation: the server's generic scores, the clients' personal ones with each of three models, and what it cost."""
        strategy = FedFace() if row == FEDFACE else FedFR() if method.public else FedAvg()
        members = [self.client(name, method, threshold) for name in self.clients]
        federation = self.run.federation(row, strategy, members)
        state = federation.fit(self.run.rounds)
        server = self.module(1, 0, method.weights)
        server.network.load_state_dict(
            {name.removeprefix("network."): t for name, t in state.tensors.items() if name.startswith("network.")}
        )
        modules = {one.id: one.module for one in members if isinstance(one.module, FedFRClient)}
        personal = {SERVER: self.personal(dict.fromkeys(modules, server)), OWN: self.personal(modules)}
        if method.weights[2] > 0:
            for module in modules.values():
                module.personal_embeddings = True
            personal[TRANSFORMED] = self.personal(modules)
        sampling = [callback for one in members for callback in one.callbacks if isinstance(callback, HardNegativeSampling)]
        share = mean(one.share for one in sampling) if method.public else 0.0  # of the last round: adapting samples once more
        if row == CONTRASTIVE:
            personal |= {name: self.personal(self.adapted(members, state, weight)) for name, weight in ADAPTATIONS.items()}
        return {
            "generic": self.generic(server),
            "personal": personal,
            "steps": sum(sum(one.steps.values()) for one in federation.rounds),
            "public share": share,
            "payload_bytes": max(size for one in federation.rounds for size in one.report.bytes_up.values()),
        }

    def adapted(self, members: Sequence[Client], state: ServerState, distillation: float) -> dict[str, FedFRClient]:
        """Each client's network after training on its own from the server's model, with its local and sampled public images."""
        found = {}
        for member in members:
            module = copy.deepcopy(member.module)
            assert isinstance(module, FedFRClient)
            module.load_state_dict(module.state_dict() | state.tensors)
            module.hparams["weights_of_losses"], module.hparams["distillation"] = (1.0, 0.0, 0.0), distillation
            pl.seed_everything(self.cfg.seed, workers=True, verbose=False)
            alone = Client(member.id, module, member.data, member.callbacks)
            local_trainer(alone, self.cfg.tuning_epochs, self.cfg.accelerator, self.output).fit(module, member.data)
            found[member.id] = module
        return found


def print_rows(found: dict[str, dict[str, Any]], title: str) -> None:
    """Table 7.1: generic scores of the server, personal ones of the clients' best model, and what was trained and sent."""
    generic, personal = (list(scores) for scores in (found[PRETRAINED]["generic"], found[PRETRAINED]["personal"][SERVER]))
    table = Table(
        title=title,
        caption="per cent; generic: people nobody trained on; personal: a client's own people, mean over the clients; TAR and TPIR count"
        " pairs of one camera, mAP and R1 do not",
    )
    for heading in ("method", *(f"generic {name}" for name in generic), *(f"personal {name}" for name in personal), "steps", "MB"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row, one in found.items():
        best = one["personal"].get(TRANSFORMED, one["personal"].get(OWN, one["personal"][SERVER]))
        scores = [f"{100 * value:.1f}" for value in (*one["generic"].values(), *best.values())]
        table.add_row(row, *scores, f"{one['steps']:,}", f"{one['payload_bytes'] / 1e6:.2f}")
    Console(width=max(Console().width, 160)).print(table)


def draw_sweep(path: Path, rows: dict[float, dict[str, Any]]) -> None:
    """Fig. 7.3: generic scores and training steps by the threshold of hard negatives."""
    thresholds = sorted(rows)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(thresholds, [100 * rows[t]["generic"]["mAP"] for t in thresholds], marker="o", label="generic mAP, %")
    steps = axes.twinx()
    steps.plot(thresholds, [rows[t]["steps"] for t in thresholds], marker="s", color="tab:orange", label="training steps")
    axes.set_xlabel("t_HN, cosine")
    axes.set_ylabel("generic mAP, %")
    steps.set_ylabel("training steps of all clients")
    steps.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))


def print_adaptations(found: dict[str, dict[str, Any]]) -> None:
    """Table 7.2: ways to a personal model."""
    rows = {name: found[CONTRASTIVE]["personal"][name] for name in ADAPTATIONS}
    rows |= {"CosFace branch": found[COSFACE]["personal"][TRANSFORMED], "one-vs-all branch": found[FEDFR]["personal"][TRANSFORMED]}
    print_models(rows, "Table 7.2: personal scores by the way to a personal model")


def print_models(personal: dict[str, dict[str, float]], title: str) -> None:
    """Personal scores, a row a model."""
    table = Table(title=title)
    for heading in ("model", *next(iter(personal.values()))):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, scores in personal.items():
        table.add_row(model, *(f"{100 * value:.1f}" for value in scores.values()))
    Console(width=max(Console().width, 100)).print(table)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    cfg = parse(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    began = time.monotonic()
    with RunFolder(cfg, ignored=("rows", "ablation", "sweep")) as folder:
        experiment = Experiment(cfg, folder)
        experiment.dealt.print()
        experiment.dealt.save(experiment.output / "clients.json")
        before = experiment.personal(dict.fromkeys(experiment.clients, experiment.server))
        found: dict[str, dict[str, Any]] = {
            PRETRAINED: {"generic": experiment.generic(experiment.server), "personal": {SERVER: before}, "steps": 0, "payload_bytes": 0}
        }
        rows = [*METHODS] if cfg.ablation else cfg.rows
        found |= {row: experiment.federate(row, METHODS[row], cfg.threshold) for row in rows}
        if cfg.sweep:
            others = {t: experiment.federate(f"FedFR-{t:g}", METHODS[FEDFR], t) for t in THRESHOLDS if t != cfg.threshold}
            draw_sweep(experiment.output / "sweep.png", {cfg.threshold: found[FEDFR]} | others)
            found |= {f"FedFR, t_HN={t:g}": row for t, row in others.items()}
        write_json(experiment.output / "results.json", {"rows": found, "seconds": time.monotonic() - began})
        print_rows(found, f"{len(experiment.clients)} clients, {cfg.rounds} rounds of {cfg.epochs} epochs")
        if FEDFR in found:
            print_models(found[FEDFR]["personal"], "Table 7.3: FedFR, personal scores by the model that is asked")
        if cfg.ablation:
            print_adaptations(found)
        return found


if __name__ == "__main__":
    main()
