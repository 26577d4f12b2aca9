"""A classifier is of certain people: fitted on others, resumed on others, validated on those it was trained on."""

from __future__ import annotations

import logging

import pytest
import pytorch_lightning as pl
import torch

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}


def trainer(folder, epochs: int = 1) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(accelerator="cpu", max_epochs=epochs, limit_train_batches=1, limit_val_batches=0, default_root_dir=folder, **quiet)


def data(folder, **options) -> ImageReIDDataModule:
    return ImageReIDDataModule(str(folder), image_size=(32, 16), p=2, k=2, num_workers=0, **options)


@pytest.fixture(scope="module")
def trained(market_folder, tmp_path_factory):
    """``trained(**options)``: the checkpoint of a short fit on so many people."""
    folder, made = tmp_path_factory.mktemp("trained"), {}

    def fit(**options) -> str:
        key = str(options)
        if key not in made:
            fitting, made[key] = trainer(folder), str(folder / f"{len(made)}.ckpt")
            fitting.fit(SupervisedReID(**TINY), data(market_folder, **options))
            fitting.save_checkpoint(made[key])
        return made[key]

    return fit


def load(path: str) -> SupervisedReID:
    return SupervisedReID.load_from_checkpoint(path, weights_only=True)


def test_a_loaded_module_knows_whose_its_classes_are_and_goes_on_with_them(trained, market_folder, tmp_path, caplog):
    module = load(trained(val_identities=0))
    assert len(module.people.pids) == module.classifier.out_features == 10
    rows = module.classifier.weight.detach().clone()
    fitting = trainer(tmp_path, epochs=0)
    fitting.fit(module, data(market_folder, val_identities=0))
    assert torch.equal(module.classifier.weight, rows)
    assert "a new one is made" not in caplog.text


def test_on_other_people_a_loaded_module_gets_a_new_classifier_and_it_is_said(trained, market_folder, duke_folder, tmp_path, caplog):
    module = load(trained(val_identities=0))
    with caplog.at_level(logging.WARNING):
        trainer(tmp_path).fit(module, data(duke_folder, val_identities=0))
    assert "the classifier knew 10 people of" in caplog.text
    assert module.classifier.out_features == 8
    assert module.people == data_people(duke_folder, val_identities=0)


def test_a_new_classifier_is_saved_and_loaded_though_the_one_before_was_of_num_classes(trained, duke_folder, tmp_path):
    module = SupervisedReID.load_from_checkpoint(trained(val_identities=0), num_classes=10)
    fitting = trainer(tmp_path)
    fitting.fit(module, data(duke_folder, val_identities=0))
    fitting.save_checkpoint(tmp_path / "of_duke.ckpt")
    loaded = load(str(tmp_path / "of_duke.ckpt"))
    assert torch.equal(loaded.classifier.weight, module.classifier.weight)
    assert loaded.people == data_people(duke_folder, val_identities=0)


def data_people(folder, **options):
    one = data(folder, **options)
    one.setup()
    return one.people


def test_weights_are_not_validated_on_people_they_were_trained_on(trained, market_folder, tmp_path):
    with pytest.raises(ValueError, match=r"2 of 2 people of market that are held out .* among those that these weights were trained on"):
        trainer(tmp_path).fit(load(trained(val_identities=0)), data(market_folder, val_identities=0.1))
    trainer(tmp_path).fit(load(trained(val_identities=0.1)), data(market_folder, val_identities=0.1))


@pytest.mark.parametrize("by", ["load_from_checkpoint", "ckpt_path"])
def test_a_validation_alone_is_not_on_people_that_the_weights_were_trained_on(trained, market_folder, tmp_path, by):
    def validate(held_out_in_training: float, held_out: float):
        path, validating = trained(val_identities=held_out_in_training), trainer(tmp_path)
        validating.limit_val_batches = 1.0
        loaded = by == "load_from_checkpoint"
        module, told = (load(path), {}) if loaded else (SupervisedReID(**TINY), {"ckpt_path": path, "weights_only": True})
        return validating.validate(module, data(market_folder, val_identities=held_out), verbose=False, **told)

    with pytest.raises(ValueError, match=r"2 of 2 people of market that are held out .* among those that these weights were trained on"):
        validate(0, 0.1)
    assert validate(0.1, 0.1)[0]["val/mAP"] > 0
    assert validate(0, 0)[0]["val/mAP"] > 0


def test_a_fit_that_is_resumed_on_other_people_is_refused_though_there_are_as_many(trained, market_folder, tmp_path):
    one, other = (data_people(market_folder, val_identities=3, seed=seed) for seed in (0, 1))
    assert len(one.pids) == len(other.pids)
    assert one.pids != other.pids
    path = trained(val_identities=3, seed=0)
    with pytest.raises(ValueError, match="people of market, and this fit is on 7 of market who are not the same"):
        trainer(tmp_path, 2).fit(SupervisedReID(**TINY), data(market_folder, val_identities=3, seed=1), ckpt_path=path, weights_only=True)
    trainer(tmp_path, 2).fit(SupervisedReID(**TINY), data(market_folder, val_identities=3, seed=0), ckpt_path=path, weights_only=True)


@pytest.mark.parametrize("num_classes", [5, 12])
def test_another_number_of_classes_than_the_data_have_is_refused(market_folder, tmp_path, num_classes):
    module = SupervisedReID(**TINY, num_classes=num_classes)
    with pytest.raises(ValueError, match=f"a classifier of {num_classes} identities, and the datamodule 10: leave num_classes out"):
        trainer(tmp_path).fit(module, data(market_folder, val_identities=0))
