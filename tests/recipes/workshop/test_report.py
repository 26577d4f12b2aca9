"""What stands in and under a recipe's table, and what is read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lightning_reid.files import write_json
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.recipes.workshop.report import Queries, ResultRow, print_scores, read_row, write_report
from lightning_reid.recipes.workshop.round_scores import told_with_unmatched

STAMP = ProtocolStamp("Market-1501", 345, 1973, 120, transform="resize 64x32", seed=0)
SCORES = {"mAP": 0.422, "R1": 0.545, "R5": 0.7, "R10": 0.8, "mINP": 0.2}
ROW = ResultRow("HSR", SCORES, (0.371, 0.479), Queries(345, 3, 118), {"M parameters": 0.09})
INTERVAL = "95 % intervals of mAP by bootstrap over 118 people"
IN_VAIN = "3 of 345 queries have no match in another camera and are not scored"


def reported(rows, folder, stamp=STAMP) -> tuple[str, dict]:
    write_report(folder, rows, stamp, title="a table", seconds=1.0)
    return (folder / "table.md").read_text(encoding="utf-8"), json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_a_table_says_over_how_many_people_its_intervals_are_and_which_queries_are_not_scored(tmp_path, capsys):
    table, results = reported([ROW], tmp_path)
    print_scores([ROW], STAMP, "a table")
    for text in (table, " ".join(capsys.readouterr().out.split())):
        assert "42.2" in text
        assert "37.1 – 47.9" in text
        assert INTERVAL in text
        assert IN_VAIN in text
    assert results["stamp"]["interval"] == INTERVAL
    assert results["protocol"].endswith(INTERVAL)
    assert results["rows"]["HSR"]["queries"] == {"asked": 345, "unmatched": 3, "people": 118}


def test_where_every_query_has_a_match_nothing_is_said_of_those_without(tmp_path):
    table, results = reported([replace(ROW, queries=Queries(345, 0, 120))], tmp_path)
    assert "no match" not in table
    assert results["rows"]["HSR"]["queries"]["unmatched"] == 0


def test_without_cameras_a_match_is_not_said_to_be_in_another_one(tmp_path):
    assert "3 of 345 queries have no match and are not scored" in reported([ROW], tmp_path, replace(STAMP, protocol="no-camera"))[0]


def test_rows_that_were_asked_other_queries_are_told_apart(tmp_path):
    table, _ = reported(
        [ROW, replace(ROW, name="other", queries=Queries(300, 1, 99)), replace(ROW, name="all", queries=Queries(9, 0, 9))], tmp_path
    )
    assert f"HSR: {IN_VAIN}\n" in table
    assert "other: 1 of 300 queries have no match" in table
    assert "all: " not in table
    assert "over 9, 99, 118 people" in table


def test_the_queries_of_one_person_have_no_interval_and_the_table_says_so(tmp_path):
    table, results = reported([replace(ROW, mAP_interval=None, queries=Queries(4, 0, 1))], tmp_path)
    assert "| 42.2 | one person |" in table
    assert "no interval over the queries of one person" in table
    assert results["rows"]["HSR"]["mAP_interval"] is None


@pytest.mark.parametrize("row", [ROW, replace(ROW, mAP_interval=None, costs={})])
def test_a_row_reads_back_as_it_was_written(tmp_path, row):
    write_json(tmp_path / "scores.json", row.as_json())
    assert read_row("HSR", tmp_path / "scores.json") == row


def test_a_row_of_a_version_that_drew_intervals_over_queries_is_not_taken_for_one_over_people(tmp_path):
    write_json(tmp_path / "scores.json", {name: value for name, value in ROW.as_json().items() if name != "queries"})
    with pytest.raises(
        ValueError, match=r"scores\.json, the scores of 'HSR', is of an older version, whose interval is over single queries"
    ):
        read_row("HSR", tmp_path / "scores.json")


@pytest.mark.parametrize(
    "edited",
    [
        {"mAP_interval": 0.4},
        {"mAP_interval": []},
        {"queries": None},
        {"queries": {"asked": 3}},
        {"costs": []},
        {"R1": "high"},
        {"R1": None},
    ],
)
def test_a_row_that_was_edited_is_refused_by_its_file_and_the_way_on(tmp_path, edited):
    write_json(tmp_path / "scores.json", ROW.as_json() | edited)
    with pytest.raises(ValueError, match=r"scores\.json.* was edited or is not of this library.*: remove it, and the row is scored again"):
        read_row("HSR", tmp_path / "scores.json")


@pytest.mark.parametrize("lost", ["mAP", "mAP_interval"])
def test_a_row_that_lacks_a_score_is_refused_by_its_file(tmp_path, lost):
    write_json(tmp_path / "scores.json", {name: value for name, value in ROW.as_json().items() if name != lost})
    with pytest.raises(ValueError, match=rf"scores\.json.*'{lost}'.*: remove it, and the row is scored again"):
        read_row("HSR", tmp_path / "scores.json")


def test_a_federations_table_names_the_clients_with_queries_that_are_not_scored():
    scores = {"a": {"mAP": 0.5, "unmatched_queries": 2.0}, "b": {"mAP": 0.4, "unmatched_queries": 0.0}}
    assert told_with_unmatched("per cent", scores) == "per cent; queries without a match, not scored: a 2"
    assert told_with_unmatched("per cent", {"b": scores["b"]}) == "per cent"
