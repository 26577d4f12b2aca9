"""Generated cameras, tracked online by the shipped network, as a user runs it."""

from __future__ import annotations

import json

import pytest

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.recipes import track_cameras
from lightning_reid.recipes.workshop import tracking_scores
from lightning_reid.recipes.workshop.camera_recording import record_world, replay
from lightning_reid.tracking import CameraTracks, MatchingRules, OnlineMatcher, TrackFeature

WORLD = {"num_cameras": 2, "num_people": 6, "seconds": 20.0, "image_size": (144, 192), "encounters": 1, "crossings": 1, "twins": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    options = [f"--world.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in WORLD.items()]
    told = ["evaluate", *options, "--seeds=[0,1]", "--calibrated_on=[7]", "--quiet", f"--output={output}"]
    return output, track_cameras.main(told)


def test_every_world_is_scored_beside_no_matching_and_an_oracle(run):
    output, results = run
    assert list(results["rows"]) == [0, 1]
    for row in results["rows"].values():
        assert 0.2 < row["camera IDF1"] <= 1
        assert row["no matching IDF1"] <= row["oracle IDF1"]
        assert 0 < row["across IDF1"] <= 1
        assert row["twice in a camera"] == 0
    written = json.loads((output / "results.json").read_text())
    assert written["rows"]["0"]["across IDF1"] == results["rows"][0]["across IDF1"]


def test_the_threshold_is_the_strictest_of_the_best_on_worlds_that_are_not_scored(run):
    _, results = run
    good = [float(one) for one, score in results["chosen"].items() if score >= max(results["chosen"].values()) - tracking_scores.GIVEN_UP]
    assert results["threshold"] == max(good)
    assert len(good) < len(results["chosen"])


def test_worlds_that_are_scored_are_not_chosen_on(capsys):
    with pytest.raises(SystemExit):
        track_cameras.main(["evaluate", "--seeds=[0,1]", "--calibrated_on=[1]"])
    assert "--seeds and --calibrated_on share [1]: who is scored is not chosen on" in capsys.readouterr().err


def test_the_results_of_another_run_are_not_written_over(run, capsys):
    with pytest.raises(SystemExit):
        track_cameras.main(["evaluate", f"--output={run[0]}"])
    assert "holds the results.json of another run: give another --output" in capsys.readouterr().err


def test_what_was_recorded_gives_the_same_identities_however_often_it_is_replayed(tmp_path):
    cfg = tracking_scores.build_parser().parse_args(
        [f"--world.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in WORLD.items()]
    )
    tracking = tracking_scores.Tracking(cfg)
    world = GeneratedWorld(3, **WORLD)
    nodes = {camid: tracking.node(camid, world.fps) for camid in (1, 2)}
    messages = record_world(world, WorldDetector(world), nodes, progress=False)
    assert {type(one) for one in messages} >= {CameraTracks, TrackFeature}

    def shown():
        matcher = OnlineMatcher(MatchingRules(0.4, every_n_frames=10), feature_size=192, model="generated-people-small")
        return [(one.number, one.tracks.keys, one.identities) for one in replay(messages, matcher)]

    assert shown() == shown()
    assert len(shown()) == 2 * world.num_frames
