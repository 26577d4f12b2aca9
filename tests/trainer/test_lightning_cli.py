"""Lightning's own command line over this library's modules, datamodules and callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.cli import LightningCLI

from lightning_reid.callbacks import RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import BottomUpReID, SupervisedReID


@pytest.fixture
def config(tiny_folders, tmp_path, monkeypatch) -> dict[str, Any]:
    """One epoch on a few small images, as a configuration file has it; the folder of the test is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])  # Lightning warns of those of pytest
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0, **quiet},
        "model": {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}},
        "data": {"dataset": str(tiny_folders["supervised"]), "image_size": [16, 8], "crop_padding": 2, "p": 4, "k": 2, "num_workers": 0},
    }


def run(config: dict[str, Any], *options: str, classes=(SupervisedReID, ImageReIDDataModule)) -> LightningCLI:
    """``python train.py fit --config train.yaml ...``, in this process."""
    Path("train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return LightningCLI(*classes, args=["fit", "--config", "train.yaml", *options])


def test_a_typed_configuration_a_callback_by_class_path_and_an_optimizer_by_name(config, tmp_path):
    callback = {"class_path": "lightning_reid.callbacks.RankListLogger", "init_args": {"path": "ranks.png", "num_queries": 2}}
    config["trainer"]["callbacks"] = [callback]
    with pytest.warns(UserWarning, match="configure_optimizers` will be overridden"):
        cli = run(config, "--optimizer=AdamW", "--optimizer.lr=0.002", "--model.label_smoothing=0.2")
    assert (cli.trainer.current_epoch, cli.trainer.global_step > 0) == (1, True)
    (optimizer,) = cli.trainer.optimizers
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["lr"] == 0.002
    assert cli.model.hparams.label_smoothing == 0.2
    assert cli.datamodule.image_size == (16, 8), "the list of the file is the pair that the constructor asks for"
    assert any(isinstance(one, RankListLogger) and one.num_queries == 2 for one in cli.trainer.callbacks)
    assert (tmp_path / "ranks.png").is_file()
    assert "val/mAP" in cli.trainer.callback_metrics


def test_module_and_datamodule_by_class_path_keep_the_modules_own_optimizer(config):
    bottom_up = {"class_path": "lightning_reid.modules.BottomUpReID", "init_args": {**config["model"], "lr": 0.25}}
    merging = {"class_path": "lightning_reid.callbacks.BottomUpClustering", "init_args": {"initial_epochs": 1, "merge_share": 0.3}}
    options = {name: value for name, value in config["data"].items() if name not in ("p", "k")}
    unlabeled = {"class_path": "lightning_reid.datamodules.UnlabeledDataModule", "init_args": options}
    config["trainer"]["callbacks"] = [merging]
    cli = run(config | {"model": bottom_up, "data": unlabeled}, classes=())
    assert type(cli.model) is BottomUpReID
    assert cli.trainer.optimizers[0].defaults["lr"] == cli.model.hparams.lr == 0.25
    assert cli.datamodule.target_state is not None


@pytest.mark.parametrize(
    ("part", "name", "value", "named"),
    [
        ("model", "label_smooting", 0.1, "label_smooting"),
        ("model", "optimizer", "sdg", "model.optimizer"),
        ("data", "batch_size", 64, "batch_size"),
        ("data", "image_size", "large", "data.image_size"),
    ],
)
def test_a_typo_is_refused_by_name(config, capsys, part, name, value, named):
    config[part][name] = value
    with pytest.raises(SystemExit):
        run(config)
    assert named in capsys.readouterr().err.split("error:")[1]


def test_a_misspelt_callback_is_refused_by_name(config, capsys):
    config["trainer"]["callbacks"] = [{"class_path": "lightning_reid.callbacks.RankListLogger", "init_args": {"num_querys": 2}}]
    with pytest.raises(SystemExit):
        run(config)
    assert "num_querys" in capsys.readouterr().err.split("error:")[1]
