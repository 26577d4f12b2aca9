"""A real deployment of Flower on 127.0.0.1: a SuperLink, SuperNodes and the recipe's app, each in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
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


class Deployment:
    """Processes of Flower, with a home of their own, that talk on loopback only and report to nobody."""

    def __init__(self, folder: Path, app: Path = APP) -> None:
        self.folder, self.app = folder, app
        self.processes: dict[str, subprocess.Popen] = {}
        silent = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
        self.environment = os.environ | silent | {"FLWR_HOME": str(folder / "home")}
        (folder / "home").mkdir(parents=True)
        self.port = free_port()
        connection = f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (folder / "home" / "config.toml").write_text(connection, encoding="utf-8")

    def start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("a", encoding="utf-8") as log:
            tool = [str(Path(sys.executable).parent / command[0]), *command[1:]]
            self.processes[name] = subprocess.Popen(tool, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def superlink(self) -> None:
        self.start(
            "superlink",
            ["flower-superlink", "--insecure", "--host=127.0.0.1", f"--port={self.port}", "--disable-runtime-dependency-installation"],
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError((self.folder / "superlink.log").read_text())

    def supernode(self, name: str, data: Path, more: str = "") -> None:
        node = f'client="{name}" dataset="{data}" state="{self.folder / "states" / name}" {more}'
        address = [f"--superlink=127.0.0.1:{self.port}", "--host=127.0.0.1", f"--port={free_port()}"]
        self.start(name, ["flower-supernode", "--insecure", *address, "--node-config", node])

    def run(self, **config: object) -> None:
        file = self.folder / "run.toml"
        options = {"output": str(self.folder / "server"), "accelerator": "cpu"} | config
        options |= {"data": json.dumps(DATA), "model": json.dumps(MODEL), "clustering": json.dumps(CLUSTERING)}
        file.write_text("".join(f"{name} = {toml(value)}\n" for name, value in options.items()), encoding="utf-8")
        self.start("run", ["flwr", "run", str(self.app), "local", "--stream", "--run-config", str(file)])

    def kill(self, name: str) -> None:
        """Without a word, with all that it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, what: str, file: Path, enough=lambda file: True, seconds: float = 240.0) -> None:
        until = time.monotonic() + seconds
        while not (file.is_file() and enough(file)):
            logs = "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))
            assert time.monotonic() < until, f"{what} did not happen in {seconds} s\n{logs}"
            time.sleep(0.5)

    @property
    def server(self) -> Path:
        return self.folder / "server" / "fedureid"

    def rounds(self) -> list[dict]:
        return json.loads((self.server / "rounds.json").read_text())["rounds"]


def toml(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    app = tmp_path / "app"
    shutil.copytree(APP, app)
    with (app / "fedureid_app.py").open("a", encoding="utf-8") as file:
        file.write(SLOW_BATCHES)
    running = Deployment(tmp_path, app)
    yield running
    for name in list(running.processes):
        running.kill(name)


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
    deployment.superlink()
    for name in folders:
        deployment.supernode(name, folders[name], "slow=1" if name == "client2" else "")
    # two of three are enough: a resumed server need not wait for the third
    run = {"clients": ",".join(folders), "rounds": 2, "epochs": 1, "seed": 3, "quorum": 0.6, "deadline": 60.0, "grace": 1.0}
    deployment.run(**run)
    deployment.wait_for("the first round", deployment.server / "rounds.json")
    first = deployment.rounds()[0]["report"]
    assert first["used"] == ["client0", "client1"]
    assert first["left_out"]["client2"].startswith("no reply")
    # in the second round client 1 dies before it is done, and the server once client 0 is
    deployment.kill("client1")
    done = deployment.folder / "states" / "client0" / "fedureid" / "client0.ckpt"
    deployment.wait_for("client 0's fit in the second round", done, fits_of_round(1))
    deployment.kill("superlink")
    deployment.kill("run")
    fit = torch.load(done, weights_only=True)["fit"]
    assert len(deployment.rounds()) == 1
    deployment.kill("client2")
    deployment.superlink()
    names = ["client0", "client1"]
    for name in names:
        if name in deployment.processes:
            deployment.kill(name)
        deployment.supernode(name, folders[name])
    deployment.run(**run, resume=True)
    here = in_one_process({name: folders[name] for name in names}, tmp_path / "here", seed=3)  # while they are at it
    deployment.wait_for("the run", deployment.server / "results.json")
    rounds = deployment.rounds()
    assert [one["report"]["round"] for one in rounds] == [0, 1]
    assert [one["report"]["used"] for one in rounds] == [names] * 2
    assert rounds[1]["fits"]["client0"] == fit  # it was done, and not done again
    there = load_file(deployment.server / "server.safetensors")
    assert there.keys() == here.state.tensors.keys()
    for name, tensor in here.state.tensors.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-6, msg=name)
    scores = json.loads((deployment.server / "results.json").read_text())["scores"]
    for name, own in here.test_clients().items():
        assert scores[name] == pytest.approx(own, abs=1e-6)
