"""Devices over Flower: the same as in one process, one that misses a visit, and those that send what they must not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, RecordDict
from one_process_grid import OneProcessGrid, as_a_run
from small_devices import make, run_of, small_devices, small_start, training

from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federated import RandomWalk
from lightning_reid.federated.traffic import Crossing, expected_at_hub, expected_traffic
from lightning_reid.federation import edge_messages, messages
from lightning_reid.federation.client import LocalRound
from lightning_reid.federation.edge import EdgeTraining
from lightning_reid.federation.edge_device import ROWS, Bank, EdgeDevice, LabelTask, edge_module
from lightning_reid.federation.edge_flower import edge_client_app
from lightning_reid.federation.edge_flower_hub import DevicesOverFlower
from lightning_reid.federation.edge_messages import BANK, FACTS, INSTALL, STATISTICS, TELL
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.messages import ASKED, CLIENT, MODEL, WHO

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


def lying(kind: str, lie: Callable[[RecordDict], object]):
    """The second node lies when it is asked for this."""

    def lies(node: int, asked: Message, reply: Message) -> Message:
        if node == 2 and asked.metadata.message_type == kind:
            lie(reply.content)
        return reply

    return lies


def arrays(record: str, **tensors: torch.Tensor):
    return lambda content: content.__setitem__(record, ArrayRecord({name: Array(tensor.numpy()) for name, tensor in tensors.items()}))


def bank(change: Callable[[torch.Tensor], torch.Tensor]):
    def lie(content: RecordDict) -> None:
        memories = torch.from_numpy(content["memories"]["memories"].numpy().copy())
        content["memories"] = ArrayRecord({"memories": Array(change(memories).numpy())})

    return lie


def told(record: str, name: str, value: object):
    return lambda content: content[record].__setitem__(name, value)


def without(record: str):
    return lambda content: content.__delitem__(record)


MEAN = "network.backbone.trunk.layer4.0.bn1.running_mean"
VARIANCE = "network.backbone.trunk.layer4.0.bn1.running_var"


def number(name: str, value: float):
    def lie(content: RecordDict) -> None:
        content[STATISTICS][name] = Array(np.full(16, value, dtype=np.float32))

    return lie


LIES = {
    "an image for a bank": (BANK, bank(lambda _: torch.zeros(1, 3, 32, 16)), "memories must be float32 of shape [8, 16], got"),
    "an image beside the bank": (
        BANK,
        lambda content: content["memories"].__setitem__("image", Array(np.zeros((3, 32, 16), dtype=np.uint8))),
        "'image', 'uint8' of shape (3, 32, 16), is not on the list of what may be shared",
    ),
    "a row too many": (
        BANK,
        bank(lambda rows: torch.cat([rows, rows[:1]])),
        "memories must be float32 of shape [8, 16], got 'float32', (9, 16)",
    ),
    "a row an image": (BANK, bank(lambda rows: rows.repeat_interleave(3, dim=0)), "shape [8, 16], got 'float32', (24, 16)"),
    "a row too few": (BANK, bank(lambda rows: rows[1:]), "memories must be float32 of shape [8, 16], got 'float32', (7, 16)"),
    "another precision": (BANK, bank(torch.Tensor.double), "memories must be float32 of shape [8, 16], got 'float64'"),
    "half precision": (BANK, bank(torch.Tensor.half), "memories must be float32 of shape [8, 16], got 'float16'"),
    "NaN": (BANK, bank(lambda rows: rows.index_fill(0, torch.tensor([2]), torch.nan)), "row 2 of the memories holds NaN"),
    "a length of NaN": (BANK, told(CLIENT, "length", math.nan), "the mean length of a feature must be finite and above 0, got nan"),
    "a length of 0": (BANK, told(CLIENT, "length", 0.0), "the mean length of a feature must be finite and above 0, got 0.0"),
    "a length that is a text": (BANK, told(CLIENT, "length", "long"), "the mean length of its features must be a number, got 'long'"),
    "another device's bank": (BANK, told(CLIENT, "id", "camera3"), "it says that it is camera3"),
    "a stranger's bank": (BANK, told(CLIENT, "id", "office"), "it says that it is 'office', who is none of"),
    "a bank of another network": (BANK, told(CLIENT, MODEL, "0" * 64), "camera2 answers by another network than it was last given"),
    "more about itself": (BANK, told(CLIENT, "people", 3), "its client must tell id, length, model, got"),
    "no bank": (BANK, without("memories"), "has too many or too few: ['memories']"),
    "no id": (BANK, without(CLIENT), "has too many or too few: ['client']"),
    "a bank, and a model with it": (BANK, arrays(MODEL, image=torch.zeros(3, 8, 8)), "has too many or too few: ['model']"),
    "a bank that is a text": (
        BANK,
        lambda content: content.__setitem__("memories", ConfigRecord({"a": "b"})),
        "its memories must be one ArrayRecord, got ConfigRecord",
    ),
    "statistics of NaN": (STATISTICS, number(MEAN, math.nan), f"{MEAN} is NaN or infinite"),
    "a variance below 0": (STATISTICS, number(VARIANCE, -1.0), f"{VARIANCE} is a variance of -1, expected 0 or more"),
    "statistics with an image": (
        STATISTICS,
        lambda content: content[STATISTICS].__setitem__("image", Array(np.zeros((3, 32, 16), dtype=np.uint8))),
        "'image', 'uint8' of shape (3, 32, 16), is not on the list of what may be shared",
    ),
    "weights for statistics": (
        STATISTICS,
        lambda content: content[STATISTICS].__setitem__(MEAN.replace("running_mean", "weight"), Array(np.zeros(16, dtype=np.float32))),
        "bn1.weight', 'float32' of shape (16,), is not on the list of what may be shared",
    ),
    "no statistics": (STATISTICS, without(STATISTICS), "its query.statistics must be one ArrayRecord, got NoneType"),
    "a digest that is none": (INSTALL, told(CLIENT, MODEL, "the same"), "model must be a digest of 64 letters, got 'the same'"),
    "an installation of another device": (INSTALL, told(CLIENT, "id", "camera1"), "it says that it is camera1"),
    "an installation with its bank": (INSTALL, arrays("memories", memories=torch.zeros(8, 16)), "too many or too few: ['memories']"),
    "labels back": (TELL, arrays("labels", labels=torch.zeros(8, dtype=torch.int32)), "has too many or too few: ['labels']"),
}


@pytest.fixture(scope="module")
def hub(devices, start, tmp_path_factory) -> Iterator[DevicesOverFlower]:
    """Whose devices have their network, and banks and statistics that they need not work for."""
    with pytest.MonkeyPatch.context() as patch:
        as_a_run(patch)
        rows = torch.rand(8, 16)
        measured = {name: tensor for name, tensor in start.items() if re.search(r"layer[34].*\.running_", name)}
        patch.setattr(EdgeDevice, "bank", lambda device: Bank(rows, 1.0))
        patch.setattr(EdgeDevice, "statistics", lambda device: measured)
        options, folder = EdgeOptions(), tmp_path_factory.mktemp("devices")
        members = {name: EdgeDevice(name, devices[name], make, start, options, folder / name, "cpu") for name in NAMES}
        grid = OneProcessGrid(edge_client_app(lambda context: members[str(context.node_config["client"])]), NAMES)
        found = DevicesOverFlower(grid, NAMES, edge_module(make, start, options), patience=0.0, grace=0.0)
        found.install({name: tensor for name, tensor in start.items() if name in found.middle.kinds})
        yield found


def asked(hub: DevicesOverFlower, start, kind: str) -> object:
    if kind == TELL:
        return hub.tell("incremental-0", {name: LabelTask(torch.zeros(8, dtype=torch.int32), 2) for name in NAMES})
    if kind == INSTALL:
        return hub.install({name: start[name] for name in hub.middle.kinds})
    return hub.banks() if kind == BANK else hub.statistics()


@pytest.mark.parametrize(("kind", "lie", "reason"), LIES.values(), ids=LIES)
def test_what_a_device_must_not_send_is_refused_by_its_name(hub, start, monkeypatch, kind, lie, reason):
    asked(hub, start, kind)
    monkeypatch.setattr(hub.grid, "tamper", lying(kind, lie))
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        asked(hub, start, kind)
    assert caught.value.__notes__ == ["of device camera2"]


WHO_LIES = {
    "a tracklet more than images": (told(FACTS, "num_tracklets", 10**6), "it says that it has 1000000 tracklets of"),
    "images below 0": (told(FACTS, "num_images", -1), "num_images must be a whole number in 0..9,007,199,254,740,992, got -1"),
    "images of True": (told(FACTS, "num_images", True), "num_images must be a whole number"),
    "a front that is none": (told(FACTS, "front", "mine"), "front must be a digest of 64 letters, got 'mine'"),
    "nothing of its front": (lambda content: content[FACTS].__delitem__("front"), "its facts must tell front, num_images, num_tracklets"),
    "no facts": (without(FACTS), "has too many or too few: ['facts']"),
    "a bank with the facts": (arrays("memories", memories=torch.zeros(8, 16)), "has too many or too few: ['memories']"),
    "a stranger": (told(CLIENT, "id", "office"), "it says that it is 'office', who is none of"),
}


@pytest.mark.parametrize(("lie", "reason"), WHO_LIES.values(), ids=WHO_LIES)
def test_a_device_that_says_what_cannot_be_of_itself_is_not_met(hub, start, lie, reason):
    grid = OneProcessGrid(hub.grid.app, NAMES, lying(WHO, lie))
    with pytest.raises(RuntimeError, match="camera2 did not answer 'who they are'") as caught:
        DevicesOverFlower(grid, NAMES, edge_module(make, start, EdgeOptions()), patience=0.0, grace=0.0)
    assert "node 2: its reply cannot be read: " in str(caught.value)
    assert reason in str(caught.value)


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


def test_a_hub_that_tells_what_no_hub_tells_is_refused_by_its_devices(devices, start, tmp_path):
    options = EdgeOptions()
    device = EdgeDevice("camera1", devices["camera1"], make, start, options, tmp_path, "cpu")
    task = LabelTask(torch.arange(8, dtype=torch.int32), 8)

    def tell(walk: str = "incremental-0", **changes: object) -> Message:
        content = edge_messages.task_request(walk, task)
        for name, value in changes.items():
            if isinstance(value, torch.Tensor):
                content[name] = ArrayRecord({name: Array(value.numpy())})
            else:
                content[ASKED][name] = value
        return Message(content, 1, TELL)

    read = edge_messages.read_task_request
    walk, found = read(tell(), 8, 16)
    assert (walk, found.number, found.labels.tolist()) == ("incremental-0", 8, [*range(8)])
    for message, reason in (
        (tell("../../elsewhere"), "a walk has a name of 1 to 40 small letters, digits and -, got '../../elsewhere'"),
        (tell(number=True), "number must be a whole number"),
        (tell(number=10**12), "number must be a whole number"),
        (tell(secret=1), "its asked must tell number, walk"),
        (tell(labels=torch.arange(9, dtype=torch.int32)), "labels must be int32 of shape"),
        (tell(labels=torch.arange(8)), "labels must be int32 of shape"),
        (tell(rows=torch.zeros(7, 16)), "rows must be float32 of shape"),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)):
            read(message, 8, 16)
    assert read(tell(**{ROWS: torch.zeros(8, 16)}), 8, 16)[1].rows.shape == (8, 16)
    front = {name: tensor for name, tensor in start.items() if not name.startswith(device.middle)}
    app = edge_client_app(lambda context: device)
    context = Context(1, 1, {"client": "camera1"}, RecordDict(), {})
    with pytest.raises(ValueError, match="is not on the list of what may be shared"):
        app(Message(edge_messages.install_request(front), 1, INSTALL), context)
    with pytest.raises(ValueError, match="a walk has a name of 1 to 40 small letters, digits and -, got ''"):
        app(Message(messages.fit_request(LocalRound("f", 0), start), 1, MessageType.TRAIN), context)
    with pytest.raises(FileNotFoundError, match="camera1 was told no labels for incremental-7"):
        app(Message(messages.fit_request(LocalRound("f", 0, walk="incremental-7"), start), 1, MessageType.TRAIN), context)


def test_a_device_looks_at_its_own_bank_before_it_is_sent(devices, start, tmp_path, monkeypatch):
    device = EdgeDevice("camera1", devices["camera1"], make, start, EdgeOptions(), tmp_path, "cpu")
    app = edge_client_app(lambda context: device)
    honest = EdgeDevice.bank
    monkeypatch.setattr(EdgeDevice, "bank", lambda device: Bank(honest(device).memories.repeat(2, 1), 1.0))
    with pytest.raises(ValueError, match=re.escape("memories may be shared as torch.float32 of shape [8, 16]")):
        app(Message(messages.query_request(BANK), 1, BANK), Context(1, 1, {}, RecordDict(), {}))
