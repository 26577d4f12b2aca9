"""Runs of one seed are compared to the bit, those that were finished before are read back."""

from __future__ import annotations

import json

import pytest
import repeats
import torch

from lightning_reid.recipes.workshop.fingerprints import options_fingerprint

WEIGHTS = {"layer.weight": torch.tensor([[1.0, -2.0]]), "count": torch.tensor(3), "none": torch.empty(0)}


def finished(folder, mAP, weights):
    for row in ("student-alone", "teacher"):
        (folder / row).mkdir(parents=True)
        torch.save({"state_dict": weights}, folder / row / "last.ckpt")
    told = options_fingerprint(repeats.distill_market.parse(["--seed=7"]), repeats.distill_market.ROW_OPTIONS)
    (folder / "run.json").write_text(json.dumps({"options": told, "data": {}}))
    (folder / "results.json").write_text(json.dumps({"rows": {"student alone": {"mAP": mAP}, "teacher": {"mAP": 0.5}}}))


def test_what_repeats_to_the_bit_is_told_from_what_is_a_bit_apart(tmp_path, capsys):
    moved = WEIGHTS | {"layer.weight": WEIGHTS["layer.weight"] + torch.tensor([[0.0, 0.25]])}
    finished(tmp_path / "seed-7-run-1-threads-1", 0.4, WEIGHTS)
    finished(tmp_path / "seed-7-run-2-threads-1", 0.4, WEIGHTS)
    finished(tmp_path / "seed-7-run-3-threads-2", 0.4125, moved)
    found = repeats.main(["--seeds", "7", "--threads", "1", "1", "2", "--output", str(tmp_path)])
    assert [one["student alone"] for one in found.values()] == [0.4, 0.4, 0.4125]
    printed = capsys.readouterr().out
    assert "| seed 7, run 1, threads: 1 | student alone | 40.00 |  |  |" in printed
    assert "| seed 7, run 2, threads: 1 | student alone | 40.00 | to the bit | 0.0e+00 |" in printed
    assert "| seed 7, run 3, threads: 2 | student alone | 41.25 | +1.25 | 2.5e-01 |" in printed
    assert "| seed 7, run 3, threads: 2 | teacher | 50.00 | +0.00 | 2.5e-01 |" in printed


def test_weights_of_two_networks_are_not_compared():
    with pytest.raises(ValueError, match="the runs to compare are of two networks: take a new --output"):
        repeats.furthest_apart(WEIGHTS, WEIGHTS | {"count": torch.zeros(2)})
