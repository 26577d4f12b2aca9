"""Devices over Flower that send what they must not, or lie about themselves, and hubs that do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from one_process_grid import OneProcessGrid, as_a_run
from small_devices import make, small_devices, small_start

from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federation import edge_messages, messages
from lightning_reid.federation.client import LocalRound
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


@pytest.fixture(scope="module")
def devices() -> dict[str, DeviceDataModule]:
    return small_devices()


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    return small_start()


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
