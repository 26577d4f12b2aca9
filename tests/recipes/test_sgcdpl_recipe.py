"""The recipe of SGC-DPL, run as a user runs it, on a small generated folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_reid.recipes import sgcdpl_market, sgcdpl_tables

RECIPE = Path(__file__).parents[2] / "recipes" / "sgcdpl_market.py"
TINY = [
    "--labeled=4",
    "--data.image_size=[64,32]",
    "--data.p=4",
    "--data.k=2",
    "--data.num_workers=0",
    "--data.unlabeled_per_batch=4",
    "--model.backbone=resnet18",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--model.warmup_epochs=0",
    "--clustering.every_n_epochs=1",
    "--dbscan.k1=10",
    "--dbscan.k2=3",
    "--dbscan.min_samples=2",
    "--dbscan.rho=0.1",
    "--iterations=2",
    "--initial_epochs=1",
    "--quiet",
]


def test_the_ablation_leaves_both_tables_and_all_pictures_and_is_not_trained_twice(market_folder, tmp_path, capsys):
    module, arguments = sgcdpl_market, [f"--data.dataset={market_folder}", "--ablation", "--nmi", f"--output={tmp_path}", *TINY]
    module.main(arguments)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert list(rows) == ["labeled only", "initialization", *sgcdpl_tables.METHODS, "all identities labeled"]
    assert all(0 <= row["mAP"] <= 1 and 0 < row["NMI"] <= 1 for row in rows.values())
    assert "NMI %" in (tmp_path / "table.md").read_text()
    first = json.loads((tmp_path / "first-iteration" / "results.json").read_text())["rows"]
    assert list(first) == list(sgcdpl_tables.FIRST_ITERATION)
    assert all(row["costs"]["identities"] == 6 and row["costs"]["clusters"] >= 2 for row in first.values())
    printed = capsys.readouterr().out
    assert "after one iteration" in printed
    for file in ("curves.png", *(f"SGC-DPL/{name}.png" for name in ("search", "threshold", "strips", "clusters", "rank_list"))):
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG"), file
    checkpoint = (tmp_path / "SGC-DPL" / "last.ckpt").stat().st_mtime_ns
    module.main([*arguments, "--resume"])
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    assert (tmp_path / "SGC-DPL" / "last.ckpt").stat().st_mtime_ns == checkpoint


def test_without_data_it_says_in_one_line_that_it_generates_a_small_run_and_with_data_it_is_the_thesis(capsys):
    cfg = sgcdpl_market.parse(["--labeled=1/12"])
    printed = capsys.readouterr().out.strip()
    assert "generating a small one" in printed
    assert "\n" not in printed
    assert (cfg.data.dataset, cfg.data.labeled) == ("market-like", "1/12")
    real = sgcdpl_market.parse(["--data.root=somewhere", "--labeled=50"])
    assert (real.model.backbone, real.iterations, real.clustering.every_n_epochs) == ("resnet50", 8, 200)
    assert (real.model.milestones, real.data.labeled, real.data.p, real.data.k) == ([50, 100, 150], 50, 16, 4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.root=nowhere"], "Market-1501"),
        (["--labeled=11"], "asks for more identities than exist: there are 10"),
        (["--labeled=2"], "has 2 labeled identities, but a batch wants P=4"),
    ],
)
def test_what_cannot_be_trained_dies_before_any_training(flags, message, market_folder, tmp_path):
    data = [] if "--data.root=nowhere" in flags else [f"--data.dataset={market_folder}"]
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        sgcdpl_market.main([*data, *TINY, *flags, f"--output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_help_states_units_and_defaults():
    help_text = " ".join(sgcdpl_market.build_parser().format_help().split())
    assert "a squared distance" in help_text
    assert "--clustering.damping DAMPING" in help_text
    assert "--selection.step STEP" in help_text


@pytest.mark.slow
def test_a_killed_run_resumed_ends_as_an_unbroken_one(market_folder, tmp_path):
    def command(output: str, *more: str) -> list[str]:
        return [
            sys.executable,
            str(RECIPE),
            f"--data.dataset={market_folder}",
            f"--output={tmp_path / output}",
            *TINY,
            "--iterations=10",
            *more,
        ]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command("whole"), env=environment, check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(command("broken"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint, deadline = tmp_path / "broken" / "SGC-DPL" / "last.ckpt", time.monotonic() + 300
    while not (checkpoint.is_file() and checkpoint.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken" / "results.json").exists()
    subprocess.run(command("broken", "--resume"), env=environment, check=True, capture_output=True, timeout=300)
    assert len(list((tmp_path / "broken" / "SGC-DPL").glob("version_*/metrics.csv"))) == 2  # it did go on, and did not start again
    rows = [json.loads((tmp_path / name / "results.json").read_text())["rows"] for name in ("whole", "broken")]
    assert rows[0] == rows[1]


def names_of_rows(arguments: list[str]) -> list[str]:
    return [row.name for row in sgcdpl_market.main(arguments)]


@pytest.mark.slow
def test_two_processes_leave_one_set_of_results(market_folder, tmp_path, two_processes):
    options = ["--devices=2", "--strategy=ddp", "--accelerator=cpu", "--data.p=2"]
    names = ["labeled only", "initialization", "SGC-DPL"]
    assert two_processes(names_of_rows, [f"--data.dataset={market_folder}", f"--output={tmp_path}", *TINY, *options]) == [names] * 2
    assert list(json.loads((tmp_path / "results.json").read_text())["rows"]) == names


def test_rows_draw_what_they_drew_under_their_former_names():
    # a seed is derived from a name: respelling one would change the scores of its row
    assert set(sgcdpl_tables.SEEDED_AS.values()) == {"labelled only", "initialisation", "all identities labelled"}
