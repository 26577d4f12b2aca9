"""Distillation under DistributedDataParallel: two gloo processes train the student that one does, each with the teacher's answers."""

from __future__ import annotations

import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import json, sys
    import pytorch_lightning as pl, torch
    from torch import nn
    from lightning_reid.datamodules import ImageReIDDataModule
    from lightning_reid.modules import DistilledReID
    from lightning_reid.networks import EmbeddingNetwork, Teacher, build_backbone

    folder, output, devices, p = sys.argv[1:3] + [int(value) for value in sys.argv[3:5]]

    class Recorder(pl.Callback):
        def __init__(self):
            self.logged = []
        def on_train_epoch_end(self, trainer, module):
            self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")})

    pl.seed_everything(0, verbose=False)
    large = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 16, 16, 32], layers=[1, 1, 1, 1]))
    teacher = Teacher(large, nn.Linear(32, 10, bias=False))
    student = {"student": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "num_classes": 10}
    model = DistilledReID(**student, teacher=teacher, alpha=0.5, embeddings="relational", bn_group=8, lr=5e-4)
    data = ImageReIDDataModule(folder, image_size=(64, 32), p=p, k=4, num_workers=0, val_identities=0)
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=2, limit_train_batches=2,
        limit_val_batches=0, callbacks=[recorder], logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=output,
    )
    trainer.fit(model, data)
    weights = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
    taught = sum(float(parameter.double().abs().sum()) for parameter in teacher.parameters())
    result = {"logged": recorder.logged, "weights": weights, "teacher": taught}
    json.dump(result, open(f"{output}/{devices}-{trainer.global_rank}.json", "w"))
    """
)


def test_two_gloo_processes_train_the_student_that_one_does(market_folder, in_one_and_two_processes):
    one, *two = in_one_and_two_processes(SCRIPT, market_folder, one=(4,), two=(2,))  # the same global batch of 4 x 4 images
    assert two[0]["weights"] == two[1]["weights"] == pytest.approx(one["weights"], rel=1e-5)
    assert two[0]["teacher"] == two[1]["teacher"] == one["teacher"]
    assert len(one["logged"]) == len(two[0]["logged"]) == 2
    assert all("train/loss_embedding" in logged for logged in one["logged"])
    assert all("train/loss_kd" in logged for logged in one["logged"])
