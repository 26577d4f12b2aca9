"""Devices that learn together in one process: every stage, its bytes, and a run that was stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_devices import make, run_of, small_devices, small_start, training

from lightning_reid.clustering.graph_report import graph_report
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated.sharing import LeakError
from lightning_reid.federated.traffic import expected_at_hub, expected_traffic
from lightning_reid.federation.edge import EdgeTraining, rows_of
from lightning_reid.federation.edge_device import Bank, EdgeDevice, true_people
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.networks.walking_statistics import averaged_statistics, measured_statistics
from lightning_reid.records import ReIDDataset


@pytest.fixture(scope="module")
def devices() -> dict[str, DeviceDataModule]:
    return small_devices()


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    return small_start()


def test_all_stages_cross_as_many_bytes_as_the_formulas_say_and_a_stopped_run_goes_on(devices, start, tmp_path):
    whole = training(devices, start, tmp_path / "whole")
    weights = whole.run()
    run = run_of(whole, whole.labels(training(devices, start, tmp_path / "whole", resume=True).memories(weights)))
    assert whole.ledger.totals() == expected_traffic(run)
    assert whole.ledger.hub == expected_at_hub(run)
    fronts = [name for name in start if not name.startswith(whole.middle)]
    assert fronts
    assert all(torch.equal(weights[name], start[name]) for name in fronts)
    assert any(not torch.equal(weights[name], start[name]) for name in start)
    for device in whole.hub.devices.values():
        assert all(torch.equal(tensor, weights[name]) for name, tensor in device.model().items())
    stopped = training(devices, start, tmp_path / "stopped")
    stopped.memories(stopped.walk())
    again = training(devices, start, tmp_path / "stopped", resume=True)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.run().items())
    assert again.ledger.totals() == whole.ledger.totals()
    (tmp_path / "stopped" / "server" / "walk" / "rounds.json").unlink()
    with pytest.raises(ValueError, match=r"rounds\.json does not tell all of the 3 rounds that there were"):
        training(devices, start, tmp_path / "stopped", resume=True).walk()


def test_a_folder_of_another_run_is_refused(devices, start, tmp_path):
    training(devices, start, tmp_path)
    assert training(devices, start, tmp_path, resume=True).ledger.totals() == {}
    with pytest.raises(FileExistsError, match="holds what devices learned: go on from it with resume"):
        training(devices, start, tmp_path)
    with pytest.raises(ValueError, match="another run: memory was mean, is sum; alpha was 1, is 0"):
        training(devices, start, tmp_path, resume=True, alpha=0, memory="sum")
    with pytest.raises(ValueError, match="another run: start was"):
        training(devices, {name: tensor + 1 for name, tensor in start.items()}, tmp_path, resume=True)
    with pytest.raises(ValueError, match="another run: devices was"):
        training(dict([*devices.items()][::-1]), start, tmp_path, resume=True)


def test_devices_that_would_learn_otherwise_are_refused(devices, start, tmp_path):
    done = training(devices, start, tmp_path)
    with pytest.raises(ValueError, match=r"camera1 learns by other options than the run: .*memory='mean'.*, expected .*memory='sum'"):
        EdgeTraining(done.hub, make, start, replace(done.options, memory="sum"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_one_label_for_all_is_refused(devices, start, tmp_path):
    done = training(devices, start, tmp_path)
    banks = {name: Bank(torch.ones(data.num_tracklets, 16), 1.0) for name, data in devices.items()}
    labels = {name: torch.zeros(data.num_tracklets, dtype=torch.int64) for name, data in devices.items()}
    with pytest.raises(ValueError, match=r"two labels across cameras to tell apart, of 1 in all \(alpha=1, method=components\)"):
        done.learn_labels(start, banks, labels)


def test_the_average_is_of_the_last_lap_alone(devices, start, tmp_path, monkeypatch):
    ends: list[dict[str, torch.Tensor]] = []
    asked: list[str] = []
    lost, honest = "camera1", LocalTraining.reply

    def reply(local):
        """The lost device is lost in each lap, and once made up for: at the end of the first."""
        told = honest(local)
        asked.append(local.client.id)
        if local.client.id == lost and asked.count(lost) != 2:
            return replace(told, tensors={name: tensor * torch.nan for name, tensor in told.tensors.items()})
        ends.append({name: tensor.clone() for name, tensor in told.tensors.items()})
        return told

    monkeypatch.setattr(LocalTraining, "reply", reply)
    two = {name: devices[name] for name in (lost, "camera2")}
    weights = training(two, start, tmp_path, visits=2, unify="average", alpha=0).walk()
    assert [asked.count(name) for name in two] == [4, 2]
    assert all(torch.equal(weights[name], tensor) for name, tensor in ends[-1].items())


def test_options_of_the_text_and_of_ours_run(devices, start, tmp_path):
    options = {"memory": "sum", "centered": False, "half": True, "method": "one_per_camera", "alpha": 0, "unify": "average"}
    done = training(devices, start, tmp_path, statistics="averaged", classifier_init="random", negatives="held", **options)
    weights = done.run()
    assert set(weights) == set(start)
    banks = done.memories(weights)
    labels = done.labels(banks)
    assert {bank.memories.dtype for bank in banks.values()} == {torch.float16}
    measured = sum(t.numel() * t.element_size() for name, t in weights.items() if name.startswith(done.middle) and "running_" in name)
    told = expected_traffic(run_of(done, labels, averaged_bn_bytes=measured))
    assert done.ledger.totals()["batch statistics"] == told["batch statistics"]
    report = graph_report(*rows_of(banks), torch.cat([*labels.values()]), torch.cat([true_people(data) for data in devices.values()]))
    assert report.contradictions == 0
    assert report.people == 8
    assert 0 <= report.f_score <= 1


def test_each_camera_is_scored_with_its_own_statistics(devices, start, tmp_path):
    done = training(devices, start, tmp_path, statistics="local")
    weights = done.unified(done.start)
    local = dict(enumerate(done.hub.statistics().values(), 1))
    means = [one["network.backbone.trunk.layer4.0.bn1.running_mean"] for one in local.values()]
    assert not torch.equal(means[0], means[1])
    module = make().eval()
    module.load_state_dict(module.state_dict() | weights)
    batch = {"images": torch.rand(5, 3, 32, 16), "camids": torch.tensor([2, 1, 3, 2, 9])}
    expected = []
    for image, camid in zip(batch["images"], batch["camids"].tolist(), strict=True):
        alone = make().eval()
        alone.load_state_dict(alone.state_dict() | weights | local.get(camid, {}))
        expected.append(alone(image[None])[0])
    module.camera_statistics = local
    with torch.no_grad():
        torch.testing.assert_close(module.embed_batch(batch).embedding, torch.stack(expected).detach())


def test_a_local_classifier_begins_at_the_labels_memories_and_never_walks(devices, start, tmp_path):
    done = training(devices, start, tmp_path, label_classifier="local", method="one_per_camera", alpha=0)
    done.run()
    assert "classifier" not in {one.kind for one in done.ledger.hub if one.direction == "up"}
    labels = done.labels(done.memories(done.start))
    held = {name: len(told.unique()) for name, told in labels.items()}
    assert {one.device: size for one, size in done.ledger.hub.items() if one.kind == "classifier"} == {
        name: 4 * 16 * rows for name, rows in held.items()
    }
    told = done.hub.devices["camera1"].task("incremental-0")
    assert done.hub.devices["camera1"].client("incremental-0").module.first_rows.equal(told.rows)


@pytest.mark.parametrize(
    ("leak", "message"),
    [
        (lambda bank: bank.new_zeros(1, 3, 32, 16), "may be shared as torch.float32 of shape"),
        (lambda bank: torch.cat([bank, bank[:1]]), "may be shared as torch.float32 of shape"),
        (lambda bank: bank.repeat_interleave(3, dim=0), "may be shared as torch.float32 of shape"),
        (lambda bank: bank.double(), "not as torch.float64"),
        (lambda bank: bank.index_fill(0, torch.tensor([2]), torch.nan), "row 2 of the memories holds NaN"),
    ],
    ids=["an image", "one row too many", "one row an image", "in another precision", "NaN"],
)
def test_a_bank_that_is_none_does_not_cross(devices, start, tmp_path, monkeypatch, leak, message):
    done = training(devices, start, tmp_path)
    honest = EdgeDevice.bank
    monkeypatch.setattr(EdgeDevice, "bank", lambda device: Bank(leak(honest(device).memories), 1.0))
    with pytest.raises(ValueError, match=message) as caught:
        done.memories(done.start)
    assert caught.value.__notes__ == ["of device camera1"]
    assert isinstance(caught.value, LeakError) == ("shared" in message or "not as" in message)
    assert not (tmp_path / "server" / "banks-0").exists()


def test_a_visit_that_ends_in_nan_is_none_and_the_next_device_gets_the_model_from_before_it(devices, start, tmp_path, monkeypatch):
    given: list[tuple[str, dict[str, torch.Tensor]]] = []
    honest_fit, honest_reply = LocalTraining.fit, LocalTraining.reply

    def fit(local, asked, message):
        given.append((local.client.id, {name: tensor.clone() for name, tensor in message.items()}))
        return honest_fit(local, asked, message)

    def reply(local):
        told = honest_reply(local)
        if len(given) != 2:
            return told
        return replace(
            told, tensors={name: tensor * torch.nan if tensor.is_floating_point() else tensor for name, tensor in told.tensors.items()}
        )

    monkeypatch.setattr(LocalTraining, "fit", fit)
    monkeypatch.setattr(LocalTraining, "reply", reply)
    weights = training(devices, start, tmp_path).walk()
    visited = [name for name, _ in given]
    assert len(visited) == 4
    assert visited[1] == visited[3]
    assert len({*visited}) == 3
    broken, following = given[1][1], given[2][1]
    assert all(torch.equal(broken[name], following[name]) for name in broken)
    assert any(not torch.equal(given[0][1][name], broken[name]) for name in broken)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


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
    with pytest.raises(ValueError, match="two devices or more, got 1"):
        training({"camera1": devices["camera1"]}, start, tmp_path)
    two = {name: devices[name] for name in ("camera1", "camera2")}
    with pytest.raises(ValueError, match="alpha=1, and an edge between 2 cameras has at most 0 triangles"):
        training(two, start, tmp_path)
    assert training(two, start, tmp_path, alpha=0).middle
    empty = DeviceDataModule("camera3", batch_size=8, image_size=(32, 16), num_workers=0)
    empty.serve(ReIDDataset("camera3", ()))
    with pytest.raises(ValueError, match="alpha=1, and an edge between 2 cameras has at most 0 triangles"):
        training(two | {"camera3": empty}, start, tmp_path / "empty")
    with pytest.raises(ValueError, match="weights to start from are of another network"):
        training(devices, {"network.other": torch.zeros(1)}, tmp_path)
    for name, value in (("visits", 0), ("alpha", -1), ("statistics", "none"), ("unify", "first"), ("lr", 0.0)):
        with pytest.raises(ValueError, match=name):
            EdgeOptions(**{name: value})
