"""What crosses the boundary, what is refused there, and what a server makes of what arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lightning_reid.federated import FedFace, FedFR, FedPav, FedUReID
from lightning_reid.federated.sharing import AllowList, LeakError, not_finite, payload_bytes
from lightning_reid.federated.strategies import Reply


def client_module(value: float, people: int) -> dict[str, Tensor]:
    """As the state dict of a client's module: a network, public and local proxies."""
    return {
        "network.conv.weight": torch.full((4, 3), value),
        "network.bn.running_mean": torch.full((4,), value),
        "network.bn.num_batches_tracked": torch.tensor(int(value)),
        "public_proxies": torch.full((5, 4), value),
        "local_proxies": torch.full((people, 4), value),
    }


def reply(strategy: FedPav, client: str, value: float, num_images: int, people: int = 2) -> Reply:
    module = client_module(value, people)
    return Reply(client, strategy.allow_list(module).pick(module), num_images)


def test_a_round_averages_what_is_shared_by_numbers_of_images():
    strategy = FedPav()
    state = strategy.begin(client_module(0.0, 2), ["b", "a"])
    report = strategy.aggregate(state, [reply(strategy, "a", 1.0, 10, people=3), reply(strategy, "b", 4.0, 20, people=7)])
    assert (report.used, report.left_out, report.repeat, state.round) == (["a", "b"], {}, False, 1)
    assert state.tensors["network.conv.weight"].unique().tolist() == [3.0]
    assert state.tensors["network.bn.num_batches_tracked"].item() == 4
    assert set(state.tensors) == {"network.conv.weight", "network.bn.running_mean", "network.bn.num_batches_tracked"}


def test_a_payload_has_the_bytes_of_the_shared_tensors_to_the_byte():
    pav, fr, module = FedPav(), FedFR(), client_module(1.0, 1000)
    network = 4 * 3 * 4 + 4 * 4 + 8
    assert payload_bytes(pav.allow_list(module).pick(module)) == pav.allow_list(module).num_bytes == network
    assert payload_bytes(fr.allow_list(module).pick(module)) == fr.allow_list(module).num_bytes == network + 5 * 4 * 4
    state = pav.begin(module, ["a"])
    assert pav.aggregate(state, [reply(pav, "a", 1.0, 1)]).bytes_up == {"a": network}
    assert payload_bytes(pav.download(state)) == network


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("images", torch.zeros(2, 3, 8, 4)),
        ("local_proxies", torch.zeros(2, 4)),
        ("network.conv.pids", torch.zeros(9, dtype=torch.int64)),
        ("network.conv.weight", torch.zeros(9, 3)),
        ("network.conv.weight", torch.zeros(4, 3, dtype=torch.float64)),
    ],
)
def test_a_planted_leak_is_refused_whatever_it_is_called(name, tensor):
    strategy = FedFR()
    state = strategy.begin(client_module(0.0, 2), ["a", "b"])
    honest = reply(strategy, "b", 2.0, 5)
    with pytest.raises(LeakError, match=name):
        strategy.allow_list(state.tensors).check({**honest.tensors, name: tensor})
    report = strategy.aggregate(state, [replace(honest, client="a", tensors={**honest.tensors, name: tensor}), honest])
    assert report.used == ["b"]
    assert name in report.left_out["a"]
    assert state.tensors["network.conv.weight"].unique().tolist() == [2.0]


def test_what_is_picked_for_sending_does_not_change_when_training_goes_on():
    module = client_module(1.0, 2)
    sent = FedPav().allow_list(module).pick(module)
    module["network.conv.weight"].add_(1)
    assert sent["network.conv.weight"].unique().tolist() == [1.0]


def test_broken_and_missing_replies_are_left_out_by_name_and_too_few_repeat_the_round():
    strategy = FedPav(quorum=0.5)
    state = strategy.begin(client_module(0.0, 2), ["a", "b", "c", "d"])
    broken = reply(strategy, "a", 1.0, 10)
    broken.tensors["network.conv.weight"][0, 0] = float("nan")
    short = replace(reply(strategy, "b", 1.0, 10), tensors={"network.conv.weight": torch.zeros(4, 3)})
    report = strategy.aggregate(state, [broken, short, reply(strategy, "c", 5.0, 1)])
    assert report.repeat
    assert report.left_out == {
        "a": "network.conv.weight is NaN or infinite",
        "b": "2 of 3 shared tensors are missing from the message, the first is network.bn.running_mean",
        "d": "no reply",
    }
    assert state.round == 0
    assert not state.tensors["network.conv.weight"].any()
    again = strategy.aggregate(state, [reply(strategy, "c", 5.0, 1), reply(strategy, "d", 5.0, 1)])
    assert (again.repeat, again.used, state.round) == (False, ["c", "d"], 1)


