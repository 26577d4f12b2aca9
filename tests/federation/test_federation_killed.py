"""A federation whose process is killed, without a word, in the middle of a client's fit: nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from forked import forked
from pair_of_processes import undone

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import FederatedData
from lightning_reid.federated import FedUReID
from lightning_reid.federation import Client, Federation
from lightning_reid.modules import BottomUpReID

NETWORK = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


class Death(pl.Callback):
    """Kills the process in the middle of its client's second fit."""

    def __init__(self) -> None:
        self.fits = 0

    def on_fit_start(self, trainer, pl_module) -> None:
        self.fits += 1

    def on_train_batch_end(self, *args) -> None:
        if self.fits == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def federate(folder: Path, output: Path, death: str = "", resume: bool = False) -> dict[str, Any]:
    """Three rounds; what became of the server, of the clients, and of their labels."""
    data = FederatedData([str(folder)], "identity", num_clients=3, unlabeled=True, image_size=(64, 32), batch_size=8, num_workers=0)
    data.setup()
    members = []
    with undone():
        for name, one in data.clients.items():
            torch.manual_seed(0)
            callbacks = [BottomUpClustering(num_merges=2, merge_at_start=True), *[Death()] * (name == death)]
            members.append(Client(name, BottomUpReID(optimizer="sgd", lr=0.01, **NETWORK), one, callbacks))
        federation = Federation(FedUReID(), members, output, accelerator="cpu", quiet=True, resume=resume)
        state = federation.fit(3)
    return {
        "server": {name: tensor.double().sum().item() for name, tensor in state.tensors.items()},
        "clients": {one.id: [tensor.double().sum().item() for tensor in one.module.state_dict().values()] for one in members},
        "labels": {one.id: one.data.target_state.labels.tolist() for one in members},
        "steps": [one.steps for one in federation.rounds],
        "bytes": [[one.bytes_down, one.report.bytes_up] for one in federation.rounds],
    }


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_second_round_goes_on_to_what_an_unbroken_one_gives(market_folder, tmp_path):
    whole = federate(market_folder, tmp_path / "whole")
    killed = forked(federate, market_folder, tmp_path / "killed", "client1")
    killed.join(300)
    assert killed.exitcode == -signal.SIGKILL
    assert federate(market_folder, tmp_path / "killed", resume=True) == whole
    assert len(whole["steps"]) == 3
    left = {file.name for file in (tmp_path / "killed" / "clients").iterdir()}
    assert left == {f"client{number}{when}.ckpt" for number in range(3) for when in ("", ".before")}
