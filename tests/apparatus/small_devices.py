"""Three devices of cameras that are small enough to learn in seconds, and the run that is expected of them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.federated.traffic import EdgeRun
from lightning_reid.federation.edge import EdgeTraining
from lightning_reid.federation.edge_device import EdgeDevice
from lightning_reid.federation.edge_hub import DevicesHere
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.modules import TrackletReID
from lightning_reid.records import ReIDDataset

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


def small_devices(cameras: int = 3) -> dict[str, DeviceDataModule]:
    """By id, one of each camera."""
    whole = ImageReIDDataModule(f"generated-people,people=8,cameras={cameras}", p=4, val_identities=0)
    whole.setup()
    found = {}
    for camid in range(1, cameras + 1):
        records = tuple(record for record in whole.dataset.train if record.camid == camid)
        data = DeviceDataModule(f"camera{camid}", batch_size=8, image_size=(32, 16), num_workers=0)
        data.serve(ReIDDataset(f"camera{camid}", records, whole.dataset.query, whole.dataset.gallery))
        found[f"camera{camid}"] = data
    return found


def small_start() -> dict[str, torch.Tensor]:
    """Tensors of the network that all begin with."""
    torch.manual_seed(0)
    return {name: tensor for name, tensor in TrackletReID(**TINY).state_dict().items() if name.startswith("network.")}


def make(**arguments) -> TrackletReID:
    torch.manual_seed(1)
    return TrackletReID(**TINY, **arguments)


def training(devices, start, folder: Path, *, resume: bool = False, **options) -> EdgeTraining:
    told = EdgeOptions(**({"visits": 1, "incremental_visits": 1, "seed": 3} | options))
    members = [EdgeDevice(name, data, make, start, told, folder / "devices" / name, "cpu") for name, data in devices.items()]
    return EdgeTraining(DevicesHere(members), make, start, told, folder / "server", resume=resume, quiet=True)


def run_of(done: EdgeTraining, labels: dict[str, torch.Tensor], **more) -> EdgeRun:
    """Which run it was, of which the formulas tell the traffic."""
    options = done.options
    middle = sum(tensor.numel() * tensor.element_size() for name, tensor in done.start.items() if name.startswith(done.middle))
    told = {"labels": int(torch.cat([*labels.values()]).max()) + 1, "width": 16, "memory_bytes": 2 if options.half else 4} | more
    first = json.loads((done.output / "incremental-0" / "rounds.json").read_text())["rounds"][0]["report"]["used"][0]
    return EdgeRun(
        middle,
        {name: facts.num_tracklets for name, facts in done.hub.facts.items()},
        walking=[name for name, facts in done.hub.facts.items() if facts.walks],
        learning=[name for name, facts in done.hub.facts.items() if facts.learns],
        visits=options.visits,
        incremental_visits=options.incremental_visits,
        starts_at_hub=first == "camera1",
        **told,
    )
