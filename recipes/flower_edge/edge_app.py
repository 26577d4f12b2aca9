"""Unsupervised re-ID on the devices of several cameras, over Flower: ``flwr run recipes/flower_edge`` sends this file to all of them.

docs/paradigms/edge_devices.md says how to set them up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from torch import Tensor

from lightning_reid.clustering import contradictions
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.datamodules.device_images import of_camera
from lightning_reid.federated.traffic import Ledger
from lightning_reid.federation.edge import EdgeTraining, rows_of
from lightning_reid.federation.edge_device import EdgeDevice, digest, edge_module, write_tensors
from lightning_reid.federation.edge_flower import edge_client_app
from lightning_reid.federation.edge_flower_hub import DevicesOverFlower
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.files import write_json
from lightning_reid.modules import TrackletReID
from lightning_reid.recipes.workshop.tables import print_table

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
Config = dict[str, Any]
SAID_ELSEWHERE = {
    **dict.fromkeys(("lr", "walking_lr_factor", "statistics", "classifier_init", "negatives", "update_all"), "in edge"),
    **{"num_labels": "by the graph", "weights": "in weights"},
}


def module_of(cfg: Config, weights: object) -> tuple[Callable[..., TrackletReID], dict[str, Tensor]]:
    """A module by its arguments, and the tensors of the network that all devices begin with."""
    model: Config = json.loads(cfg["model"])
    for name in SAID_ELSEWHERE.keys() & model.keys():
        raise ValueError(f"{name} is said {SAID_ELSEWHERE[name]}, take it out of model")
    if not weights and not model.get("pretrained"):
        raise ValueError(
            """a walk that starts from random weights learns nothing: give weights, e.g. --run-config 'weights="start.ckpt"'"""
        )
    first = TrackletReID(**model, weights=str(weights) if weights else None).state_dict()
    start = {name: tensor for name, tensor in first.items() if name.startswith("network.")}
    return lambda **arguments: TrackletReID(**(model | {"pretrained": False}), **arguments), start


def edge_device(context: Context) -> EdgeDevice:
    """The device that a node's configuration names, on its own images."""
    cfg: Config = dict(context.run_config)
    node: Config = dict(context.node_config)
    missing = [name for name in ("client", "dataset", "state") if name not in node]
    if missing:
        raise ValueError(
            f"""this SuperNode's --node-config lacks {", ".join(missing)}: e.g. 'client="yard" dataset="/data/yard" state="/var/reid"'"""
        )
    options, name = EdgeOptions(**json.loads(cfg["edge"])), str(node["client"])
    make, start = module_of(cfg, node.get("weights", cfg["weights"]))
    root = str(node["root"]) if "root" in node else None
    data = DeviceDataModule(str(node["dataset"]), root=root, seed=options.seed, needs_test=False, **json.loads(cfg["data"]))
    data.prepare_data()
    data.serve(of_camera(data.read(), node.get("camera")))
    return EdgeDevice(name, data, make, start, options, Path(str(node["state"])) / str(cfg["run"]) / name, cfg["accelerator"])


client = edge_client_app(edge_device)
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """The walk, the graph of memories, and the walk by its labels; every device ends with the same network."""
    cfg: Config = dict(context.run_config)
    devices = [name.strip() for name in str(cfg["clients"]).split(",") if name.strip()]
    options = EdgeOptions(**json.loads(cfg["edge"]))
    options.check_cameras(len(devices))
    if options.statistics == "local":
        raise ValueError("statistics='local' is of recipes/edge.py: over Flower every device ends with the same network")
    make, start = module_of(cfg, cfg["weights"])
    times: Config = {"patience": float(cfg["patience"]), "grace": float(cfg["grace"]), "deadline": float(cfg["deadline"]) or None}
    hub = DevicesOverFlower(grid, devices, edge_module(make, start, options), half=options.half, **times)
    output = Path(cfg["output"]) / str(cfg["run"])
    training = EdgeTraining(hub, make, start, options, output, resume=cfg["resume"], quiet=True)
    weights, graphs = training.walk(), []
    for cycle in range(options.cycles):
        banks = training.memories(weights, cycle)
        labels = training.labels(banks, cycle)
        weights = training.learn_labels(weights, banks, labels, cycle)
        graphs.append(graph_of(labels, rows_of(banks)[1]))
    weights = training.unified(weights)
    write_tensors(output / "model.safetensors", weights)
    totals = {kind: size._asdict() for kind, size in training.ledger.totals().items()}
    write_json(output / "results.json", {"graphs": graphs, "bytes": crossed(training.ledger), "totals": totals, "digest": digest(weights)})
    tell(options, graphs, training.ledger)


def graph_of(labels: Mapping[str, Tensor], cameras: Tensor) -> Config:
    """What a graph came to."""
    told = {name: of.tolist() for name, of in labels.items()}
    number = len({label for of in told.values() for label in of})
    rows = cameras.new_tensor([label for of in told.values() for label in of])
    return {"labels": told, "number": number, "contradictions": contradictions(rows, cameras)}


def crossed(ledger: Ledger) -> list[Config]:
    """Bytes by kind, device and direction."""
    return [{**one._asdict(), "bytes": size} for one, size in sorted(ledger.hub.items())]


def tell(options: EdgeOptions, graphs: list[Config], ledger: Ledger) -> None:
    """Print the options that are not the text's, the graphs, and the bytes."""
    from lightning_reid.recipes.workshop.edge_pictures import print_options  # which draws, too: devices start without it

    print_options(options, "none")
    rows = [[str(cycle), str(one["number"]), str(one["contradictions"])] for cycle, one in enumerate(graphs, 1)]
    print_table(f"labels across cameras, by {options.method}", ("cycle", "labels", "contradictions"), rows)
    print_table("bytes that crossed", ("kind", "bytes"), [[kind, f"{size.hub:,}"] for kind, size in ledger.totals().items()])
