"""What the devices of cameras and their hub tell each other over Flower, each message beside its reader.

As in ``messages``, what arrives is not believed, and a reader raises ``ValueError`` only. A bank, statistics and labels have names, shapes
and dtypes that follow from what a device said of itself when it was introduced; beside them are an id, a few numbers and digests.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from torch import Tensor

from lightning_reid.arguments import require_count
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.plausibility import LARGEST_COUNT, VARIANCE, implausible
from lightning_reid.federated.sharing import AllowList
from lightning_reid.federated.strategies import MAX_IMAGES
from lightning_reid.federation.arrays import read_arrays
from lightning_reid.federation.edge_device import (
    LABELS,
    MEMORIES,
    ROWS,
    Bank,
    DeviceFacts,
    LabelTask,
    bank_list,
    check_bank,
    labels_list,
    rows_list,
)
from lightning_reid.federation.message_records import client_of, record_of, records_of, values_of
from lightning_reid.federation.messages import ASKED, CLIENT, MODEL

INSTALL, BANK, STATISTICS, TELL = (f"{MessageType.QUERY}.{name}" for name in ("install", "bank", "statistics", "tell"))
FACTS = "facts"
"""Name of a record, as ``LABELS``, ``MEMORIES`` and ``ROWS`` are."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WALK = re.compile(r"[a-z][a-z0-9-]{0,39}")


def who_reply(client: str, facts: DeviceFacts) -> RecordDict:
    """A device's message that tells who it is, and what it has."""
    return RecordDict({CLIENT: ConfigRecord({"id": client}), FACTS: ConfigRecord(asdict(facts))})


def read_who_reply(message: Message, clients: Sequence[str], known: Mapping[str, DeviceFacts]) -> tuple[str, DeviceFacts]:
    """Which device a node says that it is, and what it says of itself.

    Args:
        message: Of :func:`who_reply`, if it is.
        clients: Ids of all devices.
        known: What devices said of themselves before, which must not change within a run.

    Raises:
        ValueError: It is not such a message, of a stranger, or tells something else than before.
    """
    records = records_of(message, {CLIENT, FACTS})
    client = client_of(values_of(records, CLIENT, {"id"})["id"], clients)
    told = values_of(records, FACTS, {field.name for field in fields(DeviceFacts)})
    images, tracklets = (_count(name, told[name], LARGEST_COUNT) for name in ("num_images", "num_tracklets"))
    if tracklets > images or bool(images) != bool(tracklets):
        raise ValueError(f"it says that it has {tracklets} tracklets of {images} images")
    facts = DeviceFacts(tracklets, images, _digest("front", told["front"]))
    if known.get(client, facts) != facts:
        raise ValueError(f"{client} says {facts} of itself, and said {known[client]} before: what it has must stay while a run lasts")
    return client, facts


def install_request(tensors: NamedTensors) -> RecordDict:
    """The hub's message with the middle of the network, or statistics of it."""
    return RecordDict({MODEL: ArrayRecord(dict(tensors))})


def read_install_request(message: Message, middle: AllowList) -> dict[str, Tensor]:
    """What a device is to have for its own, of the middle of its network.

    Args:
        message: Of :func:`install_request`, if it is.
        middle: All that may be installed.

    Raises:
        ValueError: It is not such a message, or of another network.
    """
    record = record_of(records_of(message, {MODEL}), MODEL, ArrayRecord)
    return read_arrays(record, AllowList({name: kind for name, kind in middle.kinds.items() if name in record}))


def install_reply(client: str, model: str) -> RecordDict:
    """A device's message with the digest of the whole network that it has now."""
    return _about(client, model)


def read_install_reply(message: Message, clients: Sequence[str]) -> tuple[str, str]:
    """A device, and the digest of the network that it has.

    Raises:
        ValueError: It is not a message of :func:`install_reply`, or of a stranger.
    """
    return _read_about(values_of(records_of(message, {CLIENT}), CLIENT, {"id", MODEL}), clients)


def bank_reply(client: str, model: str, bank: Bank, facts: DeviceFacts, width: int, *, half: bool) -> RecordDict:
    """A device's message with its memories by the network of that digest.

    Raises:
        LeakError: The bank is none: see ``check_bank``.
        ValueError: It is not finite.
    """
    check_bank(bank, facts, width, half=half)
    content = _about(client, model, length=bank.length)
    content[MEMORIES] = ArrayRecord({MEMORIES: bank.memories})
    return content


