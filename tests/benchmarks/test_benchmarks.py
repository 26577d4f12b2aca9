"""The benchmarks of training and images run, small, and their figures hang together; nothing here asserts a time."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import torch

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.recipes.workshop.fingerprints import options_fingerprint

TINY = ["--image_size", "32", "16"]


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine two threads wait for each other at every one of these tiny layers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(name: str, *arguments: str):
    return import_module(name).main(list(arguments))


@pytest.mark.benchmark
def test_the_bare_loop_and_the_trainer_end_in_the_same_losses():
    figures = run("training_overhead", "--steps", "3", "--rounds", "1", *TINY)
    assert set(figures) == {"bare", "trainer", "trainer, nothing logged"}
    assert figures["bare"]["ratio"] == figures["bare"]["cpu_ratio"] == 1
    for row in figures.values():
        assert row["loss_off"] < 1e-5
        assert row["step_ms"] > 0
        assert row["low"] <= row["ratio"] <= row["high"]


def test_both_image_pipelines_make_the_same_pictures():
    figures = run("image_pipeline", "--images", "16", "--batch", "8", "--rounds", "2")
    assert set(figures) == {(256, 128), (128, 64), (64, 32)}
    for row in figures.values():
        assert row["gray_levels_apart"] < 1
        assert row["kept_to_ours"] > 0
        assert 0 < row["low"] <= row["ratio"] <= row["high"]


def test_generated_people_are_drawn_and_learned_from_in_every_size():
    arguments = ("--dataset", "generated-people,people=8,cameras=2", "--backbone", "mobilenetv3_small_050", "--p", "2", "--rounds", "2")
    figures = run("generated_people", *arguments)
    assert set(figures) == {(64, 32), (128, 64), (256, 128)}
    for row in figures.values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert min(row["drawn"], row["learned"]) > 0


@pytest.mark.benchmark
def test_calibrations_are_scored_on_people_they_were_not_fitted_on():
    rows = run("calibration", "--people", "30", "--seeds", "1")["generated-people-small"]
    assert [row["people"] for row in rows.values()] == [65, 130]
    for row in rows.values():
        share, low, high = row["0.01"]
        assert 0 <= low <= share <= high < 0.05
        assert 0 < row["error"] < 0.1


@pytest.mark.benchmark
def test_gpu_training_takes_its_path_on_the_cpu_too(capsys):
    figures = run("gpu_training", "--device", "cpu", "--batch", "8", "--backbone", "resnet18", "--steps", "1", "--warm_up", "1", *TINY)
    assert "no CUDA device used" in capsys.readouterr().out
    row = figures["eager"]
    assert list(figures) == ["eager"]
    assert row["share"] == pytest.approx(row["images_per_second"] * row["gflops_an_image"] / row["product_tflops"] / 1e3)


@pytest.mark.benchmark
def test_every_row_of_the_text_is_counted_and_every_figure_that_differs_from_it_has_a_note(capsys):
    module = import_module("video_costs")
    costs = module.main(["--check"])
    assert list(costs) == ["2.1", "2.2", "2.3", "2.4", "2.5", "2.8", "2.10"]
    for name, table in module.TABLES.items():
        for number, (row, figure) in enumerate(zip(table.rows, table.figures, strict=True)):
            text = module.in_units(table, costs[name], number)[1]
            same = figure.printed is None or round(text, table.digits) == figure.printed
            assert same or figure.note, (name, row.name)
    printed = capsys.readouterr().out
    assert "| CF-AAN: axial, relative, 4 scales [1] | 6 | 32,942,352 | 30,597,499,392 | +25.8 % | +6.278 | +0.123 | +0.126 |" in printed


def test_a_count_that_is_not_the_integer_expected_ends_the_check_with_an_error(monkeypatch, capsys):
    module = import_module("video_costs")
    table = module.TABLES["2.10"]
    off_by_one = table.figures[0].exact._replace(layers=24_319_623_169)
    monkeypatch.setitem(module.TABLES, "2.10", table._replace(rows=table.rows[:1], figures=(module.Figure(off_by_one, 24.520),)))
    module.main(["--tables", "2.10"])
    with pytest.raises(SystemExit, match=r"ResNet-50: Exact\(layers=24319623168, .* expected Exact\(layers=24319623169"):
        module.main(["--tables", "2.10", "--check"])


SMALL = ["--small", "--t8_only", "--rounds", "1", "--threads", "1"]


@pytest.mark.benchmark
def test_the_video_networks_run_forward_and_a_training_step(capsys):
    rows = run("video_speed", *SMALL, "--only", "times")["times"]
    names = ("ResNet-50", "NVAN", "STE-NVAN", "CF-AAN", "CF-AAN reduced")
    assert [(row["pass"], row["network"], row["mode"]) for row in rows] == [*product(("forward", "training"), names, ("eager",))]
    by_name = {(row["pass"], row["network"]): row for row in rows}
    for (passing, _), row in by_name.items():
        assert row["to NVAN"] == pytest.approx(row["ms"] / by_name[passing, "NVAN"]["ms"])
        assert row["eager / this"] == 1
    assert "STE-NVAN is to be at least 2 times as fast as NVAN: forward, eager" in capsys.readouterr().out


@pytest.mark.benchmark
def test_the_compiled_video_networks_are_compared_with_the_eager_ones():
    rows = run("video_speed", *SMALL, "--only", "times", "--compiled", "--backend", "eager", "--networks", "STE-NVAN")["times"]
    assert [(row["network"], row["mode"]) for row in rows] == 2 * [*product(("ResNet-50", "NVAN", "STE-NVAN"), ("eager", "compiled"))]
    for eager, compiled in zip(rows[::2], rows[1::2]):
        assert compiled["eager / this"] == pytest.approx(eager["ms"] / compiled["ms"])


@pytest.mark.benchmark
def test_memory_of_the_video_networks_and_of_the_block_is_measured_in_processes_of_their_own():
    figures = run("video_speed", *SMALL, "--only", "memory", "block", "--passes", "forward", "--networks", "NVAN")
    assert [row["network"] for row in figures["memory"]] == ["ResNet-50", "NVAN"]
    assert all(row["extra_mb"] >= 0 for row in figures["memory"])
    assert [row["T"] for row in figures["block"]] == [4, 16]
    for row in figures["block"]:  # the same output, so that the same work was measured
        assert row["fused"]["sum"] == pytest.approx(row["plain"]["sum"], rel=1e-3)


def test_the_plain_block_computes_what_the_block_computes():
    module = import_module("video_speed")
    torch.manual_seed(0)
    block, plain = (kind(8).eval() for kind in (module.NonLocalBlock, module.PlainNonLocalBlock))
    torch.nn.init.ones_(block.bn.weight)
    plain.load_state_dict(block.state_dict())
    clips = torch.randn(2, 3, 8, 4, 2)
    torch.testing.assert_close(plain(clips), block(clips))


def test_greedy_pruning_is_the_best_for_what_it_frees_on_every_toy():
    module = import_module("pruning_optimality")
    rows = module.main(["--toys", "40", "--filters", "3", "6"])
    assert list(rows) == [3, 6]
    for row in rows.values():
        assert row["without its last filter at most the optimum"] == row["the optimum for what it freed"] == 1
        assert row["loss alone is better"] + row["CAIE is better"] <= 1
        assert row["CAIE / optimum"] >= 1
    loss, freed = torch.tensor([[0.5, 0.4, 0.2]], dtype=torch.float64), torch.tensor([[0.6, 0.3, 0.2]], dtype=torch.float64)
    assert module.best(loss, freed, torch.tensor([0.5])).item() == pytest.approx(0.5)  # the first alone
    taken, but_last, frees = module.greedy((loss / freed).argsort(1), loss, freed, torch.tensor([0.7]))
    assert (taken.item(), but_last.item(), frees.item()) == (pytest.approx(0.7), pytest.approx(0.5), pytest.approx(0.8))


@pytest.mark.benchmark
def test_a_teacher_costs_an_inference_without_a_graph():
    figures = run("teacher_cost", "--backbone", "resnet18", "--student", "resnet18", "--batch", "2", "--rounds", "1", *TINY)
    assert all(value > 0 for value in figures.values())
    assert figures["teacher / bare inference"] == pytest.approx(figures["teacher"] / figures["bare inference"])


@pytest.mark.benchmark
def test_a_federations_overhead_is_measured_beside_its_fits(few_people):
    found = run("federation_costs", f"--dataset={few_people}", "--backbones", "resnet18", "--clients", "2", "--rounds", "1", "--states")
    assert found["resnet18"]["fit"] > 0
    assert found["resnet18"]["overhead"] > 0
    assert found["resnet18"]["payload MB"] > 0.1


@pytest.mark.benchmark
def test_estimation_and_a_run_of_pruning_are_timed():
    short = ["--batch", "4", "--steps", "3", "--rounds", "1", "--filters_per_step", "4000", "--batches_per_step", "1"]
    found = run("pruning_costs", "--measures", "estimation", "run", *short)
    assert set(found["estimation"]) == {"plain", "estimating"}
    assert found["run"]["flops"] <= 0.5
    assert found["run"]["seconds"] > 0


CLUSTERS = {"clusters": 120.0, "people": 100.0, "v_measure": 0.8, "homogeneity": 0.9, "completeness": 0.7, "largest_share": 0.02}


def test_federations_over_seeds_are_compared_by_means_over_clients_and_read_back(tmp_path, capsys, monkeypatch):
    bench = import_module("federated_ordering")
    monkeypatch.setattr(bench, "clients_of", lambda root, seed: ["market-like", "duke-like"])
    for seed in (0, 1):
        rows = {
            row: {
                "scores": {name: {"mAP": mAP + client, "R1": 0.5} for name, client in (("a", 0.0), ("b", 0.1 * seed))},
                "steps": steps,
                "clusters by round": {} if row == "first network" else {"1": {"a": CLUSTERS | {"v_measure": 0.5}, "b": CLUSTERS}},
            }
            for row, mAP, steps in (("first network", 0.1, 0), ("baseline", 0.2, 100), ("PE", 0.25, 60), ("all", 0.4, 50))
        }
        bench.write_json(tmp_path / f"fedureid-seed{seed}" / "results.json", {"rows": rows})
        told = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in bench.FEDUREID.items()]
        cfg = bench.fedureid.parse([*told, '--datasets=["market-like", "duke-like"]', f"--seed={seed}"])
        options = options_fingerprint(cfg, bench.fedureid.ROW_OPTIONS)
        bench.write_json(tmp_path / f"fedureid-seed{seed}" / "run.json", {"options": options, "data": {}})
        bench.write_json(tmp_path / f"fedureid-seed{seed}-cpu.json", {"seconds": 1800})
    asked = ["--method=fedureid", "--seeds", "0", "1", "--rows", "baseline", "PE", "all", f"--output={tmp_path}"]
    found = bench.main([*asked, f"--results={tmp_path / 'result.json'}", f"--commit={'a' * 40}"])
    assert found["mAP"][1]["all"] == pytest.approx(0.45)
    assert found["steps"][0] == {"first network": 0.0, "baseline": 1.0, "PE": 0.6, "all": 0.5}
    printed = capsys.readouterr().out
    assert "| all - baseline | +20.0 | +20.0 to +20.0 | yes |" in printed
    assert "| all - PE | +15.0 | +15.0 to +15.0 | yes |" in printed
    assert "| PE | 1 | 120 | 100 | 65.0 | 90.0 | 70.0 | 2.0 |" in printed
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["primary"] == ["all", "baseline"]
    assert ["all", "PE"] in written["exploratory"]
    assert (written["hours"], written["commit"]) == (1.0, "a" * 40)
    assert written["scores"]["1"]["all"] == pytest.approx(0.45)


@pytest.mark.slow
def test_two_clients_of_a_seed_are_strangers_in_two_cameras_each_and_are_drawn_once(tmp_path, monkeypatch):
    bench = import_module("two_camera_clients")
    monkeypatch.setattr(bench, "PEOPLE", {"num_train_pids": 8, "num_test_pids": 2, "images_per_camera": 2, "num_distractors": 1})
    monkeypatch.setattr(bench, "LEAST", 3)
    monkeypatch.setattr(bench, "DEALT", 4)
    people = {}
    for seed in (0, 1, 100):
        folders = bench.clients_of(tmp_path, seed)
        assert folders == bench.clients_of(tmp_path, seed)
        read = [ImageReIDDataModule(folder, val_identities=0).read() for folder in folders]
        numbers = [len({record.pid for record in one.train}) for one in read]
        assert sum(numbers) == 10
        assert min(numbers) >= 3
        for one in read:
            visits = {(record.pid, record.camid) for record in one.train}
            assert len(one.train) == 2 * len(visits) == 4 * len({record.pid for record in one.train})
        people[seed] = [{Path(record.path).read_bytes() for record in (*one.train, *one.query)} for one in read]
    assert people[0] != people[1]
    assert not any(scored & looked_at for scored, looked_at in zip(people[0], people[100]))


@pytest.mark.benchmark
def test_shipped_networks_are_counted_and_timed_beside_the_usual_small_backbone():
    rows = run("shipped_networks", "--rounds", "1")
    assert list(rows)[-1] == "mobilenetv2_100"
    for name, row in list(rows.items())[:-1]:
        assert row["megabytes"] < 2, name
        assert row["ONNX off by"] < 1e-4
        assert row["multiply_adds"] < rows["mobilenetv2_100"]["multiply_adds"]
        assert row["to peer"] > 0


@pytest.mark.benchmark
def test_an_index_is_searched_exactly_and_approximately_and_folders_are_embedded():
    pytest.importorskip("faiss")
    figures = run("search_index", "--rows", "10000", "--crops", "5")
    assert set(figures["searches"]) == {(10_000, queries) for queries in (1, 10, 100)}
    for row in figures["searches"].values():
        assert 0.5 < row["recall"] <= 1
        assert row["ratio"] > 0
    assert len(figures["folders"][5]) == 3
