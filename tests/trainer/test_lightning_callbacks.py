"""Callbacks of Lightning that look into a module: what averages its weights, and what freezes its backbone at first."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning, EMAWeightAveraging, StochasticWeightAveraging
from typing_extensions import override

from lightning_reid.modules import SupervisedReID

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
SHORT = {"max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 0}


def fit(one, folder, *callbacks: pl.Callback, module: pl.LightningModule | None = None, path=None, **settings):
    torch.manual_seed(0)
    module = one.module() if module is None else module
    trainer, _ = one.trainer(folder, *callbacks, **(SHORT | settings))
    trainer.fit(module, one.data(0), ckpt_path=path, weights_only=path is not None or None)
    return module, trainer


@pytest.mark.parametrize("name", ["supervised", "HSR", "SGC-DPL", "video"])
def test_an_average_that_forgets_at_once_is_the_module_itself(subject, tmp_path, name):
    one = subject(name)
    plain, _ = fit(one, tmp_path, max_epochs=1)
    averaged, trainer = fit(one, tmp_path, EMAWeightAveraging(decay=0.0), max_epochs=1)
    theirs = averaged.state_dict()
    assert theirs.keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        if not (key == "classifier.weight" and name in ("HSR", "SGC-DPL")):  # filled anew after the last step, for the next
            assert torch.equal(theirs[key], value), key
    trainer.save_checkpoint(tmp_path / "averaged.ckpt")
    loaded = type(plain).load_from_checkpoint(tmp_path / "averaged.ckpt")
    assert torch.equal(loaded.classifier.weight, averaged.classifier.weight)


class KeepsEveryEpoch(pl.Callback):
    def __init__(self, folder) -> None:
        self.folder = folder

    @override
    def on_train_epoch_end(self, trainer, pl_module) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")


def test_a_fit_with_an_average_is_resumed_where_it_was(subject, tmp_path):
    one = subject("supervised")
    whole, _ = fit(one, tmp_path, EMAWeightAveraging(decay=0.5), KeepsEveryEpoch(tmp_path))
    rest, _ = fit(one, tmp_path, EMAWeightAveraging(decay=0.5), path=tmp_path / "0.ckpt")
    torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("supervised", "SupervisedReID num_classes=8"),
        ("video", "VideoReID num_classes=8"),
        ("HSR", "HSR max_clusters=1"),
        ("SGC-DPL", "start_from"),
    ],
)
def test_a_callback_that_copies_a_module_before_its_classifier_is_built_is_refused(subject, tmp_path, name, remedy):
    with pytest.raises(ValueError, match=f"would not average the classifier: give .*{remedy}.*, or take EMAWeightAveraging"):
        fit(subject(name), tmp_path, StochasticWeightAveraging(swa_lrs=1e-3))


def test_a_classifier_of_num_classes_is_copied_and_averaged(subject, tmp_path):
    module, begun = SupervisedReID(num_classes=8, **TINY), []

    class Rows(pl.Callback):
        @override
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            begun.append(pl_module.classifier.weight.detach().clone())

    averaging = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)  # counted from 1
    fit(subject("supervised"), tmp_path, averaging, Rows(), module=module)
    torch.testing.assert_close(begun[2], (begun[0] + begun[1]) / 2)  # what the pass over the batch statistics is made with


@pytest.mark.parametrize("name", ["supervised", "video"])
def test_the_backbone_is_frozen_until_its_epoch_and_learns_then(subject, tmp_path, name):
    one, first, learning = subject(name), {}, {}

    class Seen(pl.Callback):
        @override
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            now = pl_module.state_dict()
            learning[trainer.current_epoch] = {key for key in first if not torch.equal(first[key], now[key])}

        @override
        def on_train_start(self, trainer, pl_module) -> None:
            first.update({key: value.clone() for key, value in pl_module.state_dict().items()})

    module, trainer = fit(one, tmp_path, BackboneFinetuning(unfreeze_backbone_at_epoch=1), Seen())
    convolutions = {name for name, value in module.named_parameters() if value.ndim == 4}
    assert convolutions
    assert all(key.startswith(("network.", "classifier.")) for key in first), "the backbone is saved once"
    assert not learning[0] & convolutions
    assert "classifier.weight" in learning[0]
    assert convolutions <= learning[1]
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert len(rates) == 2
    assert rates[1] < rates[0]