def read_bank_reply(
    message: Message, facts: Mapping[str, DeviceFacts], models: Mapping[str, str], width: int, *, half: bool
) -> tuple[str, Bank]:
    """A device, and its memories: one row a tracklet, nothing else.

    Args:
        message: Of :func:`bank_reply`, if it is.
        facts: What each device said of itself.
        models: Digest of the network that each was last given.
        width: D.
        half: Whether memories cross in half precision.

    Raises:
        ValueError: It is not such a message, of a stranger, or not by that network; or its bank is none.
    """
    records = records_of(message, {CLIENT, MEMORIES})
    told = values_of(records, CLIENT, {"id", MODEL, "length"})
    client = _read_made_by(told, models)
    if type(told["length"]) is not float:
        raise ValueError(f"the mean length of its features must be a number, got {reprlib.repr(told['length'])}")
    allowed = bank_list(facts[client], width, half=half)
    bank = Bank(read_arrays(record_of(records, MEMORIES, ArrayRecord), allowed)[MEMORIES], told["length"])
    check_bank(bank, facts[client], width, half=half)
    return client, bank


def statistics_list(middle: AllowList) -> AllowList:
    """Running means and variances of the middle of a network."""
    return AllowList({name: kind for name, kind in middle.kinds.items() if name.endswith((".running_mean", f".{VARIANCE}"))})


def statistics_reply(client: str, model: str, tensors: NamedTensors, allowed: AllowList) -> RecordDict:
    """A device's message with its own statistics by the network of that digest; without any where it has no images.

    Raises:
        LeakError: They are none.
    """
    content = _about(client, model)
    if tensors:
        allowed.check(tensors)
        content[STATISTICS] = ArrayRecord(dict(tensors))
    return content


def read_statistics_reply(
    message: Message, facts: Mapping[str, DeviceFacts], models: Mapping[str, str], allowed: AllowList
) -> tuple[str, dict[str, Tensor]]:
    """A device, and its own statistics; none of one without images.

    Args:
        message: Of :func:`statistics_reply`, if it is.
        facts: What each device said of itself.
        models: Digest of the network that each was last given.
        allowed: The statistics that there are.

    Raises:
        ValueError: It is not such a message, of a stranger, or not by that network; or statistics are none.
    """
    records = records_of(message, {CLIENT}, {STATISTICS})
    client = _read_made_by(values_of(records, CLIENT, {"id", MODEL}), models)
    if not facts[client].num_images and STATISTICS not in records:
        return client, {}
    tensors = read_arrays(record_of(records, STATISTICS, ArrayRecord), allowed)
    problem = implausible(tensors, tensors)
    if problem is not None:
        raise ValueError(problem)
    return client, tensors


def task_request(walk: str, task: LabelTask) -> RecordDict:
    """The hub's message with the labels of a device's tracklets for a walk."""
    content = RecordDict({ASKED: ConfigRecord({"walk": walk, "number": task.number}), LABELS: ArrayRecord({LABELS: task.labels})})
    if task.rows is not None:
        content[ROWS] = ArrayRecord({ROWS: task.rows})
    return content


def read_task_request(message: Message, num_tracklets: int, width: int) -> tuple[str, LabelTask]:
    """The name of a walk, and what a device is told for it.

    Args:
        message: Of :func:`task_request`, if it is.
        num_tracklets: Of the device.
        width: D.

    Raises:
        ValueError: It is not such a message, or not of such a device.
    """
    records = records_of(message, {ASKED, LABELS}, {ROWS})
    told = values_of(records, ASKED, {"walk", "number"})
    labels, rows = read_arrays(record_of(records, LABELS, ArrayRecord), labels_list(num_tracklets))[LABELS], None
    if ROWS in records:
        rows = read_arrays(record_of(records, ROWS, ArrayRecord), rows_list(labels, width))[ROWS]
    return walk_of(told["walk"]), LabelTask(labels, _count("number", told["number"], MAX_IMAGES), rows)


def walk_of(told: object) -> str:
    """The name of a walk, under which a device keeps files.

    Raises:
        ValueError: It could be no such name.
    """
    if not isinstance(told, str) or not _WALK.fullmatch(told):
        raise ValueError(f"a walk has a name of 1 to 40 small letters, digits and -, got {reprlib.repr(told)}")
    return told


def _about(client: str, model: str, **more: float) -> RecordDict:
    return RecordDict({CLIENT: ConfigRecord({"id": client, MODEL: model, **more})})


def _read_about(told: Mapping[str, object], clients: Sequence[str]) -> tuple[str, str]:
    return client_of(told["id"], clients), _digest(MODEL, told[MODEL])


def _read_made_by(told: Mapping[str, object], models: Mapping[str, str]) -> str:
    client, model = _read_about(told, [*models])
    if model != models[client]:
        raise ValueError(f"{client} answers by another network than it was last given: its folder was changed, or is a new one")
    return client


def _digest(name: str, told: object) -> str:
    if not isinstance(told, str) or not _DIGEST.fullmatch(told):
        raise ValueError(f"{name} must be a digest of 64 letters, got {reprlib.repr(told)}")
    return told


def _count(name: str, told: object, high: int) -> int:
    require_count(name, told, low=0, high=high)
    return cast(int, told)
