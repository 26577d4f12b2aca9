"""A federation in one process: what rounds give, what is left out, and runs that go on where they were killed."""

from __future__ import annotations

import json
import resource
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import save
from typing_extensions import override

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import FederatedData
from lightning_reid.federated import FedPav, FedUReID
from lightning_reid.federated.strategies import ServerState
from lightning_reid.federation import Client, Federation
from lightning_reid.federation.client import LocalFit, LocalRound
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.federation.server_state import read_server_state, write_server_state
from lightning_reid.modules import BottomUpReID, SupervisedReID
from lightning_reid.recipes.workshop.round_scores import RoundScores, print_rounds

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}


class Trap(pl.Callback):
    """Spoils a round of a client: ``"nan"`` in its weights, or ``"die"`` of an error."""

    def __init__(self, what: str, fit: int = 0) -> None:
        self.what, self.fit, self.fits = what, fit, -1

    @override
    def on_fit_start(self, trainer, pl_module) -> None:
        self.fits += 1

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.fits == self.fit and self.what == "die":
            raise RuntimeError("out of power")
        if self.fits == self.fit and self.what == "nan":
            with torch.no_grad():
                next(pl_module.network.parameters()).fill_(torch.nan)


def clients(folder, unlabeled: bool = False, traps: dict[str, pl.Callback] | None = None, **options) -> list[Client]:
    sizes = {"image_size": (64, 32), "num_workers": 0, "crop_padding": 2} | ({"batch_size": 8} if unlabeled else {"p": 2, "k": 2})
    data = FederatedData([str(folder)], "identity", num_clients=3, held_out=0.4, unlabeled=unlabeled, **sizes)
    data.setup()
    found = []
    for number, (name, one) in enumerate(data.clients.items()):
        torch.manual_seed(number)
        callbacks: list[pl.Callback] = [BottomUpClustering(initial_epochs=99, num_merges=2, merge_at_start=True)] if unlabeled else []
        callbacks += [traps[name]] if traps and name in traps else []
        module = BottomUpReID(**(TINY | options)) if unlabeled else SupervisedReID(**(TINY | options))
        found.append(Client(name, module, one, callbacks))
    return found


def federation(members, folder, strategy=None, **options) -> Federation:
    return Federation(strategy or FedPav(), members, folder, accelerator="cpu", quiet=True, **options)


def test_rounds_average_networks_keep_classifiers_local_and_count_bytes(market_folder, tmp_path):
    members = clients(market_folder)
    run = federation(members, tmp_path, epochs=1)
    state = run.fit(2)
    assert state.round == 2
    tensors = [member.module.state_dict() for member in members]
    weights = torch.tensor([member.num_images for member in members], dtype=torch.float64)
    for name, average in state.tensors.items():
        assert name.startswith("network.")
        if average.is_floating_point():
            plain = sum(w * one[name].double() for w, one in zip(weights, tensors)) / weights.sum()
            torch.testing.assert_close(average, plain.float(), msg=name)
    network = sum(tensor.numel() * tensor.element_size() for name, tensor in tensors[0].items() if name.startswith("network."))
    for one in run.rounds:
        assert set(one.bytes_down.values()) == set(one.report.bytes_up.values()) == {network}
        assert all(steps > 0 for steps in one.steps.values())
    saved = json.loads((tmp_path / "rounds.json").read_text())["rounds"]
    assert [one["report"]["used"] for one in saved] == [["client0", "client1", "client2"]] * 2
    personal, server = run.test_clients(), run.test_server()
    assert set(personal) == set(server) == {"client0", "client1", "client2"}
    assert all(0 < scores["mAP"] <= 1 for scores in (*personal.values(), *server.values()))
    for member, before in zip(members, tensors):  # testing the server's model leaves personal ones as they were
        assert all(torch.equal(tensor, before[name]) for name, tensor in member.module.state_dict().items())