def test_numbers_that_overflow_in_their_sum_are_finite_and_a_single_nan_or_infinity_is_not():
    huge = torch.full((9,), 3e38)
    assert not_finite({"network.huge": huge, "count": torch.tensor(3)}) is None
    for broken in (float("nan"), float("inf"), -float("inf")):
        tensors = {"network.huge": huge, "network.bad": torch.tensor([1.0, broken, -broken, 2.0])}
        assert not_finite(tensors) == "network.bad"


def test_personalized_updates_keep_a_share_of_the_clients_own_model():
    local, server = (FedPav().allow_list(client_module(v, 1)).pick(client_module(v, 1)) for v in (2.0, 4.0))
    assert FedUReID(local_share=0.25).receive(local, server)["network.conv.weight"].unique().tolist() == [3.5]
    assert FedUReID(local_share=0.0).receive(local, server)["network.conv.weight"].unique().tolist() == [4.0]
    assert FedPav().receive(local, server)["network.conv.weight"].unique().tolist() == [4.0]


def test_replies_nobody_asked_for_weights_that_are_none_and_other_networks_are_refused():
    strategy = FedPav()
    state = strategy.begin(client_module(0.0, 2), ["a", "b"])
    with pytest.raises(ValueError, match="'c' answered twice or was not asked"):
        strategy.aggregate(state, [reply(strategy, "c", 1.0, 1)])
    with pytest.raises(ValueError, match="'a' answered twice"):
        strategy.aggregate(state, [reply(strategy, "a", 1.0, 1)] * 2)
    nothing = strategy.aggregate(state, [reply(strategy, "a", 1.0, 0), reply(strategy, "b", 1.0, True)])
    assert nothing.repeat
    assert nothing.left_out == {
        "a": "it says it trained on 0 images, expected a whole number of at least 1",
        "b": "it says it trained on True images, expected a whole number of at least 1",
    }
    assert state.round == 0
    with pytest.raises(ValueError, match=r"quorum must be a number in \(0, 1\], got 0"):
        FedPav(quorum=0)
    with pytest.raises(ValueError, match="no tensor's name begins with 'backbone'"):
        AllowList.of(client_module(0.0, 1), ["backbone"])
    with pytest.raises(ValueError, match=r"clients of different ids, got \['a', 'a'\]"):
        strategy.begin(client_module(0.0, 1), ["a", "a"])


def test_a_server_does_not_go_on_with_another_strategy_network_or_other_clients():
    state = FedUReID().begin(client_module(0.0, 2), ["a", "b"])
    FedUReID().check_resumed(state, client_module(1.0, 9), ["b", "a"])
    with pytest.raises(ValueError, match="the server's state is of FedUReID, this is FedPav"):
        FedPav().check_resumed(state, client_module(0.0, 2), ["a", "b"])
    with pytest.raises(ValueError, match=r"\['b'\] are missing, \['c'\] are new"):
        FedUReID().check_resumed(state, client_module(0.0, 2), ["a", "c"])
    wider = {**client_module(0.0, 2), "network.conv.weight": torch.zeros(8, 3)}
    with pytest.raises(ValueError, match=r"network\.conv\.weight has shape \[8, 3\] in one model"):
        FedUReID().check_resumed(state, wider, ["a", "b"])


def test_fedface_averages_networks_spreads_the_proxies_of_all_and_gives_each_client_its_own_back():
    strategy = FedFace(margin=1.0, rate=0.05)
    modules = {"a": client_module(1.0, 2), "b": client_module(3.0, 1)}
    modules["a"]["local_proxies"] = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    modules["b"]["local_proxies"] = torch.tensor([[0.9, 0.1, 0.0, 0.0]])
    state = strategy.begin(modules["a"], ["a", "b"])
    assert "local_proxies" not in strategy.download(state, "a")  # the server knows none yet
    replies = [Reply(client, strategy.allow_list(module).pick(module), 10) for client, module in modules.items()]
    report = strategy.aggregate(state, replies)
    assert (report.used, state.round) == (["a", "b"], 1)
    assert state.tensors["network.conv.weight"].unique().tolist() == [2.0]
    assert report.bytes_up["a"] - report.bytes_up["b"] == 4 * 4  # a row of four floats more
    back = {client: strategy.download(state, client) for client in modules}
    assert {client: tuple(message["local_proxies"].shape) for client, message in back.items()} == {"a": (2, 4), "b": (1, 4)}

    def cosine(left: Tensor, right: Tensor) -> float:
        return float(torch.cosine_similarity(left, right, dim=0))

    before = cosine(modules["a"]["local_proxies"][0], modules["b"]["local_proxies"][0])
    assert cosine(back["a"]["local_proxies"][0], back["b"]["local_proxies"][0]) < before
    torch.testing.assert_close(back["a"]["local_proxies"][1, :2] @ torch.tensor([0.0, 1.0]), torch.tensor(1.0), atol=0.02, rtol=0)
    received = strategy.receive(strategy.allow_list(modules["a"]).pick(modules["a"]), back["a"])
    assert torch.equal(received["local_proxies"], back["a"]["local_proxies"])
    strategy.check_resumed(state, modules["b"], ["a", "b"])


