"""Devices that learn together in one process: every stage, its bytes, and a run that was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.federated.traffic import EdgeRun, expected_traffic
from lightning_reid.federation.edge import EdgeOptions, EdgeTraining, graph_report
from lightning_reid.modules import TrackletReID
from lightning_reid.networks.walking_statistics import averaged_statistics, measured_statistics
from lightning_reid.records import ReIDDataset

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


@pytest.fixture(scope="module")
def devices() -> dict[str, DeviceDataModule]:
    whole = ImageReIDDataModule("generated-people,people=8,cameras=3", p=4, val_identities=0)
    whole.setup()
    found = {}
    for camid in (1, 2, 3):
        records = tuple(record for record in whole.dataset.train if record.camid == camid)
        data = DeviceDataModule(f"camera{camid}", batch_size=8, image_size=(32, 16), num_workers=0)
        data.serve(ReIDDataset(f"camera{camid}", records, whole.dataset.query, whole.dataset.gallery))
        found[f"camera{camid}"] = data
    return found


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor for name, tensor in TrackletReID(**TINY).state_dict().items() if name.startswith("network.")}


def training(devices, start, folder: Path, *, resume: bool = False, **options) -> EdgeTraining:
    told = EdgeOptions(**({"visits": 1, "incremental_visits": 1, "seed": 3} | options))

    def make(**arguments) -> TrackletReID:
        torch.manual_seed(1)
        return TrackletReID(**TINY, **arguments)

    return EdgeTraining(devices, make, start, told, folder, accelerator="cpu", resume=resume, quiet=True)


def test_all_stages_cross_as_many_bytes_as_the_formulas_say_and_a_stopped_run_goes_on(devices, start, tmp_path):
    whole = training(devices, start, tmp_path / "whole")
    weights = whole.run()
    crossed = dict(whole.bytes)
    labels = whole.labels(whole.memories(weights))
    module = TrackletReID(**TINY)
    middle = sum(tensor.numel() * tensor.element_size() for name, tensor in start.items() if name.startswith(module.walking_prefixes))
    run = EdgeRun(
        middle,
        {name: data.num_tracklets for name, data in devices.items()},
        walking=3,
        visits=1,
        incremental_visits=1,
        labels=int(torch.cat([*labels.values()]).max()) + 1,
        width=16,
    )
    expected = expected_traffic(run)
    assert crossed == {kind: size for kind, size in expected.items() if size.hub}
    fronts = [name for name in start if not name.startswith(module.walking_prefixes)]
    assert fronts
    assert all(torch.equal(weights[name], start[name]) for name in fronts)
    assert any(not torch.equal(weights[name], start[name]) for name in start)
    stopped = training(devices, start, tmp_path / "stopped")
    stopped.memories(stopped.walk())
    again = training(devices, start, tmp_path / "stopped", resume=True).run()
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_options_of_the_text_and_of_ours_run(devices, start, tmp_path):
    options = {"memory": "sum", "centered": False, "half": True, "method": "one_per_camera", "alpha": 0, "unify": "average"}
    done = training(devices, start, tmp_path, statistics="averaged", classifier_init="random", negatives="held", **options)
    weights = done.run()
    assert set(weights) == set(start)
    memories = done.memories(weights)
    assert {bank.dtype for bank in memories.values()} == {torch.float16}
    report = done.report(memories, done.labels(memories))
    assert report.contradictions == 0
    assert report.people == 8
    assert 0 <= report.f_score <= 1
    local = done.device_statistics(weights)
    assert set(local) == set(devices)
    means = [one["network.backbone.trunk.layer4.0.bn1.running_mean"] for one in local.values()]
    assert not torch.equal(means[0], means[1])


def test_pairs_are_counted_as_one_by_one():
    labels, pids, camids = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([5, 5, 5, 6, 7]), torch.tensor([1, 2, 3, 1, 2])
    report = graph_report(torch.eye(5), camids, labels, pids)
    assert (report.labels, report.isolated, report.contradictions, report.people) == (3, 1, 0, 3)
    assert (report.precision, report.recall) == (1 / 2, 1 / 3)


def test_statistics_are_those_of_all_images_and_the_network_stays():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)).eval()
    images = 3 + 2 * torch.randn(10, 3, 4, 4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = measured_statistics(network, images.split(4), ("0.",))
    torch.testing.assert_close(found["0.running_mean"], images.mean((0, 2, 3)))
    torch.testing.assert_close(found["0.running_var"], images.var((0, 2, 3), unbiased=False))
    assert set(found) == {"0.running_mean", "0.running_var"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    two = averaged_statistics([({"a": torch.tensor(1.0)}, 10), ({"a": torch.tensor(4.0)}, 20)])
    assert two["a"] == 3
    with pytest.raises(ValueError, match="no batch normalization has a name"):
        measured_statistics(network, [images], ("7.",))
    with pytest.raises(ValueError, match="no images"):
        measured_statistics(network, [], ("0.",))


def test_what_cannot_be_walked_is_refused(devices, start, tmp_path):
    with pytest.raises(ValueError, match="two cameras or more, got 1"):
        training({"camera1": devices["camera1"]}, start, tmp_path)
    with pytest.raises(ValueError, match="weights to start from are of another network"):
        training(devices, {"network.other": torch.zeros(1)}, tmp_path)
    for name, value in (("visits", 0), ("alpha", -1), ("statistics", "none"), ("unify", "first"), ("lr", 0.0)):
        with pytest.raises(ValueError, match=name):
            EdgeOptions(**{name: value})
