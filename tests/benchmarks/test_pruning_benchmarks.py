"""The orderings of pruning run, small: every row is there, is read back, and goes into the file of results."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import product
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(autouse=True)
def tiny_runs(tmp_path, few_people, monkeypatch):
    """One thread, ten classes, one step an epoch, few people."""
    monkeypatch.chdir(tmp_path)
    runs = import_module("pruning_runs")
    monkeypatch.setattr(runs, "DATA", str(few_people))
    monkeypatch.setattr(runs, "IMAGE", (32, 16))
    monkeypatch.setattr(runs, "STEPS_AN_EPOCH", 1)
    monkeypatch.setattr(runs.HeldOutImages, "classes", 10)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark
def test_every_way_of_pruning_leaves_its_row(tmp_path, capsys, monkeypatch):
    bench = import_module("pruning_ordering")
    for name, value in (("EPOCHS", 1), ("TUNING_EPOCHS", 1), ("FLOPS", 0.9), ("IMAGE", (32, 16))):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "STEP", {"filters_per_step": 40, "batches_per_step": 6})
    monkeypatch.setattr(bench, "ONLY_ON", {})
    rows = [*bench.METHODS, *bench.CONTROLS, *bench.AS_LONG_AS, *bench.OTHER_MEASURES]
    short = ["--networks", "vgg", "--tasks", "classification", "--seeds", "0", "1", "--output", str(tmp_path), "--rows", *rows]
    found = bench.main(short)
    for seed in found["vgg", "classification"].values():
        assert sorted(seed) == sorted(["whole", *rows])
        assert all(seed[name]["flops"] <= 0.9 for name in (*bench.METHODS, *bench.CONTROLS))
        longer = bench.batches_of(seed["loss alone"]) - bench.batches_of(seed["CAIE"])
        assert seed[bench.LONGER_CAIE]["more"] == max(longer, 0)
        assert -1 <= seed["correlation"]["all"] <= 1
    printed = capsys.readouterr().out
    assert "| CAIE - whole, trained as long |" in printed
    assert "| CAIE, last five - loss alone, last five |" in printed
    assert bench.main([*short, "--results", "results.json", "--commit", "a" * 40]) == found  # read back
    table = json.loads((tmp_path / "results.json").read_text())
    assert (table["commit"], table["primary"]) == ("a" * 40, None)
    assert all(0 <= score <= 1 for rows in table["scores"].values() for score in rows.values())
    assert {name for pair in table["exploratory"] for name in pair} <= set(table["scores"]["0"])
    monkeypatch.setattr(bench, "FLOPS", 0.8)
    with pytest.raises(ValueError, match=r"whole\.json was measured by other settings: flops: 0\.9 there, 0\.8 here\."):
        bench.main(short)


@pytest.mark.benchmark
def test_what_lies_below_two_constraints_is_compared_and_counted(tmp_path, capsys, monkeypatch):
    ordering, bench = import_module("pruning_ordering"), import_module("pruning_constraints")
    monkeypatch.setattr(ordering, "EPOCHS", 1)
    monkeypatch.setattr(bench, "STEP", {"filters_per_step": 40, "batches_per_step": 1})
    monkeypatch.setattr(bench, "FLOPS", 0.8)
    monkeypatch.setattr(bench, "PARTS", {"elsewhere": {"vgg": (0.7,), "resnet": (0.7,)}})
    short = ["--networks", "vgg", "--tasks", "retrieval", "--seeds", "0", "1", "--output", str(tmp_path), "--part", "elsewhere"]
    found = bench.main(short)
    printed = capsys.readouterr().out
    for rows in found["vgg", "retrieval", 0.7].values():
        for left in rows.values():
            assert left["flops"][-1] <= 0.8
            assert left["params"][-1] <= 0.7
            assert len(left["flops"]) == 1 or left["flops"][-2] > 0.8 or left["params"][-2] > 0.7  # not a step more than it takes
    assert "| vgg, retrieval | multiply-adds, 80 % |" in printed
    assert "| loss alone - CAIE |" in printed
    assert bench.main(short) == found  # read back
    compared, counted = bench.results(found, "elsewhere", "a" * 40)
    assert compared["primary"] == ("loss alone", "CAIE")
    with pytest.raises(SystemExit):
        bench.main([*short, "--results", "results.json", "--commit", "a" * 40])
    assert "--results is of all networks and tasks, as the protocol has it" in capsys.readouterr().err
    for seed, scores in compared["scores"].items():
        left = found["vgg", "retrieval", 0.7][int(seed)]["CAIE"]
        assert scores["CAIE"] == pytest.approx((0.8 - left["flops"][-1] + 0.7 - left["params"][-1]) / 2)
    assert 0 <= counted["figures"]["CAIE within a step"] <= 4


@pytest.mark.benchmark
def test_both_criteria_train_for_one_budget(tmp_path, capsys, monkeypatch):
    ordering, bench = import_module("pruning_ordering"), import_module("pruning_budget")
    for name, value in (("EPOCHS", 1), ("TUNING_EPOCHS", 1), ("FLOPS", 0.9), ("STEP", {"filters_per_step": 40, "batches_per_step": 1})):
        monkeypatch.setattr(ordering, name, value)
    monkeypatch.setattr(bench, "BATCHES", 8)
    short = ["--networks", "vgg", "--tasks", "retrieval", "--seeds", "0", "1", "--output", str(tmp_path)]
    found = bench.main(short)
    for rows in found["vgg", "retrieval"].values():
        assert [row["step"] + row["more"] for row in rows.values()] == [8, 8]
    assert "| CAIE, after fine-tuning - loss alone, after fine-tuning |" in capsys.readouterr().out
    (table,) = bench.results(found, "a" * 40)
    assert table["primary"] is None
    assert table["scores"]["1"]["loss alone, trained on"] == found["vgg", "retrieval"][1]["loss alone"][ordering.PRUNED]
    monkeypatch.setattr(bench, "BATCHES", 1)
    with pytest.raises(ValueError, match=r"CAIE took 1 batches or more to prune vgg, retrieval, seed 0: there is no equal training"):
        bench.main(short)


def test_cases_within_a_step_are_counted_by_the_mean_step():
    bench = import_module("pruning_constraints")
    left = {"flops": [0.8, 0.6, 0.4], "params": [0.7, 0.4, 0.1]}  # steps of 0.2 and 0.3; a resnet's 0.5 and 0.2
    far = {"flops": [0.8, 0.6, 0.2], "params": [0.7, 0.4, 0.1]}  # a mean step of 0.27, 0.3 below
    found = {(case := ("resnet", "retrieval", 0.2)): {0: {"CAIE": left, "loss alone": far}}}
    within = [bench.within_a_step(case, found[case], *one) for one in product(("CAIE", "loss alone"), ("flops", "params"))]
    assert within == [1, 1, 0, 1]
    assert bench.scores(found)[0]["loss alone"] == pytest.approx((0.3 + 0.1) / 2)
    assert "| resnet, retrieval | multiply-adds, 50 % | 10.00 | 30.00 | 20.00 | 26.67 | 1 of 1 | 0 of 1 |" in bench.table(found)


@pytest.mark.benchmark
def test_only_the_last_five_batches_are_left_in_the_controls_estimate(tmp_path):
    bench = import_module("pruning_ordering")
    pruning = bench.LastFive({"flops": 0.5}, batches_per_step=30)
    seen = []

    trainer = SimpleNamespace(precision="32-true")
    pruning._masks = SimpleNamespace(groups={"one": None}, network=None)
    pruning._impact = lambda network, group: torch.tensor([float(len(seen))])
    for _ in range(30):
        pruning.on_before_optimizer_step(trainer, None, None)
        seen.append(pruning.running.values["one"].item())
    expected = 25.0
    for batch in range(26, 30):
        expected = 0.9 * expected + 0.1 * batch
    assert pruning.running.values["one"].item() == pytest.approx(expected, rel=1e-6)


def test_a_curve_is_read_by_straight_lines():
    bench = import_module("cpo_ordering")
    points = [(1.0, 0.6), (0.8, 0.5), (0.6, 0.58), (0.2, 0.38)]
    assert bench.score_at(points, 0.9) == pytest.approx(0.55)
    assert bench.score_at(points, 0.2) == pytest.approx(0.38)
    assert bench.score_at(points, 0.1) is None
    assert bench.removed_at(points, 0.02) == pytest.approx(0.4)  # the dip at 0.8 is behind it
    assert bench.removed_at(points, 0.12) == pytest.approx(0.6)  # 0.48 is half way from 0.58 to 0.38
    assert bench.removed_at(points, 0.01) == pytest.approx(0.02)  # 0.59, on the first line
    assert bench.removed_at(points, 0.22) == pytest.approx(0.8)  # it ends there
    assert bench.removed_at(points, 0.23) is None  # what lies behind its end was not looked for
    assert bench.removed_at(points[:1], 0.5) is None
    with pytest.raises(ValueError, match="scores that are no numbers"):
        bench.removed_at([*points, (0.1, float("nan"))], 0.02)


def test_a_drop_that_a_curve_does_not_come_to_is_not_compared():
    bench = import_module("cpo_ordering")
    steep = [{"flops": 0.5, "score": 0.4, "epochs": 1, "drop": 0.1, "params": 0.5}]
    flat = [steep[0] | {"score": 0.57}]
    rows = {"CPO": {"points": steep, "epochs": 1, "references": [0.6, 0.6]}, "whole": {"score": 0.6, "seconds": 0}}
    short = {seed: rows | {"uniform": rows["CPO"] | {"points": flat if seed else steep}} for seed in (0, 1)}
    assert set(bench.measures(short)["removed"][1]) == {"CPO, 2 points", "uniform, 2 points"}
    told = bench.report(short)
    assert "at a drop of 5 points nothing is compared: these curves end before it: uniform's of seed 1" in told
    assert "the primary comparison cannot be made" in told
    assert "CPO - uniform: points of score at its share -8.5 (" in told
    assert "seed 0 +0.0, seed 1 -17.0)" in told
    assert "points of multiply-adds at its drop -21.2 (" in told  # of seed 1 CPO is as far down, 3 of its 20 points, at 0.925
    short[0] = rows | {"uniform": rows["CPO"], "CPO": rows["CPO"] | {"points": [steep[0] | {"flops": 0.9}]}}
    assert "points of score at its share of 1 seeds: seed 1 -17.0" in bench.report(short)


@pytest.mark.benchmark
def test_the_kept_states_of_both_searches_are_scored_on_the_tests_people(tmp_path, capsys, monkeypatch):
    bench = import_module("cpo_ordering")
    for name, value in (("EPOCHS", 1), ("VAL_PEOPLE", 10), ("TOTAL_EPOCHS", 40), ("EXPECTED_DROP", 1)):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "final_score", lambda experiment, weights, epochs, plan=None: epochs / 40)
    monkeypatch.setattr(bench, "SEARCHES", {"CPO": ("uniform", 1), "uniform": ("uniform", 2)})
    short = ["--seeds", "0", "1", "--output", str(tmp_path)]
    found = bench.main(short)
    assert list(found) == [("vgg", "retrieval")]
    for seed in found["vgg", "retrieval"].values():
        for name, (_, epochs) in bench.SEARCHES.items():
            assert [point["score"] for point in seed[name]["points"]] == [(40 - epochs * kept) / 40 for kept in (1, 2, 3, 4, 5)]
            assert seed[name]["epochs"] == epochs * 10
            shares = [point["flops"] for point in seed[name]["points"]]
            assert shares == sorted(shares, reverse=True)
    assert "CPO, 5 points - uniform, 5 points" in capsys.readouterr().out
    elsewhere = bench.main([*short, "--seeds", "0", "--networks", "resnet", "--tasks", "classification"])
    assert [len(elsewhere["resnet", "classification"][0][name]["points"]) for name in bench.SEARCHES] == [5, 5]
    _require_other_images_to_decide_by(bench.generated_data(bench.TwiceHeldOutImages, 0))
    assert bench.main([*short, "--results", "results.json", "--commit", "a" * 40]) == found  # read back
    removed, scores = json.loads((tmp_path / "results.json").read_text())["tables"]
    assert removed["primary"] == ["CPO, 5 points", "uniform, 5 points"]
    assert scores["primary"] is None
    assert set(removed["primary"]) <= set(removed["scores"]["0"])
    assert "whole" in scores["scores"]["1"]


def _require_other_images_to_decide_by(data):
    data.prepare_data()
    data.setup()
    decide, score = ({image.path: image.pid for image in data.evaluation_records(part)[0]} for part in ("val", "test"))
    train = {image.path: image.pid for image in data.dataset.train}
    assert not decide.keys() & score.keys()
    assert not train.keys() & (decide | score).keys()
    for pid in {*train.values()}:
        counts = [[*part.values()].count(pid) for part in (decide, score)]
        assert abs(counts[0] - counts[1]) <= 1 <= sum(counts)
