"""Clients over Flower that send what they must not: each is left out by name, and the others go on as if it had said nothing."""

from __future__ import annotations

import io
import math
import pickle
import re

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord
from one_process_grid import CLIENTS, IMAGES, SCORES, START, OneProcessGrid, as_a_run, honest_client, trained

from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import WeightedAverage
from lightning_reid.federation import messages
from lightning_reid.federation.client import LocalFit, LocalRound
from lightning_reid.federation.flower import FlowerFederation

WEIGHT, VARIANCE, COUNTER = "network.conv.weight", "network.bn.running_var", "network.bn.num_batches_tracked"
OPENED = []


@pytest.fixture(autouse=True)
def a_run(monkeypatch):
    as_a_run(monkeypatch)
    monkeypatch.setattr("lightning_reid.federation.flower_nodes.SECONDS_BETWEEN_LOOKS", 0.0)


@pytest.fixture
def federation(tmp_path) -> FlowerFederation:
    grid = OneProcessGrid(honest_client, CLIENTS)
    return FlowerFederation(grid, FedPav(), START, CLIENTS, tmp_path, patience=0.0, attempts=1, quiet=True)


class Bomb:
    def __reduce__(self):
        return OPENED.append, ("it was executed",)


def npy(header: str, numbers: bytes = bytes(48)) -> bytes:
    head = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + numbers


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[Bomb()] * 3] * 4, dtype=object), allow_pickle=True)
    return file.getvalue()


def array(data: bytes, shape: tuple[int, ...] = (4, 3), dtype: str = "float32", stype: str = "numpy.ndarray", name: str = WEIGHT):
    return lambda content: content[messages.MODEL].__setitem__(name, Array(dtype, shape, stype, data))


def number(name: str, *values: float):
    dtype = np.int64 if name == COUNTER else np.float32
    value = np.resize(np.array(values, dtype), tuple(START[name].shape))
    return lambda content: content[messages.MODEL].__setitem__(name, Array(value))


def told(record: str, name: str, value: object):
    return lambda content: content[record].__setitem__(name, value)


def without(record: str, name: str | None = None):
    return lambda content: content.__delitem__(record) if name is None else content[record].__delitem__(name)


def instead(record: str, value: object):
    return lambda content: content.__setitem__(record, value)


