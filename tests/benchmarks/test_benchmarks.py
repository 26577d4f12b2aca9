"""The benchmarks of training and images run, small, and their figures hang together; nothing here asserts a time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--image_size", "32", "16"]


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine two threads wait for each other at every one of these tiny layers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(name: str, *arguments: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(list(arguments))


def test_the_bare_loop_and_the_trainer_end_in_the_same_losses():
    figures = run("training_overhead", "--steps", "3", "--rounds", "1", *TINY)
    assert set(figures) == {"bare", "trainer", "trainer, nothing logged"}
    assert figures["bare"]["ratio"] == figures["bare"]["cpu_ratio"] == 1
    for row in figures.values():
        assert row["loss_off"] < 1e-5
        assert row["step_ms"] > 0
        assert row["low"] <= row["ratio"] <= row["high"]


def test_both_image_pipelines_make_the_same_pictures():
    figures = run("image_pipeline", "--images", "16", "--batch", "8", "--rounds", "2")
    assert set(figures) == {(256, 128), (128, 64)}
    for row in figures.values():
        assert row["grey_levels_apart"] < 1
        assert 0 < row["low"] <= row["ratio"] <= row["high"]


def test_gpu_training_takes_its_path_on_the_cpu_too(capsys):
    figures = run("gpu_training", "--device", "cpu", "--batch", "8", "--backbone", "resnet18", "--steps", "1", "--warm_up", "1", *TINY)
    assert "no CUDA device used" in capsys.readouterr().out
    row = figures["eager"]
    assert list(figures) == ["eager"]
    assert row["share"] == pytest.approx(row["images_per_second"] * row["gflops_an_image"] / row["product_tflops"] / 1e3)