def test_fedface_refuses_proxies_that_are_none_and_does_not_answer_strangers():
    strategy = FedFace(quorum=0.5)
    state = strategy.begin(client_module(0.0, 2), ["a", "b"])
    good, bad = (Reply(client, strategy.allow_list(client_module(1.0, 2)).pick(client_module(1.0, 2)), 1) for client in ("a", "b"))
    bad = replace(bad, tensors={**bad.tensors, "local_proxies": torch.full((2, 7), 1.0)})
    report = strategy.aggregate(state, [good, bad])
    assert report.used == ["a"]
    assert "local_proxies, torch.float32 of shape [2, 7], is not on the list" in report.left_out["b"]
    with pytest.raises(ValueError, match="must know whom it asks"):
        strategy.download(state)
    with pytest.raises(ValueError, match=r"(margin must be a number in \(0, 2\)|rate must be a number in \(0)"):
        FedFace(rate=0.0)


def test_a_client_may_say_fewer_images_than_when_it_signed_up_and_never_more():
    strategy = FedPav(max_images=20)
    state = strategy.begin(client_module(0.0, 2), ["a", "b"])
    assert strategy.aggregate(state, [reply(strategy, "a", 1.0, 21), reply(strategy, "b", 1.0, 20)]).left_out == {
        "a": "it says it trained on 21 images, at most 20 may be (max_images of the strategy)"
    }
    assert strategy.aggregate(state, [reply(strategy, "a", 1.0, 5), reply(strategy, "b", 1.0, 3)]).used == ["a", "b"]
    assert state.signed_up == {"a": 5, "b": 20}
    assert strategy.aggregate(state, [reply(strategy, "a", 1.0, 6), reply(strategy, "b", 1.0, 20)]).left_out == {
        "a": "it says it trained on 6 images, it signed up with 5"
    }
    with pytest.raises(ValueError, match=r"max_images must be a whole number of at least 1, got 0$"):
        FedPav(max_images=0)


def test_proxies_that_overflow_are_refused_like_weights_that_do():
    strategy = FedFace()
    state = strategy.begin(client_module(0.0, 2), ["a", "b"])
    replies = [Reply(client, strategy.allow_list(client_module(1.0, 2)).pick(client_module(1.0, 2)), 1) for client in ("a", "b")]
    replies[1].tensors["local_proxies"][0, 0] = 3e38
    report = strategy.aggregate(state, replies)
    assert report.used == ["a"]
    assert "local_proxies" in report.left_out["b"]


@pytest.mark.parametrize("strategy", [FedPav(), FedUReID(), FedFR(), FedFace()])
def test_a_client_takes_what_its_server_sends_and_neither_another_networks_nor_what_no_training_leaves(strategy):
    own = client_module(1.0, 2)
    sent = strategy.download(strategy.begin(own, ["a"]), "a")
    strategy.check_download(own, sent)
    with pytest.raises(ValueError, match=r"the server's message is not of this client's network: network\.conv\.weight"):
        strategy.check_download(own, {**sent, "network.conv.weight": torch.zeros(4, 3, dtype=torch.float64)})
    with pytest.raises(ValueError, match=r"the server's message is not of this client's network: .* the first is network\.conv\.weight"):
        strategy.check_download(own, {name: tensor for name, tensor in sent.items() if name != "network.conv.weight"})
    with pytest.raises(ValueError, match=r"no training leaves behind: network\.bn\.running_mean is NaN or infinite"):
        strategy.check_download(own, {**sent, "network.bn.running_mean": torch.full((4,), torch.nan)})
