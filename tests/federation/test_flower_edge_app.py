"""The Flower app of devices of cameras: which device a node is, and configurations that are refused."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from flwr.app import Context, RecordDict
from safetensors.torch import save_file
from small_devices import TINY, small_devices, small_start

from lightning_reid.datamodules.device_images import of_camera
from lightning_reid.federation.edge_device import digest
from lightning_reid.records import ImageRecord, ReIDDataset

APP = Path(__file__).parents[2] / "recipes" / "flower_edge" / "edge_app.py"
TRUNK = "network.backbone.trunk."


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edge_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def context(tmp_path) -> Context:
    """Of the second camera's node."""
    weights = tmp_path / "start.safetensors"
    save_file({name.removeprefix(TRUNK): tensor for name, tensor in small_start().items() if name.startswith(TRUNK)}, weights)
    data = {"image_size": [32, 16], "batch_size": 8, "num_workers": 0}
    run = {"run": "edge", "weights": str(weights), "edge": '{"seed": 0}', "data": json.dumps(data), "model": json.dumps(TINY)}
    node = {"client": "yard", "dataset": "generated-people,people=8,cameras=3", "camera": 2, "state": str(tmp_path / "state")}
    return Context(1, 1, node, RecordDict(), run | {"accelerator": "cpu"})


def test_a_node_is_the_device_of_its_camera(app, context, tmp_path):
    device, expected = app.edge_device(context), small_devices()["camera2"]
    assert (device.id, device.folder) == ("yard", tmp_path / "state" / "edge" / "yard")
    assert device.data.target_records == expected.target_records
    assert device.facts.num_tracklets == expected.num_tracklets == 8
    assert digest(device.start) == digest(small_start())


def test_a_node_may_have_the_weights_in_a_place_of_its_own(app, context, tmp_path):
    own = (tmp_path / "start.safetensors").rename(tmp_path / "mine.safetensors")
    context.node_config["weights"] = str(own)
    assert digest(app.edge_device(context).start) == digest(small_start())


@pytest.mark.parametrize(
    ("where", "changes", "reason"),
    [
        ("node", {"camera": 7}, "has no training images of camera 7: those that it has are of cameras [1, 2, 3]"),
        ("node", {"camera": "2"}, "has no training images of camera '2': those that it has are of cameras [1, 2, 3]"),
        ("node", {"camera": None}, "holds images of cameras [1, 2, 3]: a device has one"),
        ("node", {"state": None}, "this SuperNode's --node-config lacks state"),
        ("run", {"weights": ""}, "a walk that starts from random weights learns nothing"),
        ("run", {"model": '{"lr": 0.1}'}, "lr is said in edge, take it out of model"),
        ("run", {"model": '{"num_labels": 5}'}, "num_labels is said by the graph, take it out of model"),
        ("run", {"edge": '{"visits": 0}'}, "visits must be"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_configuration_that_cannot_be_is_refused(app, context, where, changes, reason):
    config = context.node_config if where == "node" else context.run_config
    for name, value in changes.items():
        del config[name]
        if value is not None:
            config[name] = value
    with pytest.raises(ValueError, match=re.escape(reason)):
        app.edge_device(context)


def test_a_run_that_no_device_could_end_is_refused(app, context):
    context.run_config |= {"clients": "yard, gate, hall", "edge": '{"statistics": "local"}'}
    with pytest.raises(ValueError, match="over Flower every device ends with the same network"):
        app.server(None, context)


def test_images_that_are_of_no_tracklet_are_not_taken_for_one():
    records = tuple(ImageRecord(f"{k}.jpg", pid, 1) for k, pid in enumerate((3, 0, 5, -1)))
    assert [one.pid for one in of_camera(ReIDDataset("yard", records)).train] == [3, 5]
    unlabeled = ReIDDataset("yard", records[1::2])
    with pytest.raises(ValueError, match="none of the 2 training images of yard says of which tracklet it is"):
        of_camera(unlabeled)
