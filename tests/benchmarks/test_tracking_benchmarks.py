"""The benchmarks of tracking run, small, and what they replace or derive is what their protocol says."""

from __future__ import annotations

import argparse
import math

import cv2
import numpy as np
import pytest
import torch
import tracking_links
import tracking_live
import tracking_pets
import tracking_rules
import tracking_tables
from constant_detector import write_people_onnx
from filmed import film

from lightning_reid.datamodules.generated import GeneratedWorld
from lightning_reid.metrics import handover_scores
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.tracking import CameraTracks, TrackFeature
from lightning_reid.tracking.handover import assign_one_to_one

SMALL = {"num_cameras": 2, "num_people": 8, "seconds": 12.0, "image_size": (144, 192), "encounters": 1, "crossings": 1}


def test_without_assignment_two_ask_for_the_same_person_and_who_holds_one_leaves_only_for_a_margin():
    similarities = torch.tensor([[0.9, 0.8], [0.8, 0.5], [0.6, 0.63], [0.3, 0.2]])
    options = {"threshold": 0.4, "held": torch.tensor([-1, -1, 0, -1]), "margin": 0.05}
    assert tracking_rules.each_takes_its_best(similarities, **options).tolist() == [0, 0, 0, -1]
    assert assign_one_to_one(similarities, **options).tolist().count(0) == 1


def test_gates_of_a_street_hold_what_walkers_need_between_neighbors():
    world = GeneratedWorld(3, **SMALL)
    least, most = tracking_rules.gates_of(world).bounds("camera 1", "camera 2")
    gap = world.street.views[1][0] - world.street.views[0][1]
    assert least == pytest.approx(gap / 1.6)
    assert most > gap / 1.1 + 5


@pytest.mark.benchmark
def test_ways_to_announce_features_differ_in_the_features_alone():
    world = GeneratedWorld(3, **SMALL)
    ways = (tracking_rules.MEAN, tracking_rules.LAST, tracking_rules.WHOLE, tracking_rules.HIDDEN)

    def embed(crops):
        return torch.nn.functional.normalize(torch.stack([crop.float().mean((1, 2)) for crop in crops]), dim=1)

    told = tracking_rules.record(world, embed, "colors", ways)
    frames = [[one for one in told[way] if isinstance(one, CameraTracks)] for way in ways]
    assert all([one.keys for one in frames[0]] == [one.keys for one in others] for others in frames)
    mean, last, whole, hidden = ([one for one in told[way] if isinstance(one, TrackFeature)] for way in ways)
    assert [one.key for one in mean] == [one.key for one in last]
    assert all(torch.equal(one.feature, other.feature) == (one.num_features == 1) for one, other in zip(mean, last))
    assert [(one.key, one.num_features - 1) for one in mean if one.num_features > 1] == [(one.key, one.num_features) for one in whole]
    assert all(torch.equal(one.feature, other.feature) for one, other in zip([m for m in last if m.num_features == 2], whole[:1]))
    assert len(hidden) >= len(mean)


@pytest.mark.benchmark
def test_rows_of_rules_are_compared_on_the_same_worlds(tmp_path, capsys, monkeypatch):
    arguments = ["--small", "--seeds", "1", "2", "--calibrated_on", "100", "--thresholds", "0.425", "--output", str(tmp_path)]
    rows = ["as they are", "each takes its best, no assignment"]
    found = tracking_rules.main([*arguments, "--only", *rows])
    assert {name: list(scores) for name, scores in found.items()} == {name: [1, 2] for name in rows}
    assert f"| {rows[0]} | 0.425 |" in capsys.readouterr().out
    monkeypatch.setattr(tracking_rules, "record", None)  # what was recorded is read back
    assert repr(tracking_rules.main([*arguments, "--only", *rows])) == repr(found)


@pytest.mark.benchmark
def test_links_are_asked_about_as_they_are_scored(tmp_path, capsys):
    found = tracking_links.main(["--small", "--seeds", "1", "--threshold", "-1", "--output", str(tmp_path)])
    args = argparse.Namespace(checkpoint=DEFAULT, world=dict(SMALL, seconds=12), output=tmp_path)
    scored = handover_scores(tracking_rules.Worlds(args, overlapping=False).matched(1, tracking_rules.Row(), -1))
    assert (found["links"], found["links"] - found["wrong"]) == (scored.num_links, scored.num_right)
    assert found["wrong"] == sum(found[kind] for kind in ("one person in most boxes of both", "the pair", "two others")) > 0
    assert "% are right" in capsys.readouterr().out


