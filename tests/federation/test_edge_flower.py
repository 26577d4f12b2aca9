"""Devices over Flower: the same as in one process, those that miss a visit or come back, and who is who."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from flwr.app import Context, Error, Message, MessageType, RecordDict
from one_process_grid import OneProcessGrid, as_a_run
from small_devices import make, run_of, small_devices, small_start, training

from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated import FedPav, RandomWalk
from lightning_reid.federated.traffic import Crossing, expected_at_hub, expected_traffic
from lightning_reid.federation import edge_messages, messages
from lightning_reid.federation.edge import EdgeTraining
from lightning_reid.federation.edge_device import EdgeDevice, LabelTask, edge_module
from lightning_reid.federation.edge_flower import edge_client_app
from lightning_reid.federation.edge_flower_hub import DevicesOverFlower
from lightning_reid.federation.edge_messages import FACTS
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.messages import WHO

NAMES = ["camera1", "camera2", "camera3"]


@pytest.fixture(autouse=True)
def a_run(monkeypatch):
    as_a_run(monkeypatch)
    for module in ("flower_nodes", "edge_flower_hub"):
        monkeypatch.setattr(f"lightning_reid.federation.{module}.SECONDS_BETWEEN_LOOKS", 0.0)


@pytest.fixture(scope="module")
def devices() -> dict[str, DeviceDataModule]:
    return small_devices()


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    return small_start()


def over_flower(
    devices, start, folder: Path, tamper=None, names=NAMES, patience: float = 0.0, resume: bool = False, **options
) -> EdgeTraining:
    told = EdgeOptions(**({"visits": 1, "incremental_visits": 1, "seed": 3} | options))

    def build(context: Context) -> EdgeDevice:
        name = str(context.node_config["client"])
        return EdgeDevice(name, devices[name], make, start, told, folder / "devices" / name, "cpu")

    grid = OneProcessGrid(edge_client_app(build), names, tamper)
    hub = DevicesOverFlower(grid, NAMES, edge_module(make, start, told), half=told.half, patience=patience, grace=0.0)
    return EdgeTraining(hub, make, start, told, folder / "server", resume=resume, quiet=True)


def test_a_hub_that_expects_other_memories_than_the_run_is_refused(devices, start, tmp_path):
    done = over_flower(devices, start, tmp_path)
    with pytest.raises(ValueError, match="expected with half=False, and the options of the run say True"):
        EdgeTraining(done.hub, make, start, replace(done.options, half=True), tmp_path / "other")


@pytest.mark.parametrize(
    "options",
    [{}, {"label_classifier": "local", "half": True, "statistics": "averaged", "unify": "average", "method": "one_per_camera", "alpha": 0}],
    ids=["as it is decided here", "other ways, with a server that is stopped"],
)
def test_it_gives_what_devices_in_one_process_give_and_tells_no_byte_more(devices, start, tmp_path, options):
    here = training(devices, start, tmp_path / "here", **options)
    there = over_flower(devices, start, tmp_path / "there", names=[NAMES[2], *NAMES[:2]], **options)
    if options:  # a server that is stopped goes on, by nodes that have other numbers
        there.memories(there.walk())
        there = over_flower(devices, start, tmp_path / "there", resume=True, **options)
    weights, expected = there.run(), here.run()
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name
    assert (there.ledger.hub, there.ledger.direct) == (here.ledger.hub, here.ledger.direct)
    if not options:
        run = run_of(there, there.labels(here.memories(expected)))
        assert there.ledger.hub == expected_at_hub(run)
        assert there.ledger.totals() == expected_traffic(run)
    models = {(tmp_path / where / "devices" / name / "model.safetensors").read_bytes() for where in ("here", "there") for name in NAMES}
    assert len(models) == 1


def test_a_device_that_dies_in_its_visit_is_visited_at_the_end_of_the_lap_by_the_node_that_it_is_then(devices, start, tmp_path):
    done = over_flower(devices, start, tmp_path)
    grid, dead = done.hub.grid, []

    def dies(node: int, asked: Message, reply: Message) -> Message | None:
        if asked.metadata.message_type != MessageType.TRAIN or dead:
            return reply
        dead.append(grid.nodes[node])
        grid.nodes[9] = grid.nodes[node]
        return Message(Error(5, "the node is gone"), reply_to=asked)

    grid.tamper = dies
    walked: list = []
    done.after_visit = walked.append
    done.walk()
    reports = [one.report for one in walked[0].rounds]
    assert reports[0].left_out == {dead[0]: "the node is gone; it is visited at the end of the lap"}
    assert [one.used for one in reports][1:] == [[name] for name in [*(one.used[0] for one in reports[1:3]), dead[0]]]
    assert sorted(one.used[0] for one in reports[1:]) == NAMES
    size = sum(tensor.nbytes for name, tensor in start.items() if name.startswith(done.middle))
    assert walked[0].rounds[0].unanswered == {dead[0]: size}
    crossed = {one: total for one, total in done.ledger.hub.items() if one.device == dead[0]}
    assert crossed == {
        Crossing("model, stage 2", dead[0], "down"): 2 * size,  # what was sent in vain is counted
        Crossing("model, stage 2", dead[0], "up"): size,
    }
    # where all nodes are asked, the one that it was before is not taken for it again
    done.hub.tell("averaged", dict.fromkeys(NAMES, LabelTask(torch.arange(8, dtype=torch.int32), 8, torch.rand(8, 16))))
    everybody = done.hub.federation("averaged", FedPav(done.middle), done._module_tensors(start), NAMES, tmp_path / "averaged")
    everybody.fit(1)
    (old,) = (node for node, name in grid.nodes.items() if name == dead[0] and node != 9)
    assert everybody.rounds[0].report.used == NAMES
    assert everybody.rounds[0].report.left_out == {f"node {old}": f"it says that it is {dead[0]}, who is node 9"}


def test_a_walk_to_one_device_is_told_to_nobody_else(devices, start, tmp_path):
    done = over_flower(devices, start, tmp_path)
    trained: list[int] = []

    def watched(node: int, asked: Message, reply: Message) -> Message:
        trained.extend([node] if asked.metadata.message_type == MessageType.TRAIN else [])
        return reply

    done.hub.grid.tamper = watched
    walk = done.hub.federation("walk", RandomWalk(done.middle, visits=1), done._module_tensors(start), ["camera2"], tmp_path / "alone")
    assert walk.fit(1).round == 1
    assert trained == [2]


def test_a_device_says_who_it_is_while_it_trains(devices, start, tmp_path):
    device = EdgeDevice("camera1", devices["camera1"], make, start, EdgeOptions(), tmp_path, "cpu")
    app, asked = edge_client_app(lambda context: device), Message(messages.query_request(WHO), 1, WHO)
    with ThreadPoolExecutor() as pool, FileLock(tmp_path / "device.lock"):
        reply = pool.submit(app, asked, Context(1, 1, {}, RecordDict(), {})).result(timeout=20)
    assert edge_messages.read_who_reply(reply, NAMES, {}) == ("camera1", device.facts)


def test_a_device_whose_node_is_gone_loses_its_visit_and_is_named_where_all_are_needed(devices, start, tmp_path):
    done = over_flower(devices, start, tmp_path)
    del done.hub.grid.nodes[2]
    walked: list = []
    done.after_visit = walked.append
    weights = done.walk()
    lost = [one.report.left_out for one in walked[0].rounds if one.report.left_out]
    assert lost == [
        {"camera2": "its node is not connected; it is visited at the end of the lap"},
        {"camera2": "its node is not connected; the visit is lost"},
    ]
    assert all(one.unanswered == {} for one in walked[0].rounds)  # nothing was sent
    with pytest.raises(RuntimeError, match=r"camera2 did not answer 'query.install' \(camera2: its node is not connected\) for 0 s"):
        done.memories(weights)


def test_a_device_that_is_back_answers_when_it_is_asked_again(devices, start, tmp_path, caplog):
    done = over_flower(devices, start, tmp_path, patience=60.0)
    lost: list = []

    def loses(node: int, asked: Message, reply: Message) -> Message | None:
        if node == 3 and not lost:
            lost.append(asked)
            return Message(Error(5, "the node is gone"), reply_to=asked)
        return reply

    done.hub.grid.tamper = loses
    assert [*done.memories(done.start)] == NAMES
    assert "camera3 did not answer 'query.install' (camera3: the node is gone): asked again" in caplog.text


def test_a_device_comes_back_as_what_it_was_and_nobody_takes_the_name_of_another(devices, start, tmp_path, caplog):
    done = over_flower(devices, start, tmp_path)
    grid = done.hub.grid
    del grid.nodes[2]
    grid.nodes |= {5: "camera2", 6: "camera1"}

    def lies(node: int, asked: Message, reply: Message) -> Message:
        if node == 5 and asked.metadata.message_type == WHO:
            reply.content[FACTS]["num_tracklets"] = 5
        return reply

    grid.tamper = lies
    with pytest.raises(RuntimeError, match="camera2 did not answer") as caught:
        done.hub.install(done._middle_of(start))
    assert "what it has must stay while a run lasts" in str(caught.value)
    assert "node 6: its reply cannot be read: it says that it is camera1, who is node 1" in str(caught.value)
    grid.tamper = lambda node, asked, reply: reply
    assert [*done.hub.install(done._middle_of(start))] == NAMES
