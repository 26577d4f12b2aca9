from __future__ import annotations

import shutil

import pytest
import pytorch_lightning as pl
import torch

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


def quiet_trainer(folder, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **(quiet | options))


@pytest.fixture
def data(market_folder) -> ImageReIDDataModule:
    return ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=4, k=4, num_workers=0, val_identities=0)


def test_training_lowers_the_loss_and_validation_logs_scores_in_the_unit_interval(data, tmp_path):
    torch.manual_seed(0)
    model = SupervisedReID(**TINY, lr=2e-3)
    trainer = quiet_trainer(tmp_path, max_epochs=4)
    first = {}
    model.on_train_batch_end = lambda outputs, *_: first.setdefault("loss", float(outputs["loss"]))
    trainer.fit(model, data)
    assert float(trainer.callback_metrics["train/loss"]) < first["loss"]
    for name in ("val/mAP", "val/R1", "val/R5", "val/R10", "val/mINP"):
        assert 0 < trainer.callback_metrics[name] <= 1
    assert trainer.callback_metrics["val/unmatched_queries"] == 0
    assert model.classifier.out_features == 10


def test_queries_without_a_match_are_counted_in_validation_and_test(market_folder, tmp_path):
    folder = shutil.copytree(market_folder, tmp_path / "market")
    queries = sorted(file.name for file in (folder / "query").iterdir())
    missed = queries[0].split("_")[0]
    for file in (folder / "bounding_box_test").glob(f"{missed}_*"):
        file.unlink()
    in_vain = sum(name.startswith(f"{missed}_") for name in queries)
    assert 0 < in_vain < len(queries)
    data = ImageReIDDataModule(str(folder), image_size=(64, 32), p=4, k=4, num_workers=0, val_identities=0)
    trainer, model = quiet_trainer(tmp_path, max_epochs=1), SupervisedReID(**TINY, num_classes=10)
    assert trainer.validate(model, data, verbose=False)[0]["val/unmatched_queries"] == in_vain
    assert trainer.test(model, data, verbose=False)[0]["test/unmatched_queries"] == in_vain
    assert model.last_scores.num_unmatched_queries == in_vain


def test_loss_is_the_same_with_four_groups_of_16_as_the_mean_of_four_batches_of_16():
    torch.manual_seed(0)
    whole = SupervisedReID(num_classes=8, bn_group=16, **TINY).double()
    one = SupervisedReID(num_classes=8, **TINY).double()
    one.load_state_dict(whole.state_dict())
    for model in (whole, one):
        model.log_dict = lambda *_, **__: None
        model.train()
    images, pids = torch.randn(64, 3, 32, 16, dtype=torch.float64), torch.arange(64) // 4 % 8
    loss = whole.training_step({"images": images, "pids": pids}, 0)
    loss.backward()
    parts = [one.training_step({"images": part, "pids": ids}, 0) for part, ids in zip(images.split(16), pids.split(16))]
    torch.stack(parts).mean().backward()
    torch.testing.assert_close(loss, torch.stack(parts).mean(), rtol=1e-10, atol=1e-12)
    for (name, a), b in zip(whole.named_parameters(), one.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_a_checkpoint_brings_its_weights_and_its_classifier(data, tmp_path):
    torch.manual_seed(0)
    model = SupervisedReID(**TINY)
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = SupervisedReID.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    images = torch.randn(2, 3, 64, 32)
    model.eval(), again.eval()
    torch.testing.assert_close(again(images), model(images))
    torch.testing.assert_close(again.classifier.weight, model.classifier.weight)


def test_a_checkpoint_of_another_architecture_is_refused_by_name(data, tmp_path):
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(SupervisedReID(**TINY), data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    other = SupervisedReID(backbone="resnet34", backbone_options=TINY["backbone_options"])
    with pytest.raises(ValueError, match=r"holds a network with backbone='resnet18', this module has backbone='resnet34'"):
        quiet_trainer(tmp_path, max_epochs=2, limit_val_batches=0).fit(other, data, ckpt_path=tmp_path / "model.ckpt")


def test_without_num_classes_or_a_labeled_datamodule_setup_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="give SupervisedReID num_classes"):
        quiet_trainer(tmp_path, max_epochs=1).fit(SupervisedReID(**TINY), train_dataloaders=[])


def test_more_gpus_than_there_are_is_lightnings_named_error(tmp_path):
    if torch.cuda.device_count() >= 64:
        pytest.skip("this machine really has 64 GPUs")
    with pytest.raises((RuntimeError, ValueError, pl.utilities.exceptions.MisconfigurationException), match=r"(?i)gpu|cuda"):
        pl.Trainer(accelerator="gpu", devices=64, logger=False)


def test_learning_rate_warms_up_and_drops_at_milestones():
    model = SupervisedReID(num_classes=2, warmup_epochs=4, milestones=[10, 20], **TINY)
    factors = [model._lr_factor(epoch) for epoch in (0, 3, 4, 9, 10, 19, 20)]
    assert factors == pytest.approx([0.2, 0.8, 1.0, 1.0, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"weight_decay": -1.0}, {"warmup_epochs": -1}])
def test_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
        SupervisedReID(num_classes=2, **TINY, **wrong)


def test_predict_embeds_queries_and_gallery_as_the_test_does(market_folder, tmp_path):
    data = ImageReIDDataModule(str(market_folder), image_size=(64, 32), num_workers=0, eval_batch_size=16, val_identities=0, p=4)
    model = SupervisedReID(num_classes=10, backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    batches = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet).predict(model, data)
    rows = {name: torch.cat([batch[name] for batch in batches]) for name in ("embeddings", "indices", "is_query")}
    query, gallery = data.evaluation_records()
    assert rows["indices"].tolist() == [*range(len(query)), *range(len(gallery))]
    assert rows["is_query"].tolist() == [True] * len(query) + [False] * len(gallery)
    assert rows["embeddings"].shape == (len(query) + len(gallery), 16)
