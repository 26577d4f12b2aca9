"""A real deployment of Flower on 127.0.0.1: a SuperLink, SuperNodes and the recipe's app, each in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from deployment import Deployment, deployed
from safetensors.torch import load_file

from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.datamodules.generated import GeneratedPedestrians
from lightning_reid.federation import Federation, Personalization, fedureid_client

APP = Path(__file__).parents[2] / "recipes" / "flower"
DATA = {"image_size": [64, 32], "batch_size": 8, "num_workers": 0}
MODEL = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}
CLUSTERING = {"min_samples": 2}
SLOW_BATCHES = """
import time
from pytorch_lightning import Callback

class Slow(Callback):
    def on_train_batch_end(self, *args):
        time.sleep(1000.0)

fast_training = local_training

def local_training(context):
    training = fast_training(context)
    if "slow" in context.node_config:
        training.client.callbacks = [*training.client.callbacks, Slow()]
    return training

client = client_app(local_training)
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path, APP, SLOW_BATCHES) as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set of its own for each of three clients, of different sizes."""
    root = tmp_path_factory.mktemp("clients")
    sizes = {"num_test_pids": 4, "images_per_camera": 3, "num_distractors": 4, "height": 64, "width": 32}
    return {
        f"client{k}": GeneratedPedestrians("market-like", seed=k, num_train_pids=4 + k, **sizes).write(root / str(k), progress=False)
        for k in range(3)
    }


def fits_of_round(number: int):
    """Whether a client's file tells of a fit in this round."""
    return lambda file: torch.load(file, weights_only=True)["fit"]["round"] == number


def in_one_process(folders: dict[str, Path], output: Path, seed: int) -> Federation:
    """Two rounds of these clients, done."""
    members = []
    for name, folder in folders.items():
        data = UnlabeledDataModule(str(folder), seed=seed, **DATA)
        data.setup()
        members.append(fedureid_client(name, data, Personalization(), rounds=2, clustering=CLUSTERING, model=MODEL, seed=seed))
    federation = Federation(Personalization().strategy(), members, output, epochs=1, seed=seed, accelerator="cpu", quiet=True)
    federation.fit(2)
    return federation


@pytest.mark.slow
def test_a_slow_client_misses_its_deadline_and_killed_ones_and_a_killed_server_end_as_the_others_in_one_process_do(
    deployment, folders, tmp_path
):
    server = deployment.folder / "server" / "fedureid"

    def rounds() -> list[dict]:
        return json.loads((server / "rounds.json").read_text())["rounds"]

    deployment.superlink()
    for name in folders:
        deployment.supernode(name, folders[name], "slow=1" if name == "client2" else "")
    # two of three are enough: a resumed server need not wait for the third
    run = {"clients": ",".join(folders), "rounds": 2, "epochs": 1, "seed": 3, "quorum": 0.6, "deadline": 30.0, "grace": 1.0}
    run |= {"data": DATA, "model": MODEL, "clustering": CLUSTERING}
    deployment.run(**run)
    deployment.wait_for("the first round", server / "rounds.json")
    first = rounds()[0]["report"]
    assert first["used"] == ["client0", "client1"]
    assert first["left_out"]["client2"].startswith("no reply")
    # in the second round client 1 dies before it is done, and the server once client 0 is
    deployment.kill("client1")
    done = deployment.folder / "states" / "client0" / "fedureid" / "client0.ckpt"
    deployment.wait_for("client 0's fit in the second round", done, fits_of_round(1))
    deployment.kill("superlink")
    deployment.kill("run")
    fit = torch.load(done, weights_only=True)["fit"]
    assert len(rounds()) == 1
    deployment.kill("client2")
    deployment.superlink()
    names = ["client0", "client1"]
    for name in names:
        if name in deployment.processes:
            deployment.kill(name)
        deployment.supernode(name, folders[name])
    deployment.run(**run, resume=True)
    here = in_one_process({name: folders[name] for name in names}, tmp_path / "here", seed=3)  # while they are at it
    deployment.wait_for("the run", server / "results.json")
    done_rounds = rounds()
    assert [one["report"]["round"] for one in done_rounds] == [0, 1]
    assert [one["report"]["used"] for one in done_rounds] == [names] * 2
    assert done_rounds[1]["fits"]["client0"] == fit  # it was done, and not done again
    there = load_file(server / "server.safetensors")
    assert there.keys() == here.state.tensors.keys()
    for name, tensor in here.state.tensors.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-6, msg=name)
    scores = json.loads((server / "results.json").read_text())["scores"]
    for name, own in here.test_clients().items():
        assert scores[name] == pytest.approx(own, abs=1e-6)
