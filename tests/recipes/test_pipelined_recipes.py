"""Recipes with ``--strategy pipeline``: one network over two processes, one row, and checkpoints of the whole network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.modules import VideoReID
from lightning_reid.recipes.workshop.options import RunOptions

RECIPES = Path(__file__).parents[2] / "recipes"
PIPELINE = ["--strategy=pipeline", "--devices=2", "--microbatches=2", "--accelerator=cpu", "--quiet"]
NETWORK = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
VIDEO = ["--data.image_size=[64,32]", "--data.clip_length=4", "--data.p=3", "--data.k=2", "--data.num_workers=0"]
OPTIONS = {name: value for name, value in NETWORK.items() if name != "backbone"}


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory) -> Path:
    small = GeneratedTracklets(num_train_pids=6, num_test_pids=4, num_distractors=2, frames=(4, 6), height=64, width=32)
    return small.write(tmp_path_factory.mktemp("data") / "tracklets", progress=False)


def ran(recipe: str, arguments: list[str]) -> Any:
    return import_module(f"lightning_reid.recipes.{recipe}").main(arguments)


def test_the_video_recipe_in_a_pipeline_leaves_the_row_and_the_network_of_one_process(tracklets, tmp_path, two_processes):
    network = f"--model.network_options={json.dumps(NETWORK | {'layers': [1, 2, 3, 1]})}"
    arguments = [f"--data.dataset={tracklets}", *VIDEO, network, "--network=nvan", "--epochs=1", f"--output={tmp_path}", *PIPELINE]
    first, second = two_processes(ran, "video_mars", [*arguments, "--checkpoint_activations"])
    (row,) = first["nvan"]
    assert row.scores == second["nvan"][0].scores
    assert json.loads((tmp_path / "results.json").read_text())["rows"][row.name]["mAP"] == row.scores["mAP"]
    assert (tmp_path / "nvan-T4" / "rank_list.png").stat().st_size > 0
    resumed, _ = two_processes(ran, "video_mars", [*arguments, "--resume"])  # without recomputation, which changes no number
    assert resumed == first

    module = VideoReID.load_from_checkpoint(tmp_path / "nvan-T4" / "last.ckpt", map_location="cpu", weights_only=True)
    data = VideoReIDDataModule(str(tracklets), image_size=(64, 32), clip_length=4, p=3, k=2, num_workers=0)
    scores = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(module, data, verbose=False)[0]
    assert {name: scores[f"test/{name}"] for name in row.scores} == pytest.approx(row.scores, abs=1e-6)


def test_images_are_learned_in_a_pipeline_and_a_student_of_a_teacher_who_was(market_folder, tmp_path, two_processes):
    data = [f"--data.dataset={market_folder}", "--data.image_size=[64,32]", "--data.p=4", "--data.num_workers=0", "--epochs=1", *PIPELINE]
    options = json.dumps(OPTIONS)
    networks = ["--teacher.backbone=resnet18", f"--teacher.backbone_options={options}", "--model.student=resnet18"]
    arguments = [*data, *networks, f"--model.backbone_options={options}", f"--output={tmp_path}"]
    first, second = two_processes(ran, "distill_market", arguments)
    assert [row.name for row in first] == ["teacher", "student alone", "distilled student"]
    assert [row.scores for row in first] == [row.scores for row in second]
    assert not any(torch.isnan(tensor).any() for tensor in torch.load(tmp_path / "distilled-student" / "last.ckpt")["state_dict"].values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"microbatches": 4}, "--microbatches 4 goes with --strategy pipeline, got --strategy auto"),
        ({"microbatches": 0}, "--microbatches 0 goes"),
        ({"stages": 2, "checkpoint_activations": True, "strategy": "ddp"}, "--stages 2 --checkpoint_activations goes with"),
        ({"checkpoint_activations": True}, "--checkpoint_activations goes with"),
    ],
)
def test_an_option_of_the_pipeline_is_refused_with_another_strategy(given, said):
    with pytest.raises(ValueError, match=said):
        RunOptions(**given)


def test_micro_batches_are_counted_before_anything_is_trained():
    with pytest.raises(ValueError, match="microbatches must be"):
        RunOptions(strategy="pipeline", microbatches=0)


@pytest.mark.slow
def test_the_launcher_of_lightning_begins_the_other_stages(tracklets, tmp_path):
    options = [f"--data.dataset={tracklets}", *VIDEO, f"--model.network_options={json.dumps(NETWORK)}", "--network=baseline", "--epochs=1"]
    command = [sys.executable, str(RECIPES / "video_mars.py"), *options, *PIPELINE, f"--output={tmp_path}"]
    finished = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert " ".join(finished.stdout.split()).count("protocol mars, AP by step") == 1  # by the first process alone
    assert list(json.loads((tmp_path / "results.json").read_text())["rows"]) == ["baseline, tracklets as they are"]
