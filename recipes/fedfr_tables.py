"""Tables 7.1 to 7.3 of the thesis and its Fig. 7.3, for ``fedfr.py``: their rows, and how they are printed and drawn."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
from jsonargparse import Namespace
from matplotlib.figure import Figure

from lightning_reid.federated.strategies import ServerState
from lightning_reid.federation import Client
from lightning_reid.federation.local_training import local_trainer
from lightning_reid.files import write_atomically
from lightning_reid.modules import FedFRClient
from lightning_reid.recipes.workshop.tables import per_cent, print_table


class Method(NamedTuple):
    """A row of Table 7.1 or 7.2: what is used of the public data, the weights of the three losses, and the loss of the branch."""

    public: bool = True
    contrastive: float = 0.0
    branch_weight: float = 0.0
    branch: Literal["one-vs-all", "cosface"] = "one-vs-all"

    def weights(self) -> dict[str, float]:
        """The weights of the three losses, as ``FedFRClient`` names them."""
        return {"cosface_weight": 1.0, "contrastive_weight": self.contrastive, "branch_weight": self.branch_weight}


RowName = Literal["FedAvg", "FedFace", "hard negatives", "and contrastive", "FedFR, CosFace branch", "FedFR"]
PRETRAINED, FEDAVG, FEDFACE, FEDFR = "pre-trained", "FedAvg", "FedFace", "FedFR"
CONTRASTIVE, COSFACE = "and contrastive", "FedFR, CosFace branch"
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        FEDAVG: Method(public=False),
        FEDFACE: Method(public=False),
        "hard negatives": Method(),
        CONTRASTIVE: Method(contrastive=5.0),
        COSFACE: Method(contrastive=5.0, branch_weight=1.0, branch="cosface"),
        FEDFR: Method(contrastive=5.0, branch_weight=10.0),
    }
)
ADAPTATIONS: Mapping[str, float] = MappingProxyType({"fine-tuning": 0.0, "distillation": 1.0})
"""Of Table 7.2: weight of the global model's logits in each client's own training after the last round."""
SERVER, OWN, TRANSFORMED = "server's", "client's", "client's, transformed"
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Of Fig. 7.3."""

Found = Mapping[str, Mapping[str, Any]]
"""Rows by their names, as ``results.json`` has them."""


def adapted(members: Sequence[Client], state: ServerState, distillation: float, cfg: Namespace) -> dict[str, FedFRClient]:
    """Each client's network after training on its own from the server's model, with its local and sampled public images."""
    found = {}
    for member in members:
        module = copy.deepcopy(member.module)
        assert isinstance(module, FedFRClient)
        module.load_state_dict(module.state_dict() | state.tensors)
        module.adapt_alone(distillation)
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        alone = Client(member.id, module, member.data, member.callbacks)
        local_trainer(alone, cfg.tuning_epochs, cfg.accelerator, Path(cfg.output)).fit(module, member.data)
        found[member.id] = module
    return found


def print_rows(found: Found, title: str) -> None:
    """Table 7.1: generic scores of the server, personal ones of the clients' best model, and what was trained and sent."""
    generic, personal = (list(scores) for scores in (found[PRETRAINED]["generic"], found[PRETRAINED]["personal"][SERVER]))
    headings = ("method", *(f"generic {name}" for name in generic), *(f"personal {name}" for name in personal), "steps", "MB")
    cells = []
    for row, one in found.items():
        best = one["personal"].get(TRANSFORMED, one["personal"].get(OWN, one["personal"][SERVER]))
        scores = (*one["generic"].values(), *best.values())
        cells.append([row, *map(per_cent, scores), f"{one['steps']:,}", f"{one['payload_bytes'] / 1e6:.2f}"])
    caption = (
        "per cent; generic: people nobody trained on; personal: a client's own people, mean over the clients; TAR and TPIR count"
        " pairs of one camera, mAP and R1 do not"
    )
    print_table(title, headings, cells, caption=caption)


def print_adaptations(found: Found) -> None:
    """Table 7.2: ways to a personal model."""
    rows = {name: found[CONTRASTIVE]["personal"][name] for name in ADAPTATIONS}
    rows |= {"CosFace branch": found[COSFACE]["personal"][TRANSFORMED], "one-vs-all branch": found[FEDFR]["personal"][TRANSFORMED]}
    print_models(rows, "Table 7.2: personal scores by the way to a personal model")


def print_models(personal: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Personal scores, a row a model."""
    cells = [[model, *map(per_cent, scores.values())] for model, scores in personal.items()]
    print_table(title, ("model", *next(iter(personal.values()))), cells)


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
