"""What was measured before is read back where it was measured by the same settings, and refused where not."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import edge_ordering
import pytest
import read_back
import torch

from lightning_reid.recipes import hsr_duke2market
from lightning_reid.recipes.workshop.fingerprints import options_fingerprint

OTHER = "was measured by other settings: lr: 0.1 there, 0.2 here. Give it the same, or name another --output"


def test_a_row_is_measured_once(tmp_path):
    measured = []
    for _ in range(2):
        found = read_back.row(tmp_path / "row.json", lambda: measured.append(1) or {"mAP": 0.5}, {"lr": 0.1, "size": (64, 32)})
        assert found["mAP"] == 0.5
        assert found["seconds"] >= 0
        assert "settings" not in found
    assert measured == [1]


def test_a_row_of_other_settings_is_refused_and_kept(tmp_path):
    file = tmp_path / "row.json"
    read_back.row(file, lambda: {"mAP": 0.5}, {"lr": 0.1})
    with pytest.raises(ValueError, match=re.escape(f"{file} {OTHER}")):
        read_back.row(file, lambda: {"mAP": 0.6}, {"lr": 0.2})
    assert read_back.row(file, lambda: {"mAP": 0.6}, {"lr": 0.1})["mAP"] == 0.5


def test_a_row_that_does_not_tell_its_settings_is_refused(tmp_path):
    (tmp_path / "row.json").write_text('{"mAP": 0.5, "seconds": 1}')
    with pytest.raises(ValueError, match=r"row\.json does not tell by which settings it was measured: name another --output"):
        read_back.row(tmp_path / "row.json", dict, {})


def test_weights_are_trained_once_and_those_of_other_settings_are_refused(tmp_path):
    trained = []
    for _ in range(2):
        found = read_back.weights(tmp_path / "new" / "net.pt", lambda: trained.append(1) or {"w": torch.ones(2)}, {"epochs": 24})
        assert torch.equal(found["w"], torch.ones(2))
    assert trained == [1]
    with pytest.raises(ValueError, match=r"net\.json was measured by other settings: epochs: 24 there, 48 here\."):
        read_back.weights(tmp_path / "new" / "net.pt", dict, {"epochs": 48})


def write_run(folder, rows, *options):
    folder.mkdir()
    told = options_fingerprint(hsr_duke2market.parse([*options]), hsr_duke2market.ROW_OPTIONS)
    (folder / "run.json").write_text(json.dumps({"options": told, "data": {}}))
    if rows is not None:
        (folder / "results.json").write_text(json.dumps({"rows": rows}))


def test_a_finished_run_of_the_same_options_is_read_back_whatever_rows_it_has(tmp_path):
    write_run(tmp_path / "run", {"HSR": {"mAP": 0.5}}, "--model.lr=0.001")
    arguments = [f"--output={tmp_path / 'run'}", "--model.lr=0.001", "--ablation", "--quiet"]
    assert read_back.rows_of_recipe(hsr_duke2market, arguments) == {"HSR": {"mAP": 0.5}}


def test_a_finished_run_of_other_options_is_refused_by_their_names(tmp_path):
    write_run(tmp_path / "run", {"HSR": {"mAP": 0.5}})
    arguments = [f"--output={tmp_path / 'run'}", "--model.lr=9"]
    with pytest.raises(ValueError, match=r"run with other options: model.lr: 0\.\d+ there, 9.0 here\. .* or name another --output"):
        read_back.rows_of_recipe(hsr_duke2market, arguments)


def test_an_option_that_the_run_does_not_tell_is_another_one(tmp_path):
    write_run(tmp_path / "run", {"HSR": {"mAP": 0.5}})
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    del told["options"]["model.lr"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"run with other options: model.lr: nothing there, 0\.\d+ here\."):
        read_back.finished_rows(hsr_duke2market, [f"--output={tmp_path / 'run'}"])


def test_results_of_nobody_knows_which_run_are_refused(tmp_path):
    write_run(tmp_path / "run", {"HSR": {"mAP": 0.5}})
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ValueError, match=r"run holds results, and no run\.json that tells of which run: name another --output"):
        read_back.finished_rows(hsr_duke2market, [f"--output={tmp_path / 'run'}"])


def test_a_run_that_was_begun_goes_on_by_its_recipe(tmp_path):
    write_run(tmp_path / "run", None)
    ran = []

    def main(argv):
        ran.append(argv)
        (tmp_path / "run" / "results.json").write_text('{"rows": {"HSR": {"mAP": 0.5}}}')

    arguments = [f"--output={tmp_path / 'run'}"]
    recipe = SimpleNamespace(parse=hsr_duke2market.parse, ROW_OPTIONS=hsr_duke2market.ROW_OPTIONS, main=main)
    assert read_back.rows_of_recipe(recipe, arguments, ["HSR"]) == {"HSR": {"mAP": 0.5}}
    assert ran == [arguments]
    with pytest.raises(ValueError, match="the recipe ended without baseline"):
        read_back.rows_of_recipe(recipe, arguments, ["HSR", "baseline"])
    assert ran == [arguments] * 2


def test_scores_of_devices_that_began_from_other_weights_are_refused(tmp_path):
    scores = tmp_path / "seed3" / "scores.json"
    (weights := tmp_path / "weights.bin").write_bytes(b"one")
    told = {"people": edge_ordering.PEOPLE, "image_size": edge_ordering.IMAGE_SIZE, "learning": edge_ordering.LEARNING}
    told |= {"walks": edge_ordering.WALKS, "behind": edge_ordering.BEHIND, "weights": "f00d"}
    read_back.write_json(scores, {"start": {"mAP": 0.5}, "settings": told})
    with pytest.raises(ValueError, match=r'scores\.json was measured by other settings: weights: "f00d" there, "7692c3ad\w+" here\.'):
        edge_ordering.Seed(3, weights, tmp_path)
