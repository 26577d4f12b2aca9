"""A federation over Flower: the same as in one process, and what comes of clients that are late, lost or not what they say."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message
from one_process_grid import OneProcessGrid, as_a_run

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import FederatedData
from lightning_reid.federated import FedUReID
from lightning_reid.federation import Client, Federation, LocalTraining
from lightning_reid.federation.flower import FlowerFederation, client_app
from lightning_reid.federation.messages import CLIENT, MODEL
from lightning_reid.modules import BottomUpReID

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}


@pytest.fixture(autouse=True)
def a_run(monkeypatch):
    as_a_run(monkeypatch)


@pytest.fixture
def members(market_folder):
    """Makes the same three clients each time, as a process that a message starts would."""

    def make() -> dict[str, Client]:
        options = {"image_size": (64, 32), "num_workers": 0, "crop_padding": 2, "batch_size": 8}
        data = FederatedData([str(market_folder)], "identity", num_clients=3, unlabeled=True, **options)
        data.setup()
        found = {}
        for name, one in data.clients.items():
            torch.manual_seed(0)
            found[name] = Client(name, BottomUpReID(**TINY), one, [BottomUpClustering(num_merges=2, merge_at_start=True)])
        return found

    return make


def over_flower(members, folder, tamper=None, names=("client0", "client1", "client2"), **options) -> FlowerFederation:
    strategy = FedUReID()

    def build(context: Context) -> LocalTraining:
        name = str(context.node_config["client"])
        return LocalTraining(members()[name], strategy, folder / f"{name}.ckpt", "cpu")

    tensors = members()["client0"].module.state_dict()
    clients = ["client0", "client1", "client2"]
    options = {"patience": 0.0, "quiet": True} | options
    return FlowerFederation(OneProcessGrid(client_app(build), names, tamper), strategy, tensors, clients, folder / "server", **options)


def test_it_gives_what_a_federation_in_one_process_gives_whatever_the_order_of_the_nodes(members, tmp_path):
    here = Federation(FedUReID(), list(members().values()), tmp_path / "here", accelerator="cpu", quiet=True)
    here.fit(2)
    there = over_flower(members, tmp_path, names=("client2", "client0", "client1"))
    there.fit(2)
    for name, tensor in here.state.tensors.items():
        assert torch.equal(there.state.tensors[name], tensor), name
    assert [one.report for one in there.rounds] == [one.report for one in here.rounds]
    assert [(one.steps, one.bytes_down) for one in there.rounds] == [(one.steps, one.bytes_down) for one in here.rounds]
    assert there.test_clients() == here.test_clients()
    assert {path.name for path in (tmp_path / "server").iterdir()} == {"server.safetensors", "rounds.json"}
    told = json.loads((tmp_path / "server" / "rounds.json").read_text())["rounds"]
    assert [one["report"]["used"] for one in told] == [["client0", "client1", "client2"]] * 2


def test_a_server_that_asks_again_gets_the_fit_that_was_done(members, tmp_path):
    over_flower(members, tmp_path).fit(1)
    first = torch.load(tmp_path / "client1.ckpt", weights_only=True)
    for file in (tmp_path / "server").iterdir():  # killed before it could write what became of the round
        if file.name == "rounds.json":
            file.unlink()
    (tmp_path / "server" / "replies-killed").mkdir()
    forgotten = over_flower(members, tmp_path, resume=True)
    assert not (tmp_path / "server" / "replies-killed").exists()
    forgotten.state.round = 0
    forgotten.fit(1)
    second = torch.load(tmp_path / "client1.ckpt", weights_only=True)
    assert second["fit"] == first["fit"]
    assert all(torch.equal(second["state_dict"][name], tensor) for name, tensor in first["state_dict"].items())


def test_a_resumed_server_goes_on_with_a_quorum_once_its_grace_is_over_and_at_once_where_all_are_back(members, tmp_path, caplog):
    over_flower(members, tmp_path).fit(1)
    resumed = over_flower(members, tmp_path, names=("client0", "client2"), resume=True, grace=0.5, patience=600.0)
    began = time.monotonic()
    assert resumed._connected(2) == [1, 2]
    assert 0.5 <= time.monotonic() - began < 300
    resumed.fit(2)
    assert resumed.rounds[-1].report.used == ["client0", "client2"]
    assert "were waited for" not in caplog.text
    back = over_flower(members, tmp_path, resume=True, grace=600.0, patience=600.0)
    began = time.monotonic()
    assert back.fit(3).round == 3
    assert time.monotonic() - began < 300


def test_the_first_round_waits_for_all_nodes_as_long_as_patience_lasts(members, tmp_path, caplog):
    first = over_flower(members, tmp_path, names=("client0", "client2"), grace=0.0, patience=0.5)
    assert first._connected(2) == [1, 2]
    assert "2 nodes are connected after 0.5 s, 3 were waited for" in caplog.text


def test_clients_that_are_late_lost_leaking_or_somebody_else_are_left_out_by_name(members, tmp_path):
    federation = over_flower(members, tmp_path, deadline=1000.0, attempts=1)
    federation.fit(1)
    grid = federation.grid

    def lost(node, asked, reply):
        if node == 1:
            return Message(Error(code=5, reason="the node is gone"), reply_to=asked)
        if node == 2:
            image = torch.zeros(3, 64, 32)
            reply.content[MODEL] = ArrayRecord({**reply.content.array_records[MODEL], "network.image": Array(image.numpy())})
        return reply

    grid.tamper = lost
    with pytest.raises(RuntimeError, match="round 1 found too few replies 1 times"):
        federation.fit(2)
    assert federation.rounds[-1].report.used == ["client2"]
    left_out = federation.rounds[-1].report.left_out
    assert left_out["client0"] == "the node is gone"
    assert "'network.image', 'float32' of shape (3, 64, 32), is not on the list" in left_out["client1"]

    def broken(node, asked, reply):
        if node == 1:
            reply.content[MODEL] = ArrayRecord({"network.name": Array(np.array(["a text"]))})
        if node == 3:
            reply.content[CLIENT] = ConfigRecord({"id": "stranger", "num_images": 10**9})
        return reply

    grid.tamper = broken
    with pytest.raises(RuntimeError):
        federation.fit(2)
    assert federation.rounds[-1].report.used == ["client1"]
    assert all("its reply cannot be read" in reason for reason in federation.rounds[-1].report.left_out.values())
    assert "'stranger', who is none of" in federation.rounds[-1].report.left_out["client2"]

    def pretending(node, asked, reply):
        if node == 1:
            reply.content[CLIENT] = ConfigRecord({"id": "client1", "num_images": 10})
        return reply

    grid.tamper = pretending
    federation.fit(2)
    assert federation.rounds[-1].report.used == ["client1", "client2"]
    assert "it says that it is client1, and was client0: resume the server" in federation.rounds[-1].report.left_out["client0"]

    grid.tamper = lambda node, asked, reply: None if node == 3 else reply
    federation.deadline = 6.0  # the nodes answer while they are asked
    federation.fit(3)
    assert federation.rounds[-1].report.used == ["client0", "client1"]
    assert federation.rounds[-1].report.left_out == {"client2": "no reply after 6 s"}


def test_states_of_another_federation_and_numbers_out_of_range_are_refused(members, tmp_path):
    over_flower(members, tmp_path / "a").fit(1)
    with pytest.raises(FileExistsError, match="holds the state of a federation"):
        over_flower(members, tmp_path / "a")
    (tmp_path / "a" / "server").rename(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"client0\.ckpt holds what client client0 learned in another federation: remove it"):
        over_flower(members, tmp_path / "a").fit(1)
    with pytest.raises(ValueError, match=r"deadline must be a number in \(0, "):
        over_flower(members, tmp_path / "b", deadline=0.0)
    with pytest.raises(ValueError, match=r"nodes are waited for 0 seconds or more, got patience=0\.0, grace=-1"):
        over_flower(members, tmp_path / "b", grace=-1)
