"""``lightning-reid train``: recipes by the names of their presets, and Lightning's own command line."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from lightning_reid.callbacks import RankListLogger
from lightning_reid.command_line.main import main
from lightning_reid.command_line.train import COMMANDS, PRESETS

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_recipe_that_takes_what_follows_untouched(preset, monkeypatch):
    given: list[list[str]] = []
    monkeypatch.setattr(import_module(f"lightning_reid.recipes.{PRESETS[preset][0]}"), "main", given.append)
    assert main(["train", preset, "--epochs", "2", "--help", "-x", "evaluate"]) == 0
    assert given == [["--epochs", "2", "--help", "-x", "evaluate"]]


def test_a_preset_trains_in_an_empty_folder(market_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"data.dataset": market_folder, "data.image_size": "[16,8]", "data.crop_padding": 2, "data.p": 4, "data.k": 2}
    options |= {"data.num_workers": 0, "model.backbone": "resnet18", "model.backbone_options": json.dumps(TINY["backbone_options"])}
    named = [one for name, value in options.items() for one in (f"--{name}", str(value))]
    assert main(["train", "supervised", "--epochs", "1", "--accelerator", "cpu", "--quiet", "--output", "run", *named]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    (checkpoint,) = (tmp_path / "run").rglob("last.ckpt")
    assert main(["evaluate", "--models", str(checkpoint), "--data", str(market_folder), "--out", "scores.csv"]) == 0


def test_wrong_options_are_the_recipes_to_refuse_and_no_preset_is_told_with_those_there_are(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "supervised", "--nope", "1"])
    assert stopped.value.code == 2
    assert "--nope" in capsys.readouterr().err
    for given, what in ((["hrs"], "there is no preset or command 'hrs'"), ([], "a preset or command is missing")):
        assert main(["train", *given]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"lightning-reid train: {what}; there are supervised, generated-people, " in captured.err
    assert main(["train", "supervised", "--data.dataset", str(tmp_path / "nowhere"), "--output", str(tmp_path / "run")]) == 1
    assert "nowhere' is neither an existing folder or table nor a known data set" in capsys.readouterr().err


def test_help_has_a_line_for_each(capsys):
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, told in (*((name, told) for name, (_, told) in PRESETS.items()), *COMMANDS.items()):
        assert sum(line.split() == [name, *told.split()] for line in lines) == 1
    assert max(map(len, lines)) <= 140


@pytest.mark.parametrize("home", ["", "lightning_reid.{}."], ids=["short", "full"])
def test_lightnings_command_line_knows_the_classes_by_name_and_by_path(home, market_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = {"image_size": [16, 8], "crop_padding": 2, "p": 4, "k": 2, "num_workers": 0}
    config = {
        "seed_everything": 3,
        "trainer": {
            **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0, **QUIET},
            "callbacks": [
                {"class_path": f"{home.format('callbacks')}RankListLogger", "init_args": {"path": "ranks.png", "num_queries": 2}}
            ],
        },
        "model": {"class_path": f"{home.format('modules')}SupervisedReID", "init_args": TINY},
        "data": {"class_path": f"{home.format('datamodules')}ImageReIDDataModule", "init_args": {"dataset": str(market_folder), **size}},
    }
    Path("train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["train", "fit", "--config", "train.yaml", "--model.init_args.lr", "0.002"]) == 0
    assert Path("ranks.png").is_file(), f"{RankListLogger.__name__} had been asked for"
    Path("config.yaml").unlink()  # without a logger Lightning puts it here, and does not replace it
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    assert (content["hyper_parameters"]["lr"], content["epoch"]) == (0.002, 0)
    assert main(["train", "test", "--config", "train.yaml", "--ckpt_path", str(checkpoint)]) == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model", "SupervisedRe"], "SupervisedRe"),
        (["--model", "SupervisedReID", "--model.nope", "1"], "nope"),
        (["--trainer.nope", "1"], "nope"),
    ],
)
def test_a_typo_in_front_of_lightning_is_refused_by_name(options, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "fit", "--data", "ImageReIDDataModule", *options])
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err
