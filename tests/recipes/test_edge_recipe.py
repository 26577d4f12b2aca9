"""Devices of cameras as a recipe: what its rows are scored with, what it counts, and options that are refused."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file
from small_devices import TINY, small_start

from lightning_reid.federated.traffic import Ledger
from lightning_reid.recipes import edge
from lightning_reid.recipes.workshop import edge_experiment
from lightning_reid.recipes.workshop.edge_rows import EdgeRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.stages import Stage

TRUNK = "network.backbone.trunk."


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    """Of a run in seconds; the output is missing."""
    weights = tmp_path_factory.mktemp("weights") / "start.safetensors"
    save_file({name.removeprefix(TRUNK): tensor for name, tensor in small_start().items() if name.startswith(TRUNK)}, weights)
    return [
        *("--data.dataset=generated-people,people=3,cameras=2", "--data.image_size=[32,16]", "--data.num_workers=0", "--data.batch_size=8"),
        *(f"--model.backbone={TINY['backbone']}", f"--model.backbone_options={json.dumps(TINY['backbone_options'])}"),
        *(f"--model.weights={weights}", "--supervised_epochs=1", "--edge.visits=1", "--edge.incremental_visits=1", "--edge.alpha=0"),
        *("--score_visits=false", "--accelerator=cpu", "--quiet"),
    ]


def test_each_row_ends_as_the_options_say_and_counts_what_crossed_for_it(options, tmp_path, monkeypatch):
    scored: dict[str, list[int]] = {}
    ledgers: dict[str, Ledger] = {}
    monkeypatch.setattr(Stage, "score", lambda stage, trainer, module, *_: scored.update({stage.name: sorted(module.camera_statistics)}))
    monkeypatch.setattr(edge_experiment, "print_traffic", lambda name, ledger, *_: ledgers.update({name: ledger}))
    monkeypatch.setattr(edge_experiment, "stored_bytes", lambda data: 1)
    cfg = edge.parse([*options, f"--output={tmp_path / 'run'}", "--edge.statistics=local"])
    rows: list[EdgeRow] = ["walk", "walk + clustering", "clustering without a walk"]
    with RunFolder(cfg) as folder:
        experiment = edge_experiment.EdgeExperiment(cfg, folder)
        for row in rows:
            experiment.row(row)
    assert scored == {"direct transfer": []} | {row: [1, 2] for row in rows}
    size = ledgers["walk"].totals()["model, stage 2"].hub // 4  # two devices, down and up
    to_all = {name: ledger.totals()["model to all"].hub // size for name, ledger in ledgers.items()}
    assert to_all == {"walk": 2, "walk + clustering": 4, "clustering without a walk": 4}
    assert [row for row in rows if "model, stage 2" in ledgers[row].totals()] == rows[:2]


@pytest.mark.parametrize(("rows", "styled"), [(["walk"], False), (["walk", "style + walk"], True)])
def test_a_style_is_told_of_where_a_row_has_one(options, rows, styled):
    assert edge.styled(edge.parse([*options, f"--rows={json.dumps(rows)}"])) == styled


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "give --share_style_images if they may cross, --style_images FOLDER"),
        (["--style_images=missing"], "missing"),
        (["--share_style_images", "--style_size=[16,32]"], "sides of 24 or more"),
        (["--share_style_images", "--style_size=[30,32]"], "divisible by 4"),
    ],
)
def test_a_style_that_cannot_be_learned_is_refused_before_anything_is(options, tmp_path, capsys, more, reason):
    asked = ['--rows=["style + walk"]', "--style=cyclegan", "--transfer.blocks=1", "--transfer.width=4", *more]
    with pytest.raises((SystemExit, ValueError, FileNotFoundError)) as caught:
        edge.main([*options, f"--output={tmp_path / 'run'}", *asked])
    assert reason in f"{caught.value} {capsys.readouterr().err}"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--model.walking_lr_factor=1", "--model.lr=1", "--data.needs_test=false"])
def test_an_option_that_would_change_nothing_is_none(options, option, capsys):
    with pytest.raises(SystemExit):
        edge.parse([*options, option])
    assert option.split("=")[0].removeprefix("--") in capsys.readouterr().err
