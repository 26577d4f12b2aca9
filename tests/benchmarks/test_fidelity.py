"""The page on fidelity is what the committed result files give, and a claim about what they do not have is refused by name."""

from __future__ import annotations

import argparse
import json
import re

import fidelity
import pytest
from result_files import find_table, parse_options, read_results, read_tables, score_table, write_scores, write_tables

TOLD = {"benchmark": "hsr_ordering", "table": "T", "commit": "0" * 40, "date": "2026-01-01", "machine": "one core", "protocol": "Fixed."}
SCORES = {str(seed): {"a": 0.5 + 0.01 * seed, "b": 0.4, "c": 0.4 + 0.01 * (seed % 2)} for seed in range(5)}  # a - b: 10 to 14 points
TABLE = TOLD | {"hours": 1.5, "unit": "points of mAP", "scores": SCORES, "primary": ["a", "b"], "exploratory": [["c", "b"]]}
CLAIM = {"claim": "a is better than b", "text": "2 over 1", "results": "made", "pair": ["a", "b"]}
COMMIT = f"--commit={'a' * 40}"
README = "## `hsr_ordering.py`: is it so?\n"


def written(tmp_path, content):
    (tmp_path / "made.json").write_text(json.dumps(content))
    return read_results(tmp_path)


def page_of(claim, results):
    claims = {"introduction": "# F", "protocols": "All.", "section": [{"title": "S", "claim": [claim]}]}
    return fidelity.page(claims, results, README)


def test_the_page_is_what_the_claims_and_result_files_give():
    assert fidelity.main(["--check"]) == fidelity.PAGE.read_text(encoding="utf-8")


def test_a_page_that_was_edited_by_hand_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fidelity, "PAGE", tmp_path / "fidelity.md")
    text = fidelity.main([])
    assert (tmp_path / "fidelity.md").read_text() == text
    (tmp_path / "fidelity.md").write_text(text.replace("holds", "holds, surely"))
    with pytest.raises(SystemExit, match="is not what the claims and result files give"):
        fidelity.main(["--check"])


def test_a_row_has_the_hand_computed_figures_and_the_verdict_by_rule(tmp_path):
    # differences 10 to 14 points: mean 12, std sqrt(2.5), t(0.975, 4) = 2.776445: 12 -+ 1.963
    text = page_of(CLAIM, written(tmp_path, TABLE))
    assert "| a is better than b | 2 over 1 | +12.0 (+10.0 to +14.0), primary, p < 0.001; [made](#made) | **holds** |" in text
    assert "[hsr_ordering.py](benchmarks.md#hsr_orderingpy-is-it-so). Fixed. Protocol of commit 0000000; 2026-01-01; one core; 1.5" in text
    noise = page_of(CLAIM | {"pair": ["c", "b"], "note": "for once"}, read_results(tmp_path))
    assert "+0.4 (-0.3 to +1.1), p 0.178, Holm 0.178; [made](#made) | **not shown**; for once |" in noise
    cannot = page_of(CLAIM | {"cannot": "one-hot"}, read_results(tmp_path))
    assert "primary, p < 0.001; [made](#made) | **cannot be shown here**: one-hot |" in cannot


def test_one_of_many_tables_is_corrected_for_the_others_too(tmp_path):
    # p of +4.2 (+1.6 to +6.8) is 0.011: alone in its table it holds, as one of six tables 6 * 0.011 is above 0.05
    one = {"pair": ["a", "b"], "mean": 0.042, "interval": [0.016, 0.068]}
    none = {"pair": ["a", "b"], "mean": 0.0, "interval": [-0.1, 0.1]}
    rest = TOLD | {"hours": None, "unit": "points of R1", "seeds": 5, "primary": None, "exploratory": [["a", "b"]]}
    tables = [rest | {"table": f"T{number}", "differences": [none if number else one]} for number in range(6)]
    claim = CLAIM | {"table": "T0"}
    assert "points of R1, p 0.011, Holm 0.011; [made](#made) | **holds** |" in page_of(claim, written(tmp_path, {"tables": tables[:1]}))
    assert "Holm 0.011; [made](#made) | **holds, in its table only** |" in page_of(claim, written(tmp_path, {"tables": tables}))


