"""Devices of cameras in a real deployment of Flower on 127.0.0.1, each in processes of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from deployment import Deployment, deployed
from safetensors.torch import load_file, save_file
from small_devices import TINY, run_of, small_devices, small_start, training

from lightning_reid.federated.random_walk import walk_order
from lightning_reid.federated.traffic import Bytes, Crossing, expected_at_hub, expected_traffic
from lightning_reid.federation.edge_device import digest

APP = Path(__file__).parents[2] / "recipes" / "flower_edge"
CAMERAS = {"camera1": 1, "camera2": 2, "camera3": 3}
EDGE = {"visits": 1, "incremental_visits": 1, "seed": 0}
DATA = {"image_size": [32, 16], "batch_size": 8, "num_workers": 0}


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path, APP) as running:
        yield running


def set_up(deployment: Deployment, start: dict[str, torch.Tensor]) -> dict[str, object]:
    """Nodes of three cameras; the configuration of their run."""
    trunk = "network.backbone.trunk."
    weights = deployment.folder / "start.safetensors"
    save_file({name.removeprefix(trunk): tensor for name, tensor in start.items() if name.startswith(trunk)}, weights)
    deployment.superlink()
    for name, camid in CAMERAS.items():
        deployment.supernode(name, "generated-people,people=8,cameras=3", f"camera={camid}")
    return {"clients": ",".join(CAMERAS), "weights": str(weights), "edge": EDGE, "data": DATA, "model": TINY}


@pytest.mark.slow
def test_devices_of_a_deployment_end_as_devices_of_one_process_and_tell_no_byte_more(deployment, tmp_path):
    start = small_start()
    deployment.run(**set_up(deployment, start))
    here = training(small_devices(), start, tmp_path / "here", **EDGE)  # while they are at it
    expected = here.run()
    server = tmp_path / "server" / "edge"
    deployment.wait_for("the run", server / "results.json")
    told = json.loads((server / "results.json").read_text())
    weights = load_file(server / "model.safetensors")
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-6, msg=name)
    models = {(tmp_path / "states" / name / "edge" / name / "model.safetensors").read_bytes() for name in CAMERAS}
    assert len(models) == 1
    assert told["digest"] == digest(weights)
    crossed = {Crossing(one["kind"], one["device"], one["direction"]): one["bytes"] for one in told["bytes"]}
    run = run_of(here, here.labels(here.memories(expected)))
    assert crossed == expected_at_hub(run)