@pytest.mark.parametrize(("unlabeled", "victim"), [(False, "client1"), (True, "client2"), (True, "client0")])
def test_a_run_killed_within_a_round_goes_on_to_what_an_unbroken_run_gives(market_folder, tmp_path, unlabeled, victim):
    strategy = FedUReID(0.5) if unlabeled else FedPav()
    options = {"dropout": 0.0} if unlabeled else {}
    whole = clients(market_folder, unlabeled, **options)
    unbroken = federation(whole, tmp_path / "whole", strategy).fit(3)
    with pytest.raises(RuntimeError, match="out of power") as raised:
        federation(clients(market_folder, unlabeled, {victim: Trap("die", fit=1)}, **options), tmp_path / "killed", strategy).fit(3)
    assert raised.value.__notes__ == [f"in round 1 of client {victim}"]
    members = clients(market_folder, unlabeled, **options)
    resumed = federation(members, tmp_path / "killed", strategy, resume=True).fit(3)
    saved = json.loads((tmp_path / "killed" / "rounds.json").read_text())["rounds"]
    assert [one["report"]["round"] for one in saved] == [0, 1, 2]
    assert all(fit["steps"] > 0 and fit["bytes_down"] > 0 for one in saved for fit in one["fits"].values())
    assert [sorted(one["fits"]) for one in saved] == [["client0", "client1", "client2"]] * 3
    for name, tensor in unbroken.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
    for one, other in zip(whole, members):
        assert all(torch.equal(tensor, other.module.state_dict()[name]) for name, tensor in one.module.state_dict().items())
        if unlabeled:
            assert torch.equal(one.data.target_state.labels, other.data.target_state.labels)
            assert torch.equal(one.module.table, other.module.table)


def test_personalized_updates_start_a_round_between_the_clients_model_and_the_servers(market_folder, tmp_path):
    class Peek(pl.Callback):
        def __init__(self):
            self.starts = []

        @override
        def on_train_start(self, trainer, pl_module):
            self.starts.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})

    peek = Peek()
    members = clients(market_folder, traps={"client0": peek})
    run = federation(members, tmp_path, FedUReID(0.25))
    server = {name: tensor.clone() for name, tensor in run.fit(1).tensors.items()}
    ended = {name: tensor.clone() for name, tensor in members[0].module.state_dict().items()}
    run.fit(2)
    for name in ("network.backbone.trunk.conv1.weight", "network.neck.running_var"):
        torch.testing.assert_close(peek.starts[1][name], 0.25 * ended[name] + 0.75 * server[name])
    assert torch.equal(peek.starts[1]["classifier.weight"], ended["classifier.weight"])


def test_a_broken_reply_and_a_late_one_are_left_out_by_name(market_folder, tmp_path, monkeypatch):
    run = federation(clients(market_folder, traps={"client1": Trap("nan")}), tmp_path / "nan", epochs=1)
    run.fit(1)
    report = run.rounds[0].report
    assert report.used == ["client0", "client2"]
    assert "is NaN or infinite" in report.left_out["client1"]
    run.fit(2)  # it takes the server's model and is back
    assert run.rounds[1].report.used == ["client0", "client1", "client2"]

    class Slow(pl.Callback):
        @override
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            clock[0] += 10.0

    clock = [0.0]
    monkeypatch.setattr("lightning_reid.federation.local_training.time.monotonic", lambda: clock[0])
    run = federation(clients(market_folder, traps={"client2": Slow()}), tmp_path / "late", epochs=3, deadline=5.0)
    run.fit(1)
    assert run.rounds[0].report.left_out == {"client2": "it passed its deadline of 5 s"}
    assert run.rounds[0].steps["client2"] == 1