def test_figures_without_seeds_are_compared_and_say_that_they_have_no_interval(tmp_path):
    plain = {key: value for key, value in TABLE.items() if key != "scores"} | {"unit": "MB", "primary": None, "exploratory": []}
    results = written(tmp_path, plain | {"figures": {"old": 1000, "new": 570.0}})
    claim = {"claim": "less", "text": "", "results": "made", "of": "new", "over": "old"}
    assert "| 0.57 times: 570 to 1,000 MB; [made](#made) | **holds, once measured** |" in page_of(claim | {"wanted": "below"}, results)
    assert "| **the opposite, once measured** |" in page_of(claim | {"wanted": "above"}, results)
    assert "| -43.0 %, 570 to 1,000 MB; [made](#made) | **holds** |" in page_of(claim | {"says": -42.2}, results)
    assert "| **does not hold** |" in page_of(claim | {"says": -41.9}, results)
    with pytest.raises(ValueError, match="wanted is above or below, got 'beside'"):
        page_of(claim | {"wanted": "beside"}, results)
    with pytest.raises(ValueError, match=r"'less': results/made.json, table 'T', has no figure 'newer': it has old; new"):
        page_of(claim | {"of": "newer", "wanted": "below"}, results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": "gone"}, "there is no results/gone.json: there are made"),
        ({"table": "U"}, r"results/made.json has 0 tables 'U': name one of \['T'\]"),
        ({"pair": ["a", "c"]}, "table 'T', does not compare a - c: it has a - b; c - b"),
        ({"tested": "tests/test_house.py::test_that_is_not"}, "there is no test tests/test_house.py::test_that_is_not"),
        ({"verdict": "holds"}, "there is no verdict of a claim"),
    ],
)
def test_a_claim_about_what_is_not_there_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"claims.toml, 'a is better than b': .*{message}"):
        page_of(CLAIM | change, written(tmp_path, TABLE))


def test_a_claim_without_evidence_has_to_say_why(tmp_path):
    with pytest.raises(ValueError, match="name results, a test, or why it cannot be shown here"):
        page_of({"claim": "a", "text": "b"}, written(tmp_path, TABLE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": SCORES | {"5": {"a": 0.5}}}, "table 'T': seed 5 has no b"),
        ({"scores": {seed: {name: 100 * one for name, one in rows.items()} for seed, rows in SCORES.items()}}, r"a fraction in \[0, 1\]"),
        ({"scores": {"0": SCORES["0"]}}, "two or more pairs of scores"),
        ({"figures": {}}, r"one of scores, differences and figures, has \['scores', 'figures'\]"),
        ({"exploratory": [["a", "b"]]}, "a comparison stands in it twice"),
    ],
)
def test_a_result_file_that_is_wrong_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"made.json, .*{message}"):
        read_tables(_file(tmp_path, TABLE | change))


def _file(tmp_path, content):
    (tmp_path / "made.json").write_text(json.dumps(content))
    return tmp_path / "made.json"


def test_a_file_has_one_primary_comparison_and_no_two_tables_of_one_name(tmp_path):
    with pytest.raises(ValueError, match=r"one comparison of a benchmark is primary, got one in each of \['T', 'U'\]"):
        read_tables(_file(tmp_path, {"tables": [TABLE, TABLE | {"table": "U"}]}))
    with pytest.raises(ValueError, match="two tables have one name"):
        read_tables(_file(tmp_path, {"tables": [TABLE, TABLE | {"primary": None}]}))
    lacking = {key: value for key, value in TABLE.items() if key != "hours"}
    with pytest.raises(ValueError, match=r"made\.json, table 'T': needs hours, has"):
        read_tables(_file(tmp_path, lacking))


def test_every_committed_result_file_is_read_and_names_a_commit():
    results = read_results()
    assert results
    for file, tables in results.items():
        for table in tables:
            assert re.fullmatch("[0-9a-f]{40}", table.told["commit"]), file
            assert find_table(results, file, table.name) is table


def _parsed(argv, **options):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    return parse_options(parser, argv, **options)


