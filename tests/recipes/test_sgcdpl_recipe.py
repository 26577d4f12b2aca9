"""The recipe of SGC-DPL, run as a user runs it, on a small generated folder."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from pair_of_processes import undone

from lightning_reid.modules import SGCDPL
from lightning_reid.recipes import sgcdpl_market, sgcdpl_tables

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


@pytest.fixture(scope="module")
def ran(market_folder, tmp_path_factory):
    """The ablation with all that can be switched on: its arguments, its folder, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("sgcdpl"), io.StringIO()
    arguments = [f"--data.dataset={market_folder}", "--ablation", "--nmi", f"--output={folder}", *TINY]
    with undone(), redirect_stdout(printed):
        sgcdpl_market.main(arguments)
    return arguments, folder, printed.getvalue()


def rows_of(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "results.json").read_text())["rows"]


def test_the_ablation_leaves_both_tables_and_all_pictures(ran):
    _, folder, printed = ran
    rows = rows_of(folder)
    assert list(rows) == ["labeled only", "initialization", *sgcdpl_tables.METHODS, "all identities labeled"]
    assert all(0 <= row["mAP"] <= 1 and 0 < row["NMI"] <= 1 for row in rows.values())
    assert "NMI %" in (folder / "table.md").read_text()
    first = rows_of(folder / "first-iteration")
    assert list(first) == list(sgcdpl_tables.FIRST_ITERATION)
    assert all(row["costs"]["identities"] == 6 and row["costs"]["clusters"] >= 2 for row in first.values())
    assert "after one iteration" in printed
    for file in ("curves.png", *(f"SGC-DPL/{name}.png" for name in ("search", "threshold", "strips", "clusters", "rank_list"))):
        assert (folder / file).read_bytes().startswith(b"\x89PNG"), file


def test_what_was_trained_is_not_trained_twice(ran):
    arguments, folder, _ = ran
    rows, checkpoint = rows_of(folder), (folder / "SGC-DPL" / "last.ckpt").stat().st_mtime_ns
    sgcdpl_market.main([*arguments, "--resume"])
    assert rows_of(folder) == rows
    assert (folder / "SGC-DPL" / "last.ckpt").stat().st_mtime_ns == checkpoint


def test_a_run_that_fails_in_mid_iteration_goes_on_when_resumed_and_ends_as_an_unbroken_one(
    ran, market_folder, tmp_path, monkeypatch, without_pictures_and_exports
):
    def run(*more: str) -> None:
        with undone(), without_pictures_and_exports():
            sgcdpl_market.main([f"--data.dataset={market_folder}", "--nmi", f"--output={tmp_path}", *TINY, *more])

    step = SGCDPL.training_step

    def fail_after_an_iteration(module, batch, batch_idx):
        if batch_idx == 1 and (tmp_path / "SGC-DPL" / "last.ckpt").is_file():
            raise RuntimeError("the power is gone")
        return step(module, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SGCDPL, "training_step", fail_after_an_iteration)
        with pytest.raises(RuntimeError, match="the power is gone"):
            run()
    assert not (tmp_path / "results.json").exists()
    run("--resume")
    assert len(list((tmp_path / "SGC-DPL").glob("version_*/metrics.csv"))) == 2  # it did go on, and did not start again
    rows, whole = rows_of(tmp_path), rows_of(ran[1])
    assert rows == {name: whole[name] for name in ("labeled only", "initialization", "SGC-DPL")}


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