def test_too_few_replies_repeat_the_round_and_then_say_who_failed(market_folder, tmp_path):
    members = clients(market_folder, traps={name: Trap("nan", fit=k) for name in ("client0", "client1") for k in (0,)})
    run = federation(members, tmp_path / "again", FedPav(quorum=0.9))
    assert run.fit(1).round == 1
    assert [one.report.repeat for one in run.rounds] == [True, False]
    run = federation(clients(market_folder, traps={"client0": Trap("nan")}), tmp_path / "never", FedPav(quorum=0.9), attempts=1)
    with pytest.raises(RuntimeError, match="round 0 found too few replies 1 times; left out: client0"):
        run.fit(1)


def test_federations_that_cannot_be_are_refused(market_folder, tmp_path):
    members = clients(market_folder)
    wide = {"backbone_options": {"channels": [8, 8, 16, 32], "layers": [1, 1, 1, 1]}}
    with pytest.raises(ValueError, match="client client2 has another network than client client0"):
        federation([*members[:2], clients(market_folder, **wide)[2]], tmp_path)
    federation(members, tmp_path).fit(1)
    with pytest.raises(FileExistsError, match="holds the state of a federation: go on from it with resume"):
        federation(members, tmp_path)
    with pytest.raises(ValueError, match="the server's state is of FedPav, this is FedUReID"):
        federation(members, tmp_path, FedUReID(), resume=True)
    with pytest.raises(ValueError, match=r"\['client2'\] are missing"):
        federation(members[:2], tmp_path, resume=True)
    with pytest.raises(ValueError, match="a federation needs clients"):
        federation([], tmp_path / "x")
    with pytest.raises(ValueError, match=r"deadline must be a number in \(0, .* or None, got 0\.0"):
        federation(members, tmp_path / "x", deadline=0.0)


@pytest.mark.parametrize("rounds_before", [0, 1])
def test_a_repeated_round_begins_where_its_first_attempt_began(market_folder, tmp_path, rounds_before):
    """Were it to go on from there, bottom-up clustering would merge twice in a round."""
    traps = {"client0": Trap("nan", fit=rounds_before)}
    members = clients(market_folder, unlabeled=True, traps=traps)
    run = federation(members, tmp_path, FedUReID(quorum=0.9))
    run.fit(rounds_before + 1)
    assert [one.report.repeat for one in run.rounds] == [False] * rounds_before + [True, False]
    for member in members:
        state = member.data.target_state
        assert state is not None
        assert (state.iteration, state.num_clusters) == (rounds_before, member.num_images - 2 * rounds_before), member.id


def test_scores_by_round_are_kept_and_a_resumed_run_goes_on_with_them(market_folder, tmp_path, capsys):
    run = federation(clients(market_folder), tmp_path)
    scores = RoundScores(run, every_n_rounds=2)
    run.fit(3, scores)
    assert list(scores.rounds) == [2]
    assert scores.test() == run.test_clients()
    assert list(scores.means("mAP")) == [2, 3]
    assert scores.means("mAP")[3] == pytest.approx(sum(one["mAP"] for one in run.test_clients().values()) / 3)
    again = RoundScores(federation(clients(market_folder), tmp_path, resume=True))
    assert again.rounds == scores.rounds
    print_rounds({"a": again.means("mAP"), "b": {1: 0.5}}, "by round")
    assert "50.0" in capsys.readouterr().out
    with pytest.raises(ValueError, match="n at least 1"):
        RoundScores(run, 0)


