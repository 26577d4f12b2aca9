"""Devices of cameras in a real deployment of Flower on 127.0.0.1, each in processes of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from deployment import Deployment, deployed
from safetensors.torch import load_file, save_file
from small_devices import TINY, run_of, small_devices, small_start, training

from lightning_reid.federated.random_walk import walk_order
from lightning_reid.federated.traffic import Bytes, Crossing, expected_at_hub, expected_traffic
from lightning_reid.federation.client import Client
from lightning_reid.federation.edge import EdgeTraining
from lightning_reid.federation.edge_device import WALK, digest

APP = Path(__file__).parents[2] / "recipes" / "flower_edge"
CAMERAS = {"camera1": 1, "camera2": 2}
EDGE = {"visits": 1, "incremental_visits": 1, "alpha": 0, "seed": 0}
DATA = {"image_size": [32, 16], "batch_size": 8, "num_workers": 0}
SLOW_VISITS = """
import time
from pytorch_lightning import Callback

class Slow(Callback):
    def __init__(self, told):
        self.told = told

    def on_train_batch_end(self, *args):
        self.told.touch()
        time.sleep(1000.0)

fast_device = edge_device

def edge_device(context):
    device = fast_device(context)
    if "slow" in context.node_config:
        fast_client = device.client

        def slow_client(walk):
            member = fast_client(walk)
            member.callbacks = [*member.callbacks, Slow(device.folder / "in-its-visit")]
            return member

        device.client = slow_client
    return device

client = edge_client_app(edge_device)
"""


class BreaksOnce(pl.Callback):
    """Costs a device the visit of its first fit."""

    def __init__(self) -> None:
        self.done = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.done:
            self.done = True
            next(p for p in pl_module.parameters() if p.requires_grad).data.fill_(torch.nan)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path, APP, SLOW_VISITS) as running:
        yield running


def where_a_visit_is_lost(name: str, start: dict[str, torch.Tensor], folder: Path) -> EdgeTraining:
    """The run in one process, of which this device's first visit comes to nothing."""
    done = training(small_devices(len(CAMERAS)), start, folder, **EDGE)
    device, whole = done.hub.devices[name], done.hub.devices[name].client

    def client(walk: str) -> Client:
        member = whole(walk)
        member.callbacks = [*member.callbacks, *([BreaksOnce()] if walk == WALK else [])]
        return member

    device.client = client
    return done


@pytest.mark.slow
def test_a_killed_device_is_owed_its_visit_and_all_end_as_in_one_process_and_tell_no_byte_more(deployment, tmp_path):
    start, dies = small_start(), walk_order([*CAMERAS], visits=1, seed=0)[-1]
    trunk, weights, dataset = "network.backbone.trunk.", tmp_path / "start.safetensors", "generated-people,people=8,cameras=2"
    save_file({name.removeprefix(trunk): tensor for name, tensor in start.items() if name.startswith(trunk)}, weights)
    deployment.superlink()
    for name, camid in CAMERAS.items():
        deployment.supernode(name, dataset, f"camera={camid}" + " slow=1" * (name == dies))
    deployment.run(clients=",".join(CAMERAS), weights=str(weights), edge=EDGE, data=DATA, model=TINY)
    here = where_a_visit_is_lost(dies, start, tmp_path / "here")  # while they are at it
    expected = here.run()
    deployment.wait_for("the visit", tmp_path / "states" / dies / "edge" / dies / "in-its-visit", seconds=600.0)
    deployment.kill(dies)
    deployment.supernode(dies, dataset, f"camera={CAMERAS[dies]}")
    server = tmp_path / "server" / "edge"
    deployment.wait_for("the run", server / "results.json", seconds=600.0)

    reports = [one["report"] for one in json.loads((server / "walk" / "rounds.json").read_text())["rounds"]]
    assert [one["used"] for one in reports] == [*([name] for name in walk_order([*CAMERAS], visits=1, seed=0)[:-1]), [], [dies]]
    assert reports[1]["left_out"][dies].endswith("; it is visited at the end of the lap")
    told, ended = json.loads((server / "results.json").read_text()), load_file(server / "model.safetensors")
    assert ended.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ended[name], tensor, rtol=0, atol=1e-6, msg=name)
    models = {(tmp_path / "states" / name / "edge" / name / "model.safetensors").read_bytes() for name in CAMERAS}
    assert len(models) == 1
    assert told["digest"] == digest(ended)

    labels = here.labels(training(small_devices(len(CAMERAS)), start, tmp_path / "here", resume=True, **EDGE).memories(expected))
    assert told["graphs"][0]["labels"] == {name: of.tolist() for name, of in labels.items()}
    run = run_of(here, labels)
    lost = Crossing("model, stage 2", dies, "down")
    crossed = Counter({Crossing(one["kind"], one["device"], one["direction"]): one["bytes"] for one in told["bytes"]})
    assert crossed == here.ledger.hub
    assert crossed == Counter(expected_at_hub(run)) + Counter({lost: run.model_bytes})
    totals = {kind: Bytes(**size) for kind, size in told["totals"].items()}
    assert totals == here.ledger.totals()
    for kind, size in expected_traffic(run).items():
        more = run.model_bytes * (kind == lost.kind)
        assert totals[kind] == Bytes(size.direct + more, size.hub + more)
