"""The report of the rows of Table 3.2, from logs that were written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sgcdpl_ordering

from lightning_reid.files import write_json
from lightning_reid.recipes import sgcdpl_market

LOGGED = ("cluster/iteration", "cluster/num_clusters", "cluster/num_identities", "cluster/v_measure", "select/fraction")


@pytest.fixture
def output(tmp_path) -> Path:
    for seed in (10, 11):
        write_json(tmp_path / f"seed{seed}" / "hours.json", {"hours": 0.25})
        for row in sgcdpl_ordering.CLUSTERED:
            folder = sgcdpl_ordering.row_folder(tmp_path, seed, row) / "version_0"
            folder.mkdir(parents=True)
            precisions = [f"select/precision_{share}" for share in sgcdpl_ordering.NEAREST]
            lines = [",".join((*LOGGED, *precisions))]
            for iteration in range(2):
                fraction = "" if row == "AP, hard" else 0.5
                lines += [f",,,,,{',' * 3}", f"{iteration},{seed + iteration},9,0.5,{fraction},0.9,0.8,0.7,{0.6 + (seed - 10) / 500}"]
            (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def scores() -> dict[int, dict[str, dict]]:
    return {
        seed: {row: {"mAP": 0.3 + 0.01 * place + seed / 1000} for place, row in enumerate(sgcdpl_ordering.TABLE_3_2)} for seed in (10, 11)
    }


def test_the_report_shows_every_iteration_and_the_primary_comparison_first(output):
    told = sgcdpl_ordering.report(scores(), output)
    first = next(line for line in told.splitlines() if line.startswith("| ") and " - " in line)
    assert first.startswith("| " + " - ".join(sgcdpl_ordering.PRIMARY) + " |")
    assert "| SGC-DPL, guides | 1 | 12 (9) | 0.500 |  | 50.0 |  |" in told  # clusters of the seeds are 11 and 12
    assert "| AP, hard | 0 | 10 (9) | 0.500 |  |  |  |" in told
    assert "| 100% | 60.1 | 9.9 | 8.6 to 11.2 |" in told  # less by 10.0 and 9.8; of two seeds t is 12.706, times a standard error of 0.1
    assert told.endswith("0.50 core-hours")


def test_the_results_hold_the_scores_as_they_are_and_pairs_of_rows_that_were_run(output, monkeypatch):
    found = {seed: {row: one for row, one in rows.items() if row != "labeled only"} for seed, rows in scores().items()}
    monkeypatch.setattr(sgcdpl_ordering, "run_seed", lambda seed, arguments, more: found[seed])
    asked = [f"--results={output / 'results.json'}", f"--commit={'a' * 40}", f"--output={output}", "--seeds", "10", "11"]
    assert sgcdpl_ordering.main(asked) == found
    told = json.loads((output / "results.json").read_text())
    assert (told["commit"], told["hours"], told["scores"]["11"]["AP, hard"]) == ("a" * 40, 0.5, found[11]["AP, hard"]["mAP"])
    assert told["primary"] == list(sgcdpl_ordering.PRIMARY)
    assert ["SGC-DPL, guides", "SGC-DPL"] in told["exploratory"]
    assert not any("labeled only" in pair for pair in told["exploratory"])


@pytest.mark.parametrize("switches", [sgcdpl_ordering.MEMORIZED, sgcdpl_ordering.GUIDED])
def test_the_protocol_is_one_that_the_recipe_takes(switches, tmp_path):
    cfg = sgcdpl_market.parse([f"--output={tmp_path}", *sgcdpl_ordering.PROTOCOL, *switches])
    assert (cfg.data.dataset, cfg.labeled) == (sgcdpl_ordering.GENERATED, 25)
    assert (cfg.selection.labeled_quantile is None) == (cfg.selection.threshold_from == "exemplars") == bool(cfg.data.guides)


def test_what_settings_are_looked_for_with_shares_nobody_with_what_is_scored(market_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sgcdpl_ordering, "GENERATED", str(market_folder))
    monkeypatch.setattr(sgcdpl_ordering, "NUM_HELD_OUT", 4)
    people = {}
    for name, table in sgcdpl_ordering.write_tables(tmp_path).items():
        rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
        people[name] = {split: {row[1] for row in rows if row[3] == split} for split in ("train", "query")}
    assert {name: (len(one["train"]), len(one["query"])) for name, one in people.items()} == {"scored": (6, 6), "validation": (6, 4)}
    assert not people["scored"]["query"] & people["validation"]["query"]
    assert not (people["scored"]["query"] | people["validation"]["query"]) & people["validation"]["train"]
