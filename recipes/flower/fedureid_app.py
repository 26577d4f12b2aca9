"""FedUReID over Flower: ``flwr run recipes/flower`` sends this file to the server and to every client.

docs/paradigms/fedureid.md says how to set them up.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.federation import LocalTraining, Personalization, fedureid_client
from lightning_reid.federation.flower import FlowerFederation, client_app
from lightning_reid.files import write_json
from lightning_reid.modules import BottomUpReID
from lightning_reid.recipes.workshop.round_scores import told_with_unmatched
from lightning_reid.recipes.workshop.tables import per_cent, print_table

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
Config = dict[str, Any]


def personalization(cfg: Config) -> Personalization:
    """Which of the personal optimizations a run has on, by its configuration."""
    switches = {name: bool(cfg[f"personal-{name}"]) for name in ("clustering", "epoch", "update")}
    return Personalization(**switches, precision=float(cfg["precision"]), local_share=float(cfg["local-share"]))


def local_training(context: Context) -> LocalTraining:
    """The client that a node's configuration names, on its own images."""
    cfg: Config = dict(context.run_config)
    node: Config = dict(context.node_config)
    missing = [name for name in ("client", "dataset", "state") if name not in node]
    if missing:
        raise ValueError(
            f"""this SuperNode's --node-config lacks {", ".join(missing)}: e.g. 'client="a" dataset="market1501" state="/var/reid"'"""
        )
    root = str(node["root"]) if "root" in node else None
    data = UnlabeledDataModule(str(node["dataset"]), root=root, seed=cfg["seed"], **json.loads(cfg["data"]))
    data.setup()
    personal = personalization(cfg)
    options: Config = {name: json.loads(cfg[name]) for name in ("clustering", "model")}
    member = fedureid_client(str(node["client"]), data, personal, rounds=cfg["rounds"], seed=cfg["seed"], **options)
    file = Path(str(node["state"])) / str(cfg["run"]) / f"{member.id}.ckpt"
    return LocalTraining(member, personal.strategy(), file, cfg["accelerator"])


client = client_app(local_training)
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds, then every client's scores with its personal model."""
    cfg: Config = dict(context.run_config)
    clients = [name.strip() for name in str(cfg["clients"]).split(",") if name.strip()]
    if not clients:
        raise ValueError("""no clients: name them, e.g. --run-config 'clients="a,b,c"'""")
    torch.manual_seed(int(cfg["seed"]))
    module = BottomUpReID(**json.loads(cfg["model"]))
    strategy = personalization(cfg).strategy(float(cfg["quorum"]))
    output = Path(cfg["output"]) / str(cfg["run"])
    federation = FlowerFederation(
        grid,
        strategy,
        module.state_dict(),
        clients,
        output,
        deadline=float(cfg["deadline"]) or None,
        **{name: cfg[name] for name in ("epochs", "patience", "grace", "resume", "seed")},
    )
    federation.fit(int(cfg["rounds"]))
    scores = federation.test_clients()
    write_json(output / "results.json", {"scores": scores})
    title = f"FedUReID over Flower, {len(clients)} clients, {cfg['rounds']} rounds"
    cells = [[name, *(per_cent(one[score]) for score in ("R1", "mAP"))] for name, one in scores.items()]
    caption = told_with_unmatched("per cent of each client's personal model", scores)
    print_table(title, ("client", "R1", "mAP"), cells, caption=caption)
