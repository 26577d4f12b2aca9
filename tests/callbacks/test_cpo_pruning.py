"""CPO in a Trainer: trials over epochs, back to what was kept, and on where it was killed."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from typing_extensions import override

from lightning_reid.callbacks import CPOPruning
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import count_multiply_adds

SMALL = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 1e-2}


@pytest.fixture
def data(market_folder) -> ImageReIDDataModule:
    return ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=4, k=4, num_workers=0)


def module() -> SupervisedReID:
    torch.manual_seed(0)
    return SupervisedReID(**SMALL, num_classes=8)


def test_it_ends_by_itself_with_weights_and_plan_that_lose_no_more_than_expected(data, tmp_path, trainer_with):
    pruning, model = CPOPruning(expected_drop=0.03, retrain_epochs=1), module()
    full = count_multiply_adds(model.network, (1, 3, 64, 32)).total
    trainer = trainer_with(tmp_path, [pruning], max_epochs=-1, check_val_every_n_epoch=1)
    trainer.fit(model, data)
    groups = len({row["layer"] for row in pruning.history})
    assert [row["probe"] for row in pruning.history[:groups]] == [True] * groups
    assert not any(row["probe"] for row in pruning.history[groups:])
    kept = [row for row in pruning.history if row["verdict"] == "keep"]
    assert kept
    assert trainer.current_epoch == len(pruning.history) + len(pruning.references)
    assert len(pruning.references) - len(kept) in (0, 1)  # nothing is left to compare where the last trial was kept
    assert all(row["drop"] <= 0.03 for row in kept)
    masked = trainer.validate(model, data, verbose=False)[0]["val/mAP"]
    assert masked == pytest.approx(kept[-1]["reference"] - kept[-1]["drop"], abs=1e-6)
    model.materialize(pruning.plan)
    assert trainer.validate(model, data, verbose=False)[0]["val/mAP"] == pytest.approx(masked, abs=1e-6)
    assert count_multiply_adds(model.network, (1, 3, 64, 32)).total / full == pytest.approx(kept[-1]["flops"])


def test_a_search_that_was_stopped_anywhere_finds_what_one_that_never_was_does(data, tmp_path, trainer_with):
    def fit(epochs: int, path=None):
        pruning, model = CPOPruning(0.05, retrain_epochs=2, reference=0.9, ignored=("backbone.trunk.conv1",)), module()
        trainer = trainer_with(tmp_path, [pruning], max_epochs=epochs, check_val_every_n_epoch=2, limit_train_batches=2)
        trainer.fit(model, data, ckpt_path=path, weights_only=path is not None or None)
        return pruning, model, trainer

    unbroken, whole, _ = fit(8)
    _, _, trainer = fit(3)  # in the middle of the second trial
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    resumed, model, _ = fit(8, tmp_path / "part.ckpt")
    assert len(unbroken.history) == 4
    assert resumed.history == unbroken.history
    assert all(row["layer"] != "backbone.trunk.conv1" for row in unbroken.history)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_whole_network_is_retrained_as_often_as_what_it_is_compared_with(data, tmp_path, trainer_with, caplog):
    def fit(epochs: int, path=None):
        pruning, model = CPOPruning(1.0, retrain_epochs=2, search="uniform"), module()
        trainer = trainer_with(tmp_path, [pruning], max_epochs=epochs, check_val_every_n_epoch=2, limit_train_batches=2)
        trainer.fit(model, data, ckpt_path=path, weights_only=path is not None or None)
        return pruning, model, trainer

    unbroken, whole, _ = fit(8)  # the whole network, 0.5, the whole network, 0.75
    assert [(row["factor"], row["verdict"]) for row in unbroken.history] == [(0.5, "keep"), (0.75, "keep")]
    assert [row["reference"] for row in unbroken.history] == unbroken.references
    part, _, trainer = fit(5)  # in the middle of the whole network's second retraining
    assert all(bool(mask.all()) for mask in part.kept_channels.values())  # though 0.5 was kept
    assert part.retrains_whole
    of_before = {name: value for name, value in part.state_dict().items() if name not in ("references", "whole")}
    older = CPOPruning(1.0, retrain_epochs=2, search="uniform")
    older.load_state_dict(of_before | {"reference": unbroken.references[0]})
    assert (older.reference, older.retrains_whole) == (
        unbroken.references[0],
        False,
    )  # an older checkpoint has one reference for all trials
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    assert "the fit ended after 1 trials, within the search" in caplog.text
    for name, other in {"metric": "val/R1", "retrain_epochs": 1, "reference": 0.9}.items():
        with pytest.raises(ValueError, match=f"{name}="):
            CPOPruning(1.0, **{"retrain_epochs": 2, "search": "uniform", name: other}).load_state_dict(part.state_dict())
    resumed, model, _ = fit(8, tmp_path / "part.ckpt")
    assert (resumed.history, resumed.references) == (unbroken.history, unbroken.references)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_uniform_removal_takes_one_factor_off_every_layer_and_does_not_go_on_as_another_search(data, tmp_path, trainer_with):
    pruning, model = CPOPruning(1.0, retrain_epochs=1, reference=0.9, search="uniform"), module()
    trainer = trainer_with(tmp_path, [pruning], max_epochs=-1, check_val_every_n_epoch=1, limit_train_batches=1)
    trainer.fit(model, data)
    assert [row["factor"] for row in pruning.history] == [0.5, 0.75, 0.875, 0.9375, 0.96875]
    assert {row["layer"] for row in pruning.history} == {"all layers"}
    left = {name: (int(mask.sum()), len(mask)) for name, mask in pruning.kept_channels.items()}
    assert left
    assert all(kept == max(1, size - int(size * 0.96875)) for kept, size in left.values())
    trainer.save_checkpoint(tmp_path / "uniform.ckpt")
    with pytest.raises(ValueError, match="the checkpoint is of a search 'uniform', this callback's is 'layer by layer'"):
        trainer_with(tmp_path, [CPOPruning(1.0)]).fit(module(), data, ckpt_path=tmp_path / "uniform.ckpt", weights_only=True)


DEEPER = SMALL | {"backbone_options": {"channels": [64, 8, 16, 16], "layers": [1, 2, 1, 1]}}
"""Stage 1 has an identity block, stage 2 a projected one with an identity block behind it."""


@pytest.mark.parametrize("search", [pytest.param("layer by layer", marks=pytest.mark.slow), "uniform"])
def test_by_chapter_5s_rule_blocks_lose_what_it_lets_go_and_the_padded_network_is_the_masked_one(data, tmp_path, trainer_with, search):
    torch.manual_seed(0)
    model = SupervisedReID(**DEEPER, num_classes=8)
    pruning = CPOPruning(1.0, retrain_epochs=1, reference=0.9, search=search, residual_blocks="zero-padded")
    trainer = trainer_with(tmp_path, [pruning], max_epochs=-1, check_val_every_n_epoch=1, limit_train_batches=1)
    trainer.fit(model, data)
    names = {name.removeprefix("backbone.trunk.") for name in pruning.kept_channels}
    inner = {f"layer{block}.conv1" for block in ("1.0", "2.0", "2.1", "3.0", "4.0")}
    assert names == inner | {"layer2.0.downsample.0", "layer3.0.downsample.0"}
    assert {name.removeprefix("backbone.trunk.") for name in pruning.plan.keep} == names
    assert pruning.plan.residual_blocks == "zero-padded"
    masked = trainer.validate(model, data, verbose=False)[0]["val/mAP"]
    model.materialize(pruning.plan)
    assert trainer.validate(model, data, verbose=False)[0]["val/mAP"] == pytest.approx(masked, abs=1e-6)
    trainer.save_checkpoint(tmp_path / "small.ckpt", weights_only=True)
    again = SupervisedReID.load_from_checkpoint(tmp_path / "small.ckpt", weights_only=True).eval()
    images = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images), model.eval()(images))
    whole = count_multiply_adds(SupervisedReID(**DEEPER, num_classes=8).network, (1, 3, 64, 32)).total
    kept = [row["flops"] for row in pruning.history if row["verdict"] == "keep"]
    assert count_multiply_adds(again.network, (1, 3, 64, 32)).total / whole == pytest.approx(kept[-1])


@pytest.mark.slow
def test_a_search_by_chapter_5s_rule_goes_on_where_it_was_stopped_and_not_by_another_rule(data, tmp_path, trainer_with):
    def fit(epochs: int, rule: str, path=None) -> CPOPruning:
        torch.manual_seed(0)
        pruning = CPOPruning(0.05, retrain_epochs=1, reference=0.9, residual_blocks=rule)
        trainer = trainer_with(tmp_path, [pruning], max_epochs=epochs, check_val_every_n_epoch=1, limit_train_batches=1)
        trainer.fit(SupervisedReID(**DEEPER, num_classes=8), data, ckpt_path=path, weights_only=path is not None or None)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return pruning

    unbroken = fit(4, "zero-padded")
    fit(2, "zero-padded")
    assert fit(4, "zero-padded", tmp_path / "2.ckpt").history == unbroken.history
    with pytest.raises(
        ValueError, match="prunes residual blocks 'zero-padded', this callback 'coupled': give residual_blocks='zero-padded'"
    ):
        fit(4, "coupled", tmp_path / "2.ckpt")


def test_what_cannot_be_measured_is_said(data, tmp_path, trainer_with):
    with pytest.raises(ValueError, match="check_val_every_n_epoch=2 does not divide retrain_epochs=3"):
        trainer_with(tmp_path, [CPOPruning(0.1, retrain_epochs=3)], check_val_every_n_epoch=2).fit(module(), data)
    with pytest.raises(ValueError, match=r"validation logs no 'val/accuracy': give metric= one of .*val/mAP"):
        trainer_with(tmp_path, [CPOPruning(0.1, "val/accuracy", retrain_epochs=1)]).fit(module(), data)
    with pytest.raises(ValueError, match=r"no group of channels 'head' to ignore, there are backbone\.trunk\.conv1"):
        trainer_with(tmp_path, [CPOPruning(0.1, ignored=("head",))]).fit(module(), data)
    with pytest.raises(ValueError, match=r"expected_drop must be .* got -0\.1"):
        CPOPruning(-0.1)
    with pytest.raises(ValueError, match="search must be one of"):
        CPOPruning(0.1, search="random")


def test_trials_are_judged_on_people_held_out_of_training_and_not_on_the_tests(data, tmp_path, trainer_with):
    judged: set[int] = set()

    class Judged(pl.Callback):
        @override
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
            judged.update(batch["pids"].tolist())

    pruning = CPOPruning(expected_drop=0.03, retrain_epochs=1)
    trainer_with(tmp_path, [pruning, Judged()], max_epochs=2, check_val_every_n_epoch=1, limit_train_batches=1).fit(module(), data)
    assert len(pruning.references) == 1
    tested = {record.pid for side in data.evaluation_records() for record in side}
    assert len(judged) == data.protocol_stamp().num_val_ids == 2
    assert not judged & (tested | {record.pid for record in data.dataset.train})


def test_a_checkpoint_of_the_best_trial_is_refused_as_it_would_hold_the_next_ones_weights(data, tmp_path):
    saving = ModelCheckpoint(tmp_path, monitor="val/mAP", mode="max")
    callbacks = [CPOPruning(1.0, retrain_epochs=1), saving]
    trainer = pl.Trainer(accelerator="cpu", max_epochs=-1, callbacks=callbacks, logger=False, enable_progress_bar=False)
    with pytest.raises(ValueError, match="a checkpoint of the best val/mAP would hold the next trial's weights"):
        trainer.fit(module(), data)