def test_a_full_disk_names_the_servers_file_and_leaves_it_as_it_was(tmp_path):
    path = tmp_path / "server.safetensors"
    write_server_state(path, ServerState("FedPav", 1, {"weight": torch.ones(2)}, ["a"], "f"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # no file may grow above 5000 bytes; Python ignores the signal
    try:
        with pytest.raises(OSError, match=r"cannot write .*server\.safetensors: File too large. Choose another folder"):
            write_server_state(path, ServerState("FedPav", 2, {"weight": torch.zeros(10_000)}, ["a"], "f"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_server_state(path).round == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


STATE = ServerState(
    "FedPav",
    3,
    {
        "weight": torch.arange(6.0).reshape(2, 3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.ones(0),
        "count": torch.tensor(7),
    },
    ["a", "b"],
    "f",
    {"a": 30},
)


def alike(one: ServerState, other: ServerState) -> bool:
    tensors = one.tensors.keys() == other.tensors.keys() and all(torch.equal(t, other.tensors[name]) for name, t in one.tensors.items())
    return tensors and replace(one, tensors={}) == replace(other, tensors={})


def test_a_servers_state_comes_back_as_it_was_and_a_bit_of_it_that_flips_is_an_error(tmp_path, caplog):
    path = tmp_path / "server.safetensors"
    write_server_state(path, STATE)
    assert alike(read_server_state(path), STATE)
    assert caplog.text == ""
    content = path.read_bytes()
    for place in (len(content) - 1, len(content) - 12, content.index(b"FedPav") + 2, content.index(b"30}") + 1, content.index(b"crc32")):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"server\.safetensors is damaged.*: restore it, or begin anew in another folder"):
            read_server_state(path)


def test_a_servers_state_of_an_earlier_version_is_read_and_told_to_have_no_checksum(tmp_path, caplog):
    path = tmp_path / "server.safetensors"
    about = {"strategy": "FedPav", "round": "3", "clients": '["a", "b"]', "federation": "f"}
    path.write_bytes(save(STATE.tensors, metadata=about))
    assert alike(read_server_state(path), replace(STATE, signed_up={}))
    assert [line.split(", ")[0] for line in caplog.messages] == [f"{path} has no checksum"]
    path.write_bytes(save(STATE.tensors, metadata=about | {"round": "-1"}))
    with pytest.raises(ValueError, match=r"server\.safetensors is damaged.*it tells of '-1' rounds"):
        read_server_state(path)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"clients": [1, None, [[]]]}, r"it tells of clients \[1, None, \[\[\]\]\], expected different ids"),
        ({"clients": ["a", "a"]}, r"it tells of clients \['a', 'a'\], expected different ids"),
        ({"clients": []}, r"it tells of clients \[\], expected different ids"),
        ({"signed_up": {"a": {"b": []}}}, "the images that client 'a' signed up with must be a whole number in 1"),
        ({"signed_up": {"a": 0}}, "the images that client 'a' signed up with must be a whole number in 1"),
        ({"signed_up": {"c": 3}}, r"it tells that \{'c': 3\} signed up, clients are \['a', 'b'\]"),
        ({"tensors": {}}, "it holds no tensors"),
        ({"tensors": {"weight": torch.tensor([1.0, torch.nan])}}, "weight is NaN or infinite"),
        ({"round": "1_0"}, "it tells of '1_0' rounds"),
        ({"round": "9" * 4000}, "it tells of '999.*999' rounds"),
    ],
    ids=str,
)
def test_a_servers_state_that_no_server_wrote_is_told_though_its_checksum_is_right(tmp_path, part, message):
    path = tmp_path / "server.safetensors"
    write_server_state(path, replace(STATE, **part))
    with pytest.raises(
        ValueError, match=rf"server\.safetensors is damaged.*{message}.*: restore it, or begin anew in another folder"
    ) as told:
        read_server_state(path)
    assert len(str(told.value)) < 1000


def test_a_client_does_not_go_back_to_an_earlier_round_nor_on_from_what_no_training_leaves(market_folder, tmp_path):
    training = LocalTraining(clients(market_folder)[0], FedPav(), tmp_path / "client.ckpt", "cpu")
    message = FedPav().begin(training.client.module.state_dict(), ["client0"]).tensors
    training.latest = LocalFit(4, 0, "", 1, 1.0, 1)
    with pytest.raises(ValueError, match=r"client client0 is asked in round 3 and has done round 4: the message is late, or the server's"):
        training.fit(LocalRound("a", 3), message)
    before = {name: tensor.clone() for name, tensor in training.client.module.state_dict().items()}
    with pytest.raises(ValueError, match=r"no training leaves behind: .*running_var is a variance of -1"):
        training.fit(LocalRound("a", 5), message | {"network.neck.running_var": -torch.ones_like(message["network.neck.running_var"])})
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.client.module.state_dict().items())
    assert not training.file.exists()


