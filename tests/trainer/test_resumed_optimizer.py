"""A resumed fit goes on with the optimizer that the checkpoint holds the memory of, or says so before its first step."""

from __future__ import annotations

import logging
import math

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


def put(*places):
    """``put("optimizer_states", 0, "state", {})`` puts the last into a checkpoint, at the place of the others; ``...`` deletes it."""
    *way, last, value = places

    def change(content) -> None:
        for place in way:
            content = content[place]
        if value is ...:
            del content[last]
        else:
            content[last] = value

    return change


def of_group(name, value):
    return put("optimizer_states", 0, "param_groups", 0, name, value)


def of_memory(name, value):
    return put("optimizer_states", 0, "state", 0, name, value)


BROKEN = {
    "lr is NaN": (of_group("lr", math.nan), "lr of the checkpoint's Adam must be a number in .*, got nan"),
    "lr is text": (of_group("lr", "x"), "lr of the checkpoint's Adam must be a number in .*, got 'x'"),
    "other betas": (of_group("betas", (2, 5)), r"configured with betas=\(2, 5\), and that of this fit with betas=\(0.9, 0.999\)"),
    "maximize": (of_group("maximize", True), "configured with maximize=True, and that of this fit with maximize=False"),
    "fused is text": (of_group("fused", "x"), "configured with fused='x'"),
    "another shape": (
        of_memory("exp_avg", torch.zeros(3)),
        r"Adam holds for its parameter 0 exp_avg \[3\], and the parameter is \[64, 3, 7, 7\]",
    ),
    "memory is text": (of_memory("exp_avg_sq", "x"), "exp_avg_sq 'x', and the parameter is"),
    "memory is NaN": (of_memory("exp_avg", torch.full((64, 3, 7, 7), math.nan)), "exp_avg with NaN or infinite numbers"),
    "no memory": (put("optimizer_states", 0, "state", [1]), r"holds \[1\] as its memory of parameter 0"),
    "no optimizer": (put("optimizer_states", []), "holds the states of 0 optimizers, the fit has 1"),
    "optimizers by name": (put("optimizer_states", {}), "holds optimizer_states that are none"),
    "no schedule": (put("lr_schedulers", []), r"holds lr_schedulers=\[\], and the fit has 1 of them"),
    "a schedule without factors": (put("lr_schedulers", 0, "lr_lambdas", ...), "holds lr_lambdas=None of its EpochFactor"),
    "a schedule of NaN": (put("lr_schedulers", 0, "base_lrs", [math.nan]), r"holds base_lrs=\[nan\] of its EpochFactor"),
    "a schedule before its begin": (put("lr_schedulers", 0, "last_epoch", -5), "holds last_epoch=-5 of its EpochFactor"),
    "no loops": (put("loops", {}), "holds loops={}, and not how far its fit has come"),
    "a fit that is nowhere": (put("loops", "fit_loop", {}), "and not how far its fit has come"),
    "negative progress": (
        put("loops", "fit_loop", "epoch_progress", "current", "completed", -1),
        "completed in current in epoch_progress of the checkpoint must be a whole number",
    ),
    "negative steps": (put("global_step", -1), "global_step of the checkpoint must be a whole number"),
    "callbacks by number": (put("callbacks", [1]), r"holds callbacks=\[1\], expected their states by name"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_a_fit_cannot_go_on_with_is_named_with_the_checkpoint_before_the_first_step(trained, tmp_path, fault):
    change, told = BROKEN[fault]
    content = torch.load(trained / "adam.ckpt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "broken.ckpt")
    module = Stepping(num_classes=2, **TINY)
    with pytest.raises(ValueError, match=rf"broken\.ckpt: .*{told}"):
        fit(module, tmp_path, 2, tmp_path / "broken.ckpt")
    assert module.steps == 0


def test_a_schedule_that_turns_the_momentum_is_resumed(trained, tmp_path):
    class Cycled(Stepping):
        @override
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=10)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    fit(Cycled(num_classes=2, **TINY), tmp_path, 3).save_checkpoint(tmp_path / "cycled.ckpt")
    saved = torch.load(tmp_path / "cycled.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"][0]
    module = Cycled(num_classes=2, **TINY)
    assert saved["momentum"] != module.configure_optimizers()["optimizer"].param_groups[0]["momentum"]
    fit(module, tmp_path, 4, tmp_path / "cycled.ckpt")
    assert module.steps == 1


def test_arguments_that_differ_from_those_of_the_checkpoint_are_told_with_those_that_hold(trained, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="lightning_reid.modules.reid_module"):
        fit(Stepping(num_classes=2, **TINY), tmp_path, 2, trained / "adam.ckpt")
        assert not caplog.records
        trainer = fit(Stepping(num_classes=2, lr=0.1, margin=0.3, **TINY), tmp_path, 2, trained / "adam.ckpt")
    (said,) = caplog.messages
    assert "adam.ckpt was trained with lr=0.00035, margin=None, and goes on with a module of lr=0.1, margin=0.3." in said
    assert "Of these lr of the checkpoint is kept, which its optimizer holds." in said
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.00035
