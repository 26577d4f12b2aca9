"""The orderings of pruning run, small: every row is there, is read back, and goes into the file of results."""

from __future__ import annotations

import json
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(autouse=True)
def tiny_runs(tmp_path, monkeypatch):
    """One thread, ten classes, one step an epoch; the generated set is written below ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    runs = import_module("pruning_runs")
    monkeypatch.setattr(runs, "IMAGE", (32, 16))
    monkeypatch.setattr(runs, "STEPS_AN_EPOCH", 1)
    monkeypatch.setattr(runs.HeldOutImages, "classes", 10)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark
def test_every_way_of_pruning_leaves_its_row(tmp_path, capsys, monkeypatch):
    bench = import_module("pruning_ordering")
    for name, value in (("EPOCHS", 1), ("TUNING_EPOCHS", 1), ("FLOPS", 0.9), ("IMAGE", (32, 16))):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "STEP", {"filters_per_step": 40, "batches_per_step": 6})
    monkeypatch.setattr(bench, "OVERSHOOT_STEP", {"filters_per_step": 80, "batches_per_step": 1})
    rows = [*bench.METHODS, *bench.CONTROLS, bench.LONGER, *bench.OTHER_MEASURES]
    short = ["--networks", "vgg", "--tasks", "classification", "--seeds", "0", "1", "--output", str(tmp_path), "--rows", *rows]
    found = bench.main(short)
    for seed in found["vgg", "classification"].values():
        assert list(seed) == ["whole", *rows]
        assert all(seed[name]["flops"] <= 0.9 for name in (*bench.METHODS, *bench.CONTROLS))
        assert all(seed["overshoot"][f"CAIE, {resource} overshoot"] >= 0 for resource in ("flops", "params"))
        assert -1 <= seed["correlation"]["all"] <= 1
    printed = capsys.readouterr().out
    assert "| CAIE - whole, trained as long |" in printed
    assert "| CAIE, last five - loss alone, last five |" in printed
    assert bench.main([*short, "--results", "results.json", "--commit", "abc"]) == found  # read back
    table = json.loads((tmp_path / "results.json").read_text())["tables"][0]
    assert (table["commit"], table["primary"]) == ("abc", None)
    assert all(0 <= score <= 1 for rows in table["scores"].values() for score in rows.values())
    assert {name for pair in table["exploratory"] for name in pair} <= set(table["scores"]["0"])


@pytest.mark.benchmark
def test_only_the_last_five_batches_are_left_in_the_controls_estimate(tmp_path):
    bench = import_module("pruning_ordering")
    pruning = bench.LastFive({"flops": 0.5}, batches_per_step=30)
    seen = []

    trainer = SimpleNamespace(precision="32-true")
    pruning._masks = SimpleNamespace(groups={"one": None}, network=None)
    pruning._impact = lambda network, group: torch.tensor([float(len(seen))])
    for _ in range(30):
        pruning.on_before_optimizer_step(trainer, None, None)
        seen.append(pruning.running.values["one"].item())
    expected = 25.0
    for batch in range(26, 30):
        expected = 0.9 * expected + 0.1 * batch
    assert pruning.running.values["one"].item() == pytest.approx(expected, rel=1e-6)
