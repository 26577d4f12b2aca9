"""The main recipe, run as a user runs it, on small generated folders."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from forked import forked
from pair_of_processes import undone

from lightning_reid.recipes import hsr_duke2market, supervised_market

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = [
    "--data.image_size=[64,32]",
    "--data.p=4",
    "--data.source_p=4",
    "--data.num_workers=0",
    "--model.backbone=resnet18",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--clustering.every_n_epochs=2",
    "--clustering.min_samples=2",
    "--clustering.k1=10",
    "--clustering.k2=3",
    "--source_epochs=1",
    "--quiet",
]


def scores_are_fractions(row: dict) -> bool:
    return all(0 <= row[name] <= 1 for name in ("mAP", "R1", "R5", "R10", "mINP"))


@pytest.fixture(scope="module")
def ran(market_folder, duke_folder, tmp_path_factory):
    """The recipe with all that can be switched on: its arguments, its folder, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("hsr"), io.StringIO()
    switches = ["--ablation", "--pbh.num_std=0.5", "--logger=wandb", "--tensorboard", "--precision=bf16-mixed"]
    arguments = [f"--source={duke_folder}", f"--target={market_folder}", "--epochs=2", f"--output={folder}", *TINY, *switches]
    with redirect_stdout(printed):
        hsr_duke2market.main(arguments)
    return arguments, folder, printed.getvalue()


def test_it_leaves_results_table_pictures_and_checkpoints(ran):
    _, folder, printed = ran
    results = json.loads((folder / "results.json").read_text())
    assert list(results["rows"]) == ["direct transfer", "DBSCAN baseline", "baseline + PBH", "baseline + ICM", "HSR"]
    assert all(scores_are_fractions(row) for row in results["rows"].values())
    assert results["seconds"] > 0
    assert "protocol market, AP by step" in results["protocol"]
    assert "by bootstrap over 6 people" in results["protocol"]
    assert [(row["queries"]["unmatched"], row["queries"]["people"]) for row in results["rows"].values()] == [(0, 6)] * 5
    table = (folder / "table.md").read_text()
    assert f"{100 * results['rows']['HSR']['mAP']:.1f}" in table
    assert results["protocol"] in table
    for file in ("curves.png", "HSR/rank_list.png", "HSR/clusters.png", "HSR/last.ckpt", "direct-transfer/last.ckpt"):
        assert (folder / file).stat().st_size > 1000, file
    assert "direct transfer" in printed


def test_wandb_offline_and_tensorboard_leave_their_files_at_bf16(ran):
    _, folder, _ = ran
    for stage in ("direct-transfer", "DBSCAN-baseline", "HSR"):
        (run,) = (folder / stage / "wandb").glob("offline-run-*")  # one run a stage
        assert next(iter(run.glob("run-*.wandb"))).stat().st_size > 1000
        assert list((folder / stage).rglob("events.out.tfevents.*"))
    (run,) = (folder / "HSR" / "wandb").glob("offline-run-*")
    assert list(run.glob("files/media/images/test/rank_list*.png"))


def test_finished_stages_are_kept_by_resume(ran):
    arguments, folder, _ = ran
    before = json.loads((folder / "results.json").read_text())["rows"]
    checkpoint = (folder / "HSR" / "last.ckpt").stat().st_mtime_ns
    hsr_duke2market.main([*arguments, "--resume"])
    assert json.loads((folder / "results.json").read_text())["rows"] == before
    assert (folder / "HSR" / "last.ckpt").stat().st_mtime_ns == checkpoint


def test_reverse_swaps_the_domains_and_a_config_file_gives_any_option(market_folder, duke_folder, tmp_path):
    (tmp_path / "run.yaml").write_text(f"epochs: 7\nreverse: true\ndata:\n  source: {duke_folder}\n  target: {market_folder}\n  k: 2\n")
    cfg = hsr_duke2market.parse([f"--config={tmp_path / 'run.yaml'}"])
    assert (cfg.data.source, cfg.data.target) == (str(market_folder), str(duke_folder))
    assert (cfg.epochs, cfg.data.k) == (7, 2)


def test_without_data_it_says_in_one_line_that_it_generates_a_small_run(capsys):
    cfg = hsr_duke2market.parse([])
    printed = capsys.readouterr().out.strip()
    assert "generating two small domains" in printed
    assert "\n" not in printed
    assert (cfg.data.source, cfg.data.target) == ("duke-like", "market-like")
    assert cfg.model.label_smoothing == 0.1  # not the text's, which the module has
    real = hsr_duke2market.parse(["--data.root=somewhere"])
    assert (real.model.backbone, real.epochs, real.clustering.every_n_epochs) == ("resnet50", 300, 10)  # the thesis' settings


