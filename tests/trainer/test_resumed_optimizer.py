"""A resumed fit goes on with the optimizer that the checkpoint holds the memory of, or says so before its first step."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.modules import SupervisedReID
from lightning_reid.modules.saved_parts import check_optimizers, saved_groups

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}


class Stepping(SupervisedReID):
    """Counts its steps; the batch is always the same."""

    steps = 0

    @override
    def training_step(self, batch, batch_idx):
        self.steps += 1
        return super().training_step(batch, batch_idx)

    @override
    def train_dataloader(self):
        batch = {"images": torch.rand(4, 3, 16, 8, generator=torch.Generator().manual_seed(0)), "pids": torch.tensor([0, 0, 1, 1])}
        return DataLoader([batch], batch_size=None)


class InTwoGroups(Stepping):
    @override
    def configure_optimizers(self):
        return torch.optim.Adam([{"params": self.network.parameters()}, {"params": self.classifier.parameters()}])


class WithTwoOptimizers(Stepping):
    automatic_optimization = False

    @override
    def configure_optimizers(self):
        return [torch.optim.Adam(self.network.parameters()), torch.optim.Adam(self.classifier.parameters())]


def fit(module, tmp_path, epochs, ckpt_path=None):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, limit_val_batches=0, default_root_dir=tmp_path, **quiet)
    trainer.fit(module, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for optimizer in ("adam", "sgd"):
        fit(Stepping(num_classes=2, optimizer=optimizer, **TINY), folder, 1).save_checkpoint(folder / f"{optimizer}.ckpt")
    return folder


@pytest.mark.parametrize(
    ("saved", "asked", "told"), [("adam", "sgd", "Adam .* this fit has SGD"), ("sgd", "adam", "SGD .* this fit has Adam")]
)
def test_another_optimizer_is_refused_by_name_before_the_first_step(trained, tmp_path, saved, asked, told):
    module = Stepping(num_classes=2, optimizer=asked, **TINY)
    with pytest.raises(
        ValueError, match=f"the checkpoint was trained with {told}.*resume with the optimizer that the checkpoint was trained with"
    ):
        fit(module, tmp_path, 2, trained / f"{saved}.ckpt")
    assert module.steps == 0


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (InTwoGroups, r"the checkpoint's Adam has groups of \[\d+\] parameters, that of this fit of \[\d+, 1\]"),
        (WithTwoOptimizers, "the checkpoint holds the states of 1 optimizers, the fit has 2"),
    ],
)
def test_other_groups_of_parameters_are_refused_before_the_first_step(trained, tmp_path, module, told):
    made = module(num_classes=2, **TINY)
    with pytest.raises(ValueError, match=told):
        fit(made, tmp_path, 2, trained / "adam.ckpt")
    assert made.steps == 0


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_same_optimizer_goes_on(trained, tmp_path, optimizer):
    module = Stepping(num_classes=2, optimizer=optimizer, **TINY)
    fit(module, tmp_path, 2, trained / f"{optimizer}.ckpt")
    assert module.steps == 1


def test_a_new_fit_from_the_weights_takes_any_optimizer(trained, tmp_path):
    module = Stepping.load_from_checkpoint(trained / "adam.ckpt", optimizer="sgd")
    fit(module, tmp_path, 1)
    assert module.steps == 1


def test_options_that_later_versions_of_torch_added_are_not_missed():
    weight = torch.nn.Parameter(torch.zeros(1))
    saved = torch.optim.Adam([weight]).state_dict()
    for group in saved["param_groups"]:
        group.pop("decoupled_weight_decay", None)
        group.pop("fused")
    check_optimizers(saved_groups({"optimizer_states": [saved]}), [torch.optim.Adam([weight])])
