"""The smallest fit that saves checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.checkpoints import DurableCheckpointIO


class Line(pl.LightningModule):
    """One neuron, two steps an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    @override
    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    @override
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    @override
    def train_dataloader(self):
        return DataLoader(torch.ones(4, 2), batch_size=2)


@pytest.fixture
def fit_line() -> Callable[..., pl.Trainer]:
    """``fit_line(dirpath, max_epochs, ckpt_path=None, **options of ModelCheckpoint)``: the Trainer after its fit."""

    def fit(dirpath, max_epochs, ckpt_path=None, **options) -> pl.Trainer:
        told = {"filename": "last", "enable_version_counter": False, "save_on_train_epoch_end": True, **options}
        saving = ModelCheckpoint(dirpath=dirpath, **told)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
        trainer = pl.Trainer(max_epochs=max_epochs, callbacks=[saving], plugins=[DurableCheckpointIO()], **quiet)
        trainer.fit(Line(), ckpt_path=ckpt_path)
        return trainer

    return fit
