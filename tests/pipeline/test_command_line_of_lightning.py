"""Lightning's own command line makes the strategy, by its class path, with its arguments as options."""

from __future__ import annotations

import pytest
from pytorch_lightning.cli import LightningCLI

from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.modules import VideoReID
from lightning_reid.pipeline import PipelineStrategy

MODEL = ["--model.network=nvan", '--model.network_options={"backbone": "resnet18", "channels": [4, 4, 8, 8]}', "--data.dataset=mars"]
OF_TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=lightning_reid.pipeline.PipelineStrategy"]


def made_by(*options: str) -> LightningCLI:
    return LightningCLI(VideoReID, VideoReIDDataModule, args=[*MODEL, *OF_TWO, *options], run=False, save_config_callback=None)


def test_the_strategy_and_its_arguments_are_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategy = made_by("--trainer.strategy.microbatches=3", "--trainer.strategy.schedule=1f1b").trainer.strategy
    assert isinstance(strategy, PipelineStrategy)
    assert (strategy.microbatches, strategy.schedule) == (3, "1f1b")


def test_a_schedule_that_is_none_is_refused_by_the_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        made_by("--trainer.strategy.schedule=zigzag")
    assert end.value.code == 2
    assert "schedule" in capsys.readouterr().err
