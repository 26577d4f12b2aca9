"""Distillation under DistributedDataParallel: two gloo processes train the student that one does, each with the teacher's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from torch import nn
from typing_extensions import override

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import DistilledReID
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.teacher import Teacher


class Recorder(pl.Callback):
    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    @override
    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")})


def sum_of_weights(module: nn.Module) -> float:
    return sum(float(parameter.detach().double().abs().sum()) for parameter in module.parameters())


def fit(settings: dict[str, Any], folder: Path, p: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    large = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 16, 16, 32], layers=[1, 1, 1, 1]))
    teacher = Teacher(large, nn.Linear(32, 10, bias=False))
    student = {"student": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "num_classes": 10}
    model = DistilledReID(**student, teacher=teacher, alpha=0.5, embeddings="relational", bn_group=8, lr=5e-4)
    data = ImageReIDDataModule(folder, image_size=(64, 32), p=p, k=4, num_workers=0, val_identities=0)
    recorder = Recorder()
    trainer = pl.Trainer(**settings, max_epochs=2, limit_train_batches=2, limit_val_batches=0, callbacks=[recorder])
    trainer.fit(model, data)
    return {"logged": recorder.logged, "weights": sum_of_weights(model), "teacher": sum_of_weights(teacher)}


def test_two_gloo_processes_train_the_student_that_one_does(market_folder, in_one_and_two_processes):
    one, *two = in_one_and_two_processes(fit, market_folder, one=(4,), two=(2,))  # the same global batch of 4 x 4 images
    assert two[0]["weights"] == two[1]["weights"] == pytest.approx(one["weights"], rel=1e-5)
    assert two[0]["teacher"] == two[1]["teacher"] == one["teacher"]
    assert len(one["logged"]) == len(two[0]["logged"]) == 2
    assert all("train/loss_embedding" in logged for logged in one["logged"])
    assert all("train/loss_kd" in logged for logged in one["logged"])