def test_the_small_run_can_be_adjusted_by_flags():
    cfg = hsr_duke2market.parse(["--epochs=3", "--model.lr=0.5", "--data.num_workers=1"])
    assert (cfg.epochs, cfg.model.lr, cfg.data.num_workers, cfg.data.target) == (3, 0.5, 1, "market-like")
    assert supervised_market.parse(["--data.k=2"]).data.dataset == "market-like"


@pytest.mark.parametrize("flag", ["--data.root=there", "--source=there", "--data.target=there"])
def test_naming_any_data_gives_the_settings_of_the_thesis(flag):
    cfg = hsr_duke2market.parse([flag])
    assert (cfg.model.backbone, cfg.epochs) == ("resnet50", 300)


def test_a_missing_data_root_dies_before_any_training(tmp_path):
    with pytest.raises(FileNotFoundError, match="Market-1501"):
        hsr_duke2market.main([f"--data.root={tmp_path}", f"--output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_help_states_units_and_defaults():
    help_text = " ".join(hsr_duke2market.build_parser().format_help().split())
    assert "(height, width) in pixels" in help_text
    assert "--clustering.eps EPS" in help_text
    assert "default: 0.6" in help_text


def test_the_supervised_recipe_leaves_its_row(market_folder, tmp_path):
    tiny = [flag for flag in TINY if flag.startswith(("--data.image", "--data.p", "--data.num", "--model", "--quiet"))]
    supervised_market.main([f"--data.dataset={market_folder}", "--epochs=1", f"--output={tmp_path}", *tiny])
    assert scores_are_fractions(json.loads((tmp_path / "results.json").read_text())["rows"]["supervised"])


@pytest.mark.slow
def test_two_processes_end_with_one_report(market_folder, duke_folder, tmp_path):
    flags = [f"--source={duke_folder}", f"--target={market_folder}", "--epochs=2", f"--output={tmp_path}", "--accelerator=cpu", *TINY]
    command = [sys.executable, str(RECIPES / "hsr_duke2market.py"), *flags, "--devices=2", "--strategy=ddp"]
    finished = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    printed = " ".join(finished.stdout.split())  # the table breaks its lines to fit the terminal
    assert printed.count("protocol market, AP by step") == 1  # by the first process alone
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert list(rows) == ["direct transfer", "DBSCAN baseline", "HSR"]
    assert all(scores_are_fractions(row) for row in rows.values())


def losses(folder: Path) -> dict[int, float]:
    found = {}
    for file in sorted(folder.glob("version_*/metrics.csv")):
        with file.open(newline="") as lines:
            found |= {int(line["step"]): float(line["train/loss"]) for line in csv.DictReader(lines) if line.get("train/loss")}
    return found


@pytest.mark.slow
def test_killed_in_mid_iteration_and_resumed_it_logs_what_the_unbroken_run_logs(
    market_folder, duke_folder, tmp_path, without_pictures_and_exports
):
    def run(output: str, *more: str) -> None:
        domains = [f"--source={duke_folder}", f"--target={market_folder}", f"--output={tmp_path / output}", "--accelerator=cpu"]
        with undone(), without_pictures_and_exports():
            hsr_duke2market.main([*domains, *TINY, "--epochs=6", "--log_every_n_steps=1", "--clustering.every_n_epochs=3", *more])

    run("whole")
    process = forked(run, "broken")
    checkpoint = tmp_path / "broken" / "HSR" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not (checkpoint.is_file() and checkpoint.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.is_alive(), "the run ended before it could be killed"
    process.kill()
    process.join()
    assert not (tmp_path / "broken" / "results.json").exists()
    run("broken", "--resume")
    whole, resumed = losses(tmp_path / "whole" / "HSR"), losses(tmp_path / "broken" / "HSR")
    second_sitting = tmp_path / "broken" / "HSR" / "version_1" / "metrics.csv"
    assert second_sitting.is_file()
    with second_sitting.open(newline="") as lines:
        after = {int(line["step"]): float(line["train/loss"]) for line in csv.DictReader(lines) if line.get("train/loss")}
    assert after
    assert after == {step: whole[step] for step in after}
    assert max(resumed) == max(whole)
    rows = [json.loads((tmp_path / name / "results.json").read_text())["rows"] for name in ("whole", "broken")]
    assert rows[0] == rows[1]