@pytest.mark.parametrize("content", [b"", b"half", save({"weight": torch.ones(2)}), save({"weight": torch.ones(9)})[:-3]])
def test_a_damaged_state_of_the_server_is_named_with_the_way_on(tmp_path, content):
    (tmp_path / "server.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"server\.safetensors is damaged.*: restore it, or begin anew in another folder"):
        read_server_state(tmp_path / "server.safetensors")


@pytest.mark.parametrize(("name", "way_on"), [("scores.json", "tested anew"), ("rounds.json", "without what it tells")])
@pytest.mark.parametrize("content", ['{"rou', "{}", '{"rounds": 3}', '{"rounds": [{"report": {"round": -1}, "fits": {}}]}'])
def test_damaged_accounts_of_a_federation_are_named_with_the_way_on(market_folder, tmp_path, name, way_on, content):
    members = clients(market_folder)
    run = federation(members, tmp_path)
    write_server_state(run.server_file, run.state)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} .*: remove it, and .* {way_on}"):
        RoundScores(federation(members, tmp_path, resume=True))


def test_each_round_is_told_once_wherever_a_sitting_ended(market_folder, tmp_path):
    told: list[int] = []

    def dies_at(number: int):
        def tell(rounds_done: int) -> None:
            if rounds_done == number:
                raise KeyboardInterrupt
            told.append(rounds_done)

        return tell

    def goes_on() -> Federation:
        return federation(clients(market_folder), tmp_path, resume=True)

    with pytest.raises(KeyboardInterrupt):
        goes_on().fit(3, dies_at(1))
    with pytest.raises(KeyboardInterrupt):
        goes_on().fit(3, dies_at(3))
    assert told == [1, 2]
    goes_on().fit(3, told.append)  # all rounds are done, the last is not told
    goes_on().fit(3, told.append)
    assert told == [1, 2, 3]


def test_what_was_tested_before_a_kill_is_not_tested_again_and_another_federations_scores_are_not_read(
    market_folder, tmp_path, monkeypatch
):
    members, tests = clients(market_folder), []

    def begun(**options) -> tuple[Federation, RoundScores]:
        run = federation(members, tmp_path, **options)
        monkeypatch.setattr(run, "test_clients", lambda: tests.append(run.state.round) or {"client0": {"mAP": 0.5}})
        return run, RoundScores(run)

    def tested_and_killed(rounds_done: int) -> None:
        scores(rounds_done)
        raise KeyboardInterrupt

    run, scores = begun()
    with pytest.raises(KeyboardInterrupt):
        run.fit(1, tested_and_killed)
    run, scores = begun(resume=True)
    run.fit(1, scores)
    assert tests == [1]
    (tmp_path / "server.safetensors").unlink()
    (tmp_path / "rounds.json").unlink()
    members = clients(market_folder)
    for file in (tmp_path / "clients").iterdir():
        file.unlink()
    run, scores = begun()  # a new federation in the same folder
    run.fit(1, scores)
    assert tests == [1, 1]


def test_a_client_whose_beginning_of_the_round_has_gone_says_which_file_is_missed(market_folder, tmp_path):
    training = LocalTraining(clients(market_folder)[0], FedPav(), tmp_path / "client.ckpt", "cpu")
    message = FedPav().begin(training.client.module.state_dict(), ["client0"]).tensors
    for number in (0, 1):
        training.fit(LocalRound("a", number), message)
    training.before.unlink()
    with pytest.raises(RuntimeError, match=r"client0 cannot go back to the beginning of the round: .*client\.before\.ckpt is gone"):
        training.fit(LocalRound("a", 1, attempt=1), message)
