"""The benchmark of pruning's rules and resources, run small."""

from __future__ import annotations

from importlib import import_module

import pytest


@pytest.mark.benchmark
def test_every_rule_of_pruning_leaves_its_row_and_is_read_back(market_folder, tmp_path, capsys, monkeypatch):
    module = import_module("pruning_rules")
    short = {"EPOCHS": 1, "STEPS_AN_EPOCH": 1, "TUNING_EPOCHS": 1, "EXPECTED_DROP": 1.0, "VAL_IDENTITIES": 2}
    for name, value in (short | {"DATA": str(market_folder)}).items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "CAIE_STEP", {"filters_per_step": 40, "batches_per_step": 1})
    monkeypatch.setattr(module, "NETWORK", {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}})
    monkeypatch.setitem(module.ROWS, "CPO, zero-padded", {"residual_blocks": "zero-padded", "search": "uniform"})
    monkeypatch.setattr(module, "CONTROLS", {"control": "CAIE, both 60 %"})
    arguments = ["--output", str(tmp_path / "rows"), "--rows", "CPO, zero-padded", "CAIE, both 60 %"]
    rows = module.main(arguments)
    assert [rows["whole"][name] for name in module.RESOURCES] == [1, 1, 1]
    assert rows["CAIE, both 60 %"]["peak"] <= 0.6
    assert rows["CAIE, both 60 %"]["flops"] <= 0.6
    assert rows["CPO, zero-padded"]["params"] < 1
    assert "tuned" not in rows["CPO, zero-padded"]
    assert rows["control"]["steps"] == rows["CAIE, both 60 %"]["steps"] > 0 == rows["whole"]["steps"]
    assert rows["control"]["flops"] == 1
    assert "| CAIE, both 60 % |" in capsys.readouterr().out
    assert module.main(arguments) == rows