LIES = {
    "an array of 0 bytes": (array(b""), "network.conv.weight must have 48 bytes and a header, got 0 bytes"),
    "a header that is cut": (array(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,")), "does not begin as NumPy writes float32"),
    "a trillion floats in the header": (
        array(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }")),
        "does not begin as NumPy writes",
    ),
    "a trillion floats": (array(npy(""), (10**12,)), "must be float32 of shape [4, 3], got 'float32', (1000000000000,)"),
    "an object array": (array(pickled()), "does not begin as NumPy writes"),
    "a bare pickle": (array(pickle.dumps([Bomb()] * 99)), "does not begin as NumPy writes"),
    "a pickle that says so": (array(pickled(), dtype="object"), "got 'object', (4, 3)"),
    "another serialization": (array(pickled(), stype="pickle"), "got 'float32', (4, 3), 'pickle'"),
    "the other byte order": (array(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (4, 3), }")), "does not begin as NumPy"),
    "a transposed shape": (array(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }")), "does not begin as NumPy"),
    "a number too many": (array(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }", bytes(52))), "does not begin as NumPy"),
    "a truth value of 7": (
        array(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (4,), }", b"\0\1\7\0"), (4,), "bool", name="network.frozen"),
        "network.frozen holds truth values that are neither 0 nor 1",
    ),
    "an array more": (array(npy(""), name="network.image"), "'network.image', 'float32' of shape (4, 3), is not on the list"),
    "an array less": (without(messages.MODEL, WEIGHT), "1 of 5 shared tensors are missing, the first is network.conv.weight"),
    "images of True": (told(messages.CLIENT, "num_images", True), "it trained on True images, expected a whole number"),
    "images of a float": (told(messages.CLIENT, "num_images", 20.0), "it trained on 20.0 images, expected a whole number"),
    "images of a text": (told(messages.CLIENT, "num_images", "many"), "it trained on 'many' images, expected a whole number"),
    "images of a list": (told(messages.CLIENT, "num_images", [20]), "it trained on [20] images, expected a whole number"),
    "no images": (told(messages.CLIENT, "num_images", 0), "it trained on 0 images, expected a whole number of at least 1"),
    "images below 0": (told(messages.CLIENT, "num_images", -5), "it trained on -5 images, expected a whole number of at least 1"),
    "images of 2^62": (told(messages.CLIENT, "num_images", 2**62), f"it trained on {2**62} images, it signed up with 20"),
    "an image more than at sign-up": (told(messages.CLIENT, "num_images", 21), "it trained on 21 images, it signed up with 20"),
    "the round before": (told(messages.FIT, "round", 0), "it is of round (0, 0), asked was (1, 0)"),
    "the next attempt": (told(messages.FIT, "attempt", 1), "it is of round (1, 1), asked was (1, 0)"),
    "a round of True": (told(messages.FIT, "round", True), "round must be a whole number in 0 to"),
    "other bytes than were sent": (told(messages.FIT, "bytes_down", 7), "it says that 7 bytes came down, 92 were sent"),
    "steps below 0": (told(messages.FIT, "steps", -1), "steps must be a whole number in 0 to"),
    "seconds that are NaN": (told(messages.FIT, "seconds", math.nan), "seconds must be a finite number of seconds, 0 or more, got nan"),
    "a problem that is a number": (told(messages.FIT, "problem", 3), "problem must be a line of at most 1000 characters, got 3"),
    "a problem as long as a book": (told(messages.FIT, "problem", "x" * 10**6), "problem must be a line of at most 1000 characters"),
    "a problem, and a model with it": (told(messages.FIT, "problem", "tired"), "holds a model of a fit that cannot be used (tired)"),
    "a stranger": (told(messages.CLIENT, "id", "d"), "it says that it is 'd', who is none of ['a', 'b', 'c']"),
    "another client": (told(messages.CLIENT, "id", "b"), "it says that it is b, and was c: resume the server, if nodes have"),
    "an id that is a number": (told(messages.CLIENT, "id", 3), "it says that it is 3, who is none of"),
    "something more about itself": (
        told(messages.CLIENT, "rank", 1),
        "its client must tell id, num_images, got ['id', 'num_images', 'rank']",
    ),
    "nothing of its steps": (without(messages.FIT, "steps"), "it must tell attempt, bytes_down, problem, round, seconds, steps"),
    "no model": (without(messages.MODEL), "its model must be one ArrayRecord, got NoneType"),
    "no fit": (without(messages.FIT), "it must hold client, fit, and has too many or too few: ['fit']"),
    "no id": (without(messages.CLIENT), "it must hold client, fit, and has too many or too few: ['client']"),
    "the model twice": (lambda content: content.__setitem__("model2", content[messages.MODEL]), "has too many or too few: ['model2']"),
    "a fit that is a metric": (instead(messages.FIT, MetricRecord({"round": 1})), "its fit must be one ConfigRecord, got MetricRecord"),
    "a model that is a text": (instead(messages.MODEL, ConfigRecord({"a": "b"})), "its model must be one ArrayRecord, got ConfigRecord"),
    "a model that is empty": (instead(messages.MODEL, ArrayRecord()), "5 of 5 shared tensors are missing"),
    "nothing": (
        lambda content: [content.__delitem__(name) for name in list(content)],
        "it must hold client, fit, and has too many or too few",
    ),
    "a variance below 0": (number(VARIANCE, 1.0, -1e-6), "network.bn.running_var is a variance of -1e-06, expected 0 or more"),
    "a weight that overflows": (number(WEIGHT, 3e38, 0.0), "network.conv.weight has numbers from 0 to 3e+38, expected less than"),
    "a weight that is NaN": (number(WEIGHT, 0.0, math.nan), "network.conv.weight is NaN or infinite"),
    "a weight that is infinite": (number(WEIGHT, 0.0, -math.inf), "network.conv.weight is NaN or infinite"),
    "a counter at the end": (number(COUNTER, 2**63 - 1), f"{COUNTER} counts from {2**63 - 1} to {2**63 - 1}, expected 0 to {2**53}"),
    "a counter below 0": (number(COUNTER, -1), f"{COUNTER} counts from -1 to -1, expected 0 to {2**53}"),
}


@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES)
def test_a_client_that_lies_is_left_out_by_name_and_the_others_are_averaged(federation, caplog, lie, reason):
    federation.fit(1)
    assert federation.rounds[0].report.used == CLIENTS

    def lies(node, asked, reply):
        if node == 3:
            lie(reply.content)
        return reply

    federation.grid.tamper = lies
    federation.fit(2)
    report = federation.rounds[1].report
    assert report.used == ["a", "b"]
    assert [*report.left_out] == ["c"]
    assert reason in report.left_out["c"]
    assert "client c is left out" in caplog.text
    others = WeightedAverage()
    for client in ("a", "b"):
        others.add(trained(client, 1), IMAGES[client])
    for name, tensor in others.result().items():
        assert torch.equal(federation.state.tensors[name], tensor), name
    assert OPENED == []


def test_a_client_that_lied_once_is_back_with_its_next_true_reply_and_too_many_liars_repeat_the_round(federation):
    def lies(node, asked, reply):
        LIES["no fit"][0](reply.content)
        return reply

    federation.grid.tamper = lies
    with pytest.raises(RuntimeError, match=r"round 0 found too few replies 1 times; left out: .*node 3 \(its reply cannot be read"):
        federation.fit(1)
    assert all(torch.equal(tensor, START[name]) for name, tensor in federation.state.tensors.items())
    federation.grid.tamper = lambda node, asked, reply: reply
    federation.fit(1)
    assert federation.rounds[-1].report.used == CLIENTS


def test_a_node_that_nobody_knows_is_told_by_its_number_and_a_client_signs_up_within_bounds(federation, tmp_path):
    def lies(node, asked, reply):
        if node == 2:
            LIES["images of 2^62"][0](reply.content)
        if node == 3:
            LIES["an array of 0 bytes"][0](reply.content)
        return reply

    federation.strategy.quorum, federation.grid.tamper = 0.3, lies
    federation.fit(1)
    left_out = federation.rounds[0].report.left_out
    assert left_out["c"] == "no reply"
    assert "must have 48 bytes" in left_out["node 3"]
    assert left_out["b"] == f"it says it trained on {2**62} images, at most 10000000 may be (max_images of the strategy)"
    assert federation.state.signed_up == {"a": 30}
    again = FlowerFederation(federation.grid, FedPav(), START, CLIENTS, tmp_path, patience=0.0, quiet=True, resume=True)
    assert again.state.signed_up == {"a": 30}


def test_of_nodes_that_say_they_are_one_client_the_one_that_was_it_before_is_believed(federation):
    def lies(node, asked, reply):
        if node in (3, 4):
            reply.content[messages.CLIENT]["id"] = "b"
        return reply

    federation.strategy.quorum, federation.grid.tamper = 0.3, lies
    federation.fit(1)
    assert federation.rounds[0].report.left_out == {"b": "2 nodes say that they are it", "c": "no reply"}
    federation.grid.tamper = lambda node, asked, reply: reply
    federation.fit(2)
    assert federation.rounds[1].report.used == CLIENTS
    federation.grid.nodes[4], federation.grid.tamper = "c", lies
    federation.fit(3)
    report = federation.rounds[2].report
    assert report.used == ["a", "b"]
    assert report.left_out.keys() == {"c", "node 4"}
    assert report.left_out["node 4"] == "it says that it is b, who is node 2"


def test_a_reply_that_flower_cannot_put_together_and_one_that_tells_a_story_are_left_out(federation):
    federation.fit(1)
    pull = federation.grid.pull_messages

    def malformed(ids):
        if [one.partition("-")[0] for one in ids] == ["2"]:
            raise KeyError("arraychunk_ids")
        return pull(ids)

    federation.strategy.quorum, federation.grid.pull_messages = 0.3, malformed
    story = "gone\n\x1b[2J" + "x" * 5000
    federation.grid.tamper = lambda node, asked, reply: Message(Error(5, story), reply_to=asked) if node == 3 else reply
    federation.fit(2)
    assert federation.rounds[1].report.left_out == {
        "b": "its reply cannot be put together: KeyError('arraychunk_ids')",
        "c": ("gone  [2J" + "x" * 5000)[:1000],
    }


SCORE_LIES = {
    "no scores": (without(messages.SCORES), "has too many or too few: ['scores']"),
    "scores without any": (instead(messages.SCORES, MetricRecord()), "it holds 0 scores, expected at most 100 and mAP, R1, unmatched"),
    "scores without mAP": (without(messages.SCORES, "mAP"), "it holds 2 scores, expected at most 100 and mAP, R1, unmatched_queries among"),
    "scores that are a text": (
        instead(messages.SCORES, ConfigRecord({"mAP": "1"})),
        "its scores must be one MetricRecord, got ConfigRecord",
    ),
    "a score that is NaN": (told(messages.SCORES, "mAP", math.nan), "its score 'mAP' must lie in [0, 1], got nan"),
    "a score above 1": (told(messages.SCORES, "R1", 1.5), "its score 'R1' must lie in [0, 1], got 1.5"),
    "a score below 0": (told(messages.SCORES, "R5", -0.1), "its score 'R5' must lie in [0, 1], got -0.1"),
    "a score that is a list": (told(messages.SCORES, "mAP", [0.5, 0.6]), "its score 'mAP' must be a number, got [0.5, 0.6]"),
    "a score that colors the terminal": (told(messages.SCORES, "x\x1b[31m\n", 0.5), r"its score 'x\x1b[31m\n' must be of 1 to 100 letters"),
    "a score that draws a table": (told(messages.SCORES, "R1|", 0.5), "the name of its score 'R1|' must be of 1 to 100 letters, digits"),
    "a score whose name is long": (told(messages.SCORES, "x" * 10**6, 0.5), "xxx' must be of 1 to 100 letters, digits and _./-"),
    "a score without a name": (told(messages.SCORES, "", 0.5), "the name of its score '' must be of 1 to 100 letters, digits and _./-"),
    "half a query": (told(messages.SCORES, "unmatched_queries", 0.5), "its unmatched_queries must be a whole number, 0 or more, got 0.5"),
    "infinitely many queries": (told(messages.SCORES, "unmatched_queries", math.inf), "must be a whole number, 0 or more, got inf"),
    "scores of a client that was not asked": (told(messages.CLIENT, "id", "d"), "it says that it is 'd', who is none of"),
    "scores of another client": (told(messages.CLIENT, "id", "b"), "it says that it is b, and was c: resume the server, if nodes have"),
    "scores of another round": (told(messages.CLIENT, "round", 2), "it is of round 2, asked was 1"),
    "scores of the round True": (told(messages.CLIENT, "round", True), "it is of round True, asked was 1"),
    "a model beside the scores": (instead(messages.MODEL, ArrayRecord()), "has too many or too few: ['model']"),
}


@pytest.mark.parametrize(("lie", "reason"), SCORE_LIES.values(), ids=SCORE_LIES)
def test_scores_that_are_none_are_left_out_by_name_and_the_others_are_told(federation, caplog, lie, reason):
    federation.fit(1)
    assert federation.test_clients() == dict.fromkeys(CLIENTS, SCORES)

    def lies(node, asked, reply):
        if node == 3:
            lie(reply.content)
        return reply

    federation.grid.tamper = lies
    assert federation.test_clients() == dict.fromkeys(["a", "b"], SCORES)
    assert any("the scores of client c are left out: " in line and reason in line for line in caplog.messages)


def request(**changes: object) -> Message:
    content = messages.fit_request(LocalRound("f", 2), START)
    for name, value in changes.items():
        content[messages.ASKED][name] = value
    return Message(content, 1, MessageType.TRAIN)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": -1}, "round must be a whole number in 0 to"),
        ({"round": 1.0}, "round must be a whole number in 0 to"),
        ({"epochs": 0}, "epochs must be a whole number in 1 to"),
        ({"attempt": 3}, "attempt must be below the number of attempts, got 3 of 3"),
        ({"deadline": -math.inf}, "deadline must be a finite number of seconds, 0 or more, got -inf"),
        ({"federation": 7}, "federation must be a line of at most 1000 characters, got 7"),
        ({"secret": 1}, "it must tell attempt, attempts, deadline, epochs, federation, lr_factor, round, seed, got"),
    ],
)
def test_a_server_that_asks_what_nobody_asks_is_refused_by_its_clients(changes, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        messages.read_fit_request(request(**changes), FedPav().allow_list(START))


def test_a_client_takes_a_servers_arrays_only_as_its_own_network_has_them():
    wider = FedPav().allow_list(START | {WEIGHT: torch.zeros(5, 3)})
    with pytest.raises(ValueError, match=r"network\.conv\.weight must be float32 of shape \[5, 3\], got 'float32', \(4, 3\)"):
        messages.read_fit_request(request(), wider)
    with pytest.raises(ValueError, match="it is empty"):
        messages.read_fit_request(Message(Error(1, "x"), reply_to=request()), wider)
    asked, tensors = messages.read_fit_request(request(), FedPav().allow_list(START))
    assert asked == LocalRound("f", 2)
    assert all(torch.equal(tensor, START[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.uint8, torch.bool])
def test_arrays_of_every_type_and_order_arrive_as_they_were_sent(dtype):
    numbers = torch.arange(24).reshape(2, 3, 4).to(dtype)
    sent = {"whole": numbers, "turned": numbers[0].T, "strided": numbers[:, ::2], "scalar": numbers[1, 1, 1], "empty": numbers[:0]}
    allowed = FedPav(("",)).allow_list(sent)
    asked = messages.fit_request(LocalRound("f", 0), sent)
    _, found = messages.read_fit_request(Message(asked, 1, MessageType.TRAIN), allowed)
    assert all(torch.equal(found[name], tensor) and found[name].is_contiguous() for name, tensor in sent.items())


def test_a_fit_that_cannot_be_used_comes_without_a_model():
    fit = LocalFit(2, 0, "it passed its deadline of 5 s", 92, 6.0, 1)
    reply = Message(messages.fit_reply(fit, messages.Reply("a", {}, 30)), reply_to=request())
    found, nothing = messages.read_fit_reply(reply, LocalRound("f", 2), FedPav().allow_list(START), CLIENTS)
    assert (found, dict(nothing.tensors), nothing.num_images) == (fit, {}, 30)
