"""Pruning under DistributedDataParallel: two gloo processes drop the channels that one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID


def fit(settings: dict[str, Any], folder: Path, p: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    network = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
    model = SupervisedReID(**network, num_classes=10, bn_group=8, optimizer="sgd", lr=1e-3)
    data = ImageReIDDataModule(folder, image_size=(64, 32), p=p, k=4, num_workers=0, val_identities=0)
    pruning = CAIEPruning({"flops": 0.8, "params": 0.7}, filters_per_step=6, batches_per_step=2)
    trainer = pl.Trainer(**settings, max_epochs=10, limit_val_batches=0, callbacks=[pruning])
    trainer.fit(model, data)
    keep = {name: mask.tolist() for name, mask in pruning.plan.keep.items()}
    return {"keep": keep, "history": pruning.history, "done": pruning.done}


def test_two_gloo_processes_drop_the_channels_that_one_does(market_folder, in_one_and_two_processes):
    one, *two = in_one_and_two_processes(fit, market_folder, one=(4,), two=(2,))  # the same global batch of 4 x 4 images
    assert one["done"]
    assert len(one["history"]) > 1
    assert two[0] == two[1]
    assert two[0]["keep"] == one["keep"]
    for ours, theirs in zip(two[0]["history"], one["history"], strict=True):
        assert ours.pop("impact") == pytest.approx(theirs.pop("impact"), rel=1e-3)  # gradients are summed in another order
        assert ours == theirs
