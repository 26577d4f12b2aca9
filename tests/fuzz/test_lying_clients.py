"""Damaged replies, scores, packed tracklets and states of servers, drawn with seeds: named, or taken as exactly what they are."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from flwr.app import Array, ConfigRecord, Message, MetricRecord, RecordDict
from fuzzing import TIMES
from one_process_grid import CLIENTS, IMAGES, SCORES, START, OneProcessGrid, as_a_run, honest_client, trained

from lightning_reid.federated import FedPav
from lightning_reid.federated.strategies import ServerState
from lightning_reid.federation import messages
from lightning_reid.federation.flower import FlowerFederation
from lightning_reid.federation.server_state import read_server_state, write_server_state
from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet

NUMBERS = (-1, 0, 1, 7, 20, 2**53, 2**62, -(2**63), 0.5, -0.1, 1.5, 1e300, float("nan"), float("inf"), [1, 2], [0.5])
ODD = (*NUMBERS, True, False, "", "a", "c", b"\0")
Tensors = dict[str, npt.NDArray[np.generic]]


@pytest.fixture
def federation(tmp_path, monkeypatch) -> FlowerFederation:
    as_a_run(monkeypatch)
    monkeypatch.setattr("lightning_reid.federation.flower_nodes.SECONDS_BETWEEN_LOOKS", 0.0)
    federation = FlowerFederation(OneProcessGrid(honest_client, CLIENTS), FedPav(), START, CLIENTS, tmp_path, patience=0.0, quiet=True)
    federation.fit(1)
    federation.heard = lambda: None
    return federation


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    place, length = draw.randrange(len(content)), draw.choice((1, 1, 8, 64))
    what = draw.choice(("flip", "flip", "flip", "cut", "zeros", "more", "none", "again"))
    return {
        "flip": content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :],
        "cut": content[:place] + content[place + length :],
        "zeros": content[:place] + bytes(min(length, len(content) - place)) + content[place + length :],
        "more": content[:place] + draw.randbytes(length) + content[place:],
        "none": b"",
        "again": content + content,
    }[what]


def damage_array(content: RecordDict, draw: random.Random) -> None:
    name = draw.choice(list(START))
    array = content[messages.MODEL][name]
    claims = {"dtype": array.dtype, "shape": array.shape, "stype": array.stype, "data": damaged_bytes(array.data, draw)}
    if draw.random() < 0.2:
        claims |= draw.choice(({"dtype": "object"}, {"shape": (10**12,)}, {"stype": "pickle"}, {"shape": ()}))
    content[messages.MODEL][name] = Array(**claims)


def damage_numbers(content: RecordDict, draw: random.Random) -> None:
    name = draw.choice(list(START))
    value = content[messages.MODEL][name].numpy().copy()
    odd = (1e-3, 1e19, 3e38, -1e-9, -2.0, np.nan, -np.inf) if value.dtype == np.float32 else (0, 1, 7, 2**53, 2**63 - 1, -1)
    value.flat[draw.randrange(value.size)] = draw.choice(odd)
    content[messages.MODEL][name] = Array(value)


def damage_told(content: RecordDict, draw: random.Random) -> None:
    record = content[draw.choice([name for name in content if name != messages.MODEL])]
    name = draw.choice([*record, "more"])
    if draw.random() < 0.1:
        record.pop(name, None)
    else:
        record[name] = draw.choice(ODD if isinstance(record, ConfigRecord) else NUMBERS)


def damage_score(content: RecordDict, draw: random.Random) -> None:
    content[messages.SCORES][draw.choice([*SCORES, "R5"])] = draw.choice((0.0, 0.25, 1, 3, *NUMBERS))


def damage_records(content: RecordDict, draw: random.Random) -> None:
    name = draw.choice(list(content))
    record = content.pop(name)
    other = draw.choice((None, RecordDict, "again"))
    if other == "again":
        content[name], content["more"] = record, record
    elif other is not None:
        content[name] = draw.choice((ConfigRecord({"a": 1}), MetricRecord({"mAP": 0.5}), MetricRecord()))


def lie_to(federation: FlowerFederation, how: Callable[[RecordDict, random.Random], None], draw: random.Random) -> list[RecordDict]:
    """The third node does; what it sent is in the list when it was asked."""
    sent: list[RecordDict] = []

    def tamper(node: int, asked: Message, reply: Message) -> Message:
        if node == 3:
            how(reply.content, draw)
            sent.append(reply.content)
        return reply

    federation.grid.tamper = tamper
    return sent


def averaged(models: dict[str, Tensors], images: dict[str, int]) -> Tensors:
    found: Tensors = {}
    for name in START:
        values = [models[client][name] for client in models]
        if values[0].dtype == np.float32:
            total = sum(images[client] * model[name].astype(np.float64) for client, model in models.items())
            found[name] = (total / sum(images[client] for client in models)).astype(np.float32)
        else:
            found[name] = np.maximum.reduce(values)
    return found


def test_damaged_replies_are_left_out_by_name_or_averaged_as_they_are(federation):
    taken = 0
    for seed in range(150 * TIMES):
        draw = random.Random(seed)
        sent = lie_to(federation, draw.choice((damage_array, damage_numbers, damage_told, damage_records)), draw)
        answers = list(federation.answers(0))
        state = replace(federation.state, signed_up=dict(federation.state.signed_up))
        absent = {answer.client: answer.problem for answer in answers if answer.reply is None}
        report = federation.strategy.aggregate(state, [answer.reply for answer in answers if answer.reply is not None], absent)
        models = {client: {name: tensor.numpy() for name, tensor in trained(client, 1).items()} for client in ("a", "b")}
        images = dict(IMAGES)
        if "c" in report.used:
            taken += 1
            model = {name: np.load(io.BytesIO(array.data), allow_pickle=False) for name, array in sent[0][messages.MODEL].items()}
            assert (model["network.bn.running_var"] >= 0).all(), seed
            assert all(np.isfinite(value).all() for value in model.values()), seed
            models["c"], images["c"] = model, sent[0][messages.CLIENT]["num_images"]
            assert images["c"] in range(1, 21), seed
            assert report.left_out == {}, seed
        else:
            assert report.used == ["a", "b"], seed
            assert report.left_out["c"], seed
        for name, value in averaged(models, images).items():
            np.testing.assert_allclose(state.tensors[name].numpy(), value, rtol=1e-6, err_msg=f"seed {seed}, {name}")
    assert 20 * TIMES < taken < 100 * TIMES


def test_damaged_scores_are_left_out_by_name_or_told_as_they_are(federation, caplog):
    taken = 0
    for seed in range(60 * TIMES):
        draw = random.Random(seed)
        caplog.clear()
        sent = lie_to(federation, draw.choice((damage_score, damage_told, damage_records)), draw)
        found = federation.test_clients()
        assert found["a"] == SCORES, seed
        if "c" in found:
            taken += 1
            assert found["c"] == dict(sent[0][messages.SCORES]), seed
            assert all(0 <= value <= 1 for name, value in found["c"].items() if name != "unmatched_queries"), seed
        else:
            assert "the scores of client c are left out" in caplog.text, seed
    assert 3 * TIMES < taken < 40 * TIMES


def read_or_told(read: Callable[[], Any]) -> tuple[Any, str]:
    """What was read, or what the error says; any other error than a ``ValueError`` ends the test."""
    try:
        return read(), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_damaged_packed_tracklets_are_named_or_read_as_they_were(tmp_path, encoding):
    frames = torch.randint(0, 256, (3, 3, 16, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "walk.safetensors"
    write_packed_tracklet(path, frames, encoding=encoding, metadata={"content": "abcd"})
    content = path.read_bytes()
    expected, metadata = PackedTracklet(path).read([0, 1, 2]), PackedTracklet(path).metadata
    named = 0
    for seed in range(75 * TIMES):
        path.write_bytes(damaged_bytes(content, random.Random(seed)))
        found, told = read_or_told(lambda: (*PackedTracklet(path).read([0, 1, 2]), PackedTracklet(path).metadata))
        if told:
            assert told.startswith(f"{path} is no "), seed
            named += 1
        else:
            assert all(torch.equal(left, right) for left, right in zip(expected, found)), seed
            assert found[2] == metadata, seed
    assert named > 60


def test_damaged_states_of_a_server_are_named_or_read_as_they_were(tmp_path):
    path = tmp_path / "server.safetensors"
    state = ServerState("FedPav", 3, trained("a", 2), CLIENTS, "0123456789abcdef", IMAGES)
    write_server_state(path, state)
    content = path.read_bytes()
    named = 0
    for seed in range(100 * TIMES):
        path.write_bytes(damaged_bytes(content, random.Random(seed)))
        found, told = read_or_told(lambda: read_server_state(path))
        if told:
            assert told.startswith(f"{path} is damaged"), seed
            named += 1
        else:
            assert replace(found, tensors={}) == replace(state, tensors={}), seed
            assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state.tensors.items()), seed
    assert named > 85