def test_a_benchmark_writes_a_file_that_the_page_reads(tmp_path):
    told = {name: TOLD[name] for name in ("benchmark", "table", "protocol")} | {"unit": "points of mAP"}
    scores = {int(seed): rows for seed, rows in SCORES.items()}
    pairs = [("a", "b"), ("c", "b"), ("a", "not run")]
    write_scores(_parsed([])[0], told, scores, pairs, ("a", "b"))  # not asked for
    assert not list(tmp_path.iterdir())
    asked = [f"--results={tmp_path / 'made.json'}", f"--commit={'a' * 40}"]
    write_scores(_parsed(asked)[0], told, scores, pairs, ("a", "b"), hours=2.5)
    (table,) = read_results(tmp_path)["made"]
    assert [(one.better, one.worse, one.corrected is None) for one in table.comparisons] == [("a", "b", True), ("c", "b", False)]
    assert table.told["hours"] == 2.5
    assert table.told["scores"] == SCORES
    again = score_table(told, scores, pairs, None, "a" * 40)
    write_tables(tmp_path / "two.json", [again, again | {"table": "another"}])
    assert [one.name for one in read_results(tmp_path)["two"]] == [told["table"], "another"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--results=made.json"], "--results needs --commit, the 40 digits of the commit that fixed the protocol, got ''"),
        (["--results=made.json", "--commit=abc"], "that fixed the protocol, got 'abc'"),
        (["--lr=1"], "unrecognized arguments: --lr=1"),
        (["--results=made.json", COMMIT, "--seeds", "3"], "what is compared over seeds, got --seeds [3]: give two or more"),
        (["--seeds", "3", "4", "3"], "--seeds names each seed once, got [3, 4, 3]"),
        (["--results=/dev/null", COMMIT], "--results would replace what is no result file: /dev/null is a device"),
        (["--results=nowhere/made.json", COMMIT], "--results nowhere/made.json is no file that can be written"),
        (["--results=.", COMMIT], "--results . is no file that can be written"),
        ([f"--results={__file__}", COMMIT], "--results would replace what is no result file"),
    ],
)
def test_a_benchmark_refuses_its_options_before_it_runs(argv, told, capsys):
    with pytest.raises(SystemExit):
        _parsed(argv)
    assert told in capsys.readouterr().err


def test_a_result_file_is_not_of_other_settings_than_the_protocols(capsys):
    with pytest.raises(SystemExit):
        _parsed(["--results=made.json", COMMIT, "--model.lr=9"], settings=True)
    assert "--results is of the protocol as it is, got --model.lr=9 beside it" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_not_written_and_no_table_is_lost(tmp_path):
    scores = {int(seed): rows for seed, rows in SCORES.items()}
    told = {name: TOLD[name] for name in ("benchmark", "table", "protocol")} | {"unit": "points of mAP"}
    table, path = score_table(told, scores, [("a", "b")], ("a", "b"), "a" * 40), tmp_path / "made.json"
    other = table | {"table": "another", "primary": None}
    write_tables(path, [table, other])
    before = path.read_bytes()
    without_c = table | {"scores": {seed: {name: rows[name] for name in "ab"} for seed, rows in SCORES.items()}}
    for wrong, words in (
        ([], "there is no table in it"),
        ([other, other], "two tables have one name"),
        ([table], "would be lost: table 'another'"),
        ([without_c, other], "would be lost: row 'c' of 'T'"),
    ):
        with pytest.raises(ValueError, match=words):
            write_tables(path, wrong)
        assert path.read_bytes() == before
    write_tables(path, [other, table])


def test_a_table_whose_primary_comparison_was_not_run_is_refused():
    told = {name: TOLD[name] for name in ("benchmark", "table", "protocol")} | {"unit": "points of mAP"}
    with pytest.raises(ValueError, match="T: the primary comparison, a - d, was not run or could not be made"):
        score_table(told, {0: {"a": 0.5}, 1: {"a": 0.4}}, [("a", "d")], ("a", "d"), "a" * 40)


def test_settings_are_handed_on_to_the_recipe_where_there_is_one():
    assert _parsed(["--lr=1"], settings=True)[1] == ["--lr=1"]
