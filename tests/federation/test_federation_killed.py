"""A federation whose process is killed, without a word, in the middle of a client's fit: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import json, os, signal, sys
    import pytorch_lightning as pl, torch
    from lightning_reid.callbacks import BottomUpClustering
    from lightning_reid.datamodules import FederatedData
    from lightning_reid.federated import FedUReID
    from lightning_reid.modules import BottomUpReID
    from lightning_reid.federation import Client, Federation

    folder, output, death = sys.argv[1:4]

    class Death(pl.Callback):
        def __init__(self):
            self.fits = 0
        def on_fit_start(self, trainer, module):
            self.fits += 1
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if self.fits == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    data = FederatedData([folder], "identity", num_clients=3, unlabeled=True, image_size=(64, 32), batch_size=8, num_workers=0)
    data.setup()
    network = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
    members = []
    for name, one in data.clients.items():
        torch.manual_seed(0)
        callbacks = [BottomUpClustering(num_merges=2, merge_at_start=True), *[Death()] * (name == death)]
        members.append(Client(name, BottomUpReID(optimizer="sgd", lr=0.01, **network), one, callbacks))
    federation = Federation(FedUReID(), members, output, accelerator="cpu", quiet=True, resume=death == "nobody")
    state = federation.fit(3)
    result = {
        "server": {name: tensor.double().sum().item() for name, tensor in state.tensors.items()},
        "clients": {one.id: [tensor.double().sum().item() for tensor in one.module.state_dict().values()] for one in members},
        "labels": {one.id: one.data.target_state.labels.tolist() for one in members},
        "steps": [one.steps for one in federation.rounds],
        "bytes": [[one.bytes_down, one.report.bytes_up] for one in federation.rounds],
    }
    json.dump(result, open(f"{output}/result.json", "w"))
    """
)


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_second_round_goes_on_to_what_an_unbroken_one_gives(market_folder, tmp_path):
    script = tmp_path / "federate.py"
    script.write_text(SCRIPT, encoding="utf-8")

    def run(output: str, death: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(script), str(market_folder), str(tmp_path / output), death]
        return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False)

    assert run("whole", "nobody").returncode == 0
    killed = run("killed", "client1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not (tmp_path / "killed" / "result.json").exists()
    finished = run("killed", "nobody")
    assert finished.returncode == 0, finished.stderr[-2000:]
    whole, resumed = (json.loads((tmp_path / output / "result.json").read_text()) for output in ("whole", "killed"))
    assert resumed == whole
    assert len(whole["steps"]) == 3
    left = {file.name for file in (tmp_path / "killed" / "clients").iterdir()}
    assert left == {f"client{number}{when}.ckpt" for number in range(3) for when in ("", ".before")}
