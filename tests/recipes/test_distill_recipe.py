"""The recipe of knowledge distillation, run as a user runs it, on a small generated folder."""

from __future__ import annotations

import json

import distillation_ordering
import pytest

from lightning_reid.recipes import distill_market

TINY = [
    "--data.image_size=[64,32]",
    "--data.p=4",
    "--data.num_workers=0",
    "--teacher.backbone=resnet18",
    '--teacher.backbone_options={"channels":[8,16,16,32],"layers":[1,1,1,1]}',
    "--model.student=resnet18",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--epochs=1",
    "--quiet",
]


@pytest.fixture(scope="module")
def ran(market_folder, tmp_path_factory):
    """The recipe with a grid of two cells: its module, its arguments, its folder and its rows."""
    module, folder = distill_market, tmp_path_factory.mktemp("distill")
    module.TEMPERATURES, module.ALPHAS = (2, 5), (0.1,)
    arguments = [f"--data.dataset={market_folder}", "--grid", f"--output={folder}", *TINY]
    return module, arguments, folder, module.main(arguments)


def test_the_grid_leaves_both_tables_and_the_heat_map_and_is_not_trained_twice(ran):
    module, arguments, folder, printed = ran
    assert [row.name for row in printed] == ["teacher", "student alone", "distilled student", "T=2, alpha=0.1", "distilled student"]
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert list(rows) == ["teacher", "student alone", "distilled student"]
    costs = [row["costs"] for row in rows.values()]
    assert set(costs[0]) == {"G multiply-adds", "M parameters", "ms, batch 1", "ms, batch 32", "min of training"}
    assert all(value > 0 for cost in costs for value in cost.values())
    assert costs[1]["M parameters"] == costs[2]["M parameters"] < costs[0]["M parameters"]
    for file in ("curves.png", "grid.png", "teacher/rank_list.png", "distilled-student/rank_list.png"):
        assert (folder / file).read_bytes().startswith(b"\x89PNG"), file
    assert "T=2, alpha=0.1" in (folder / "grid" / "table.md").read_text()
    again = module.main([*arguments, "--resume"])
    assert [row.scores for row in again] == [row.scores for row in printed]


def test_a_teacher_that_was_trained_before_is_scored_and_not_trained_again(ran, market_folder, tmp_path):
    module, _, folder, (teacher, _, distilled, *_) = ran
    checkpoint = folder / "teacher" / "last.ckpt"
    rows = module.main([f"--data.dataset={market_folder}", f"--output={tmp_path}", f"--teacher_checkpoint={checkpoint}", *TINY])
    assert rows[0].scores == pytest.approx(teacher.scores, abs=1e-6)
    assert rows[2].scores == pytest.approx(distilled.scores, abs=1e-6)
    assert not (tmp_path / "teacher" / "last.ckpt").exists()


def test_without_data_it_is_a_small_run_and_with_data_the_texts(capsys):
    cfg = distill_market.parse([])
    assert "generating a small one" in capsys.readouterr().out
    assert (cfg.data.dataset, cfg.model.temperature, cfg.model.alpha, cfg.teacher.label_smoothing) == ("market-like", 5, 0.5, 0)
    cfg = distill_market.parse(["--data.root=/data/reid"])
    assert capsys.readouterr().out == ""
    assert (cfg.teacher.backbone, cfg.model.student, cfg.epochs) == ("resnet50", "mobilenetv2_100", 60)
    assert (cfg.model.temperature, cfg.model.alpha, cfg.teacher.label_smoothing) == (5, 0.1, 0)


def test_the_comparison_over_seeds_reads_what_the_recipe_leaves(ran):
    rows = json.loads((ran[2] / "results.json").read_text())["rows"]
    printed = distillation_ordering.report({0: rows, 1: rows})
    assert "distilled student - student alone" in printed
    assert "student alone 1.00" in printed