@pytest.fixture
def walk(tmp_path):
    """A person in the middle of the left window, then of the right one; the detector always sees somebody in both."""
    pytest.importorskip("onnx")
    folder = tmp_path / "sequence"
    (folder / "img1").mkdir(parents=True)
    for frame in range(1, 31):
        cv2.imwrite(str(folder / "img1" / f"{frame:06d}.png"), np.full((96, 192, 3), 8 * frame, np.uint8))
    left, right = "22.5,24,45,48", "124.5,24,45,48"
    rows = [f"{frame},1,{left},1,-1,-1,-1" for frame in range(1, 13)] + [f"{frame},2,{right},1,-1,-1,-1" for frame in range(16, 31)]
    (folder / "gt.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "images.csv").write_text("mot_id,person\n1,1\n2,1\n1,-1\n")
    return [str(folder), str(tmp_path / "images.csv"), str(write_people_onnx(tmp_path / "people.onnx")), "--output", str(tmp_path / "out")]


@pytest.mark.benchmark
def test_halves_of_a_sequence_are_scored_by_visits_and_by_people(walk, monkeypatch):
    (row,) = tracking_pets.main([*walk, "--threshold", "0.5"]).values()
    # 29 boxes are shown in each window, from the second frame on; the left one shows the person in 11 of 12 frames, the right in all 15
    assert row["camera IDF1"] == pytest.approx((2 * 11 / (12 + 29) + 2 * 15 / (15 + 29)) / 2)
    assert row["oracle"] == pytest.approx(2 * 26 / (27 + 58))
    assert row["no matching"] == pytest.approx(2 * 15 / (27 + 58))
    assert row["twice in a camera"] == 0
    monkeypatch.setattr(tracking_pets.OnnxDetector, "__call__", None)  # the boxes are read back
    assert repr(tracking_pets.main([*walk, "--threshold", "0.5"]).popitem()[1]) == repr(row)


@pytest.mark.benchmark
def test_every_table_is_measured_and_its_times_add_up(walk, capsys):
    found = tracking_tables.main([walk[2], "--small", "--frames", "3", "--meetings", "1", "--rounds", "1"])
    assert list(found) == ["8.2", "8.3", "8.4", "8.5", "share"]
    assert list(found["8.4"]) == ["NVAN", "Spatial-NVAN", "STE-NVAN", "CF-AAN"]
    assert list(found["8.5"]) == list(tracking_tables.TEXT)
    assert all(value >= 0 and math.isfinite(value) for table in found.values() for value in table.values())
    assert found["8.3"]["every box, ms"] >= found["8.3"]["none, ms"]
    assert "| NVAN |" in capsys.readouterr().out


@pytest.mark.benchmark
def test_a_run_under_load_is_told_of_by_what_it_reports_and_by_what_the_kernel_sees(tmp_path, capsys):
    pytest.importorskip("onnx")
    film(tmp_path / "street.mp4", 20, size=(96, 128), fps=tracking_live.RATE)
    detector = write_people_onnx(tmp_path / "people.onnx")
    (row,) = tracking_live.main([str(tmp_path / "street.mp4"), str(detector), "--cameras", "2", "--seconds", "4", "--early", "1"])
    assert (row["cameras"], row["dropped"]) == (2, 0)
    assert 4 <= row["seconds"] < 8
    assert row["tracked"] > 20
    assert 0 < row["latency p50"] <= row["latency p95"] < 4
    assert 100 < row["early"] <= row["most"]
    assert row["descriptors early"] <= row["descriptors"]
    assert "| 2 | 4 |" in capsys.readouterr().out


def test_what_is_early_is_counted_from_when_the_cameras_began():
    of_camera = {"frames tracked": 40, "frames dropped": 1, "clips dropped": 2, "latency p50": 0.1, "latency p95": 0.2}
    results = {"seconds": 4.0, "identities": 3, "cameras": {"1": of_camera, "2": of_camera | {"latency p95": 0.3}}}
    samples = [tracking_live.Sample(6.0 + second, second, 100.0 + second, second, 5, 0.5 * second) for second in range(5)]
    row = tracking_live.row_of(results, samples, early=2.0)
    assert (row["early"], row["late"], row["most"], row["descriptors early"], row["descriptors"]) == (102, 104, 104, 2, 4)
    assert (row["fps"], row["cores"], row["dropped"], row["latency p95"]) == (10, 0.5, 2, 0.3)
