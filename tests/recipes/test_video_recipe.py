from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.modules import VideoReID
from lightning_reid.recipes import video_mars
from lightning_reid.recipes.workshop.video_tables import VIDEO_TABLES


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory) -> Path:
    small = GeneratedTracklets(num_train_pids=6, num_test_pids=4, num_distractors=2, frames=(4, 6), height=64, width=32)
    return small.write(tmp_path_factory.mktemp("data") / "tracklets", progress=False)


@pytest.fixture
def small_run(tracklets) -> list[str]:
    network = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 3, 1]}
    return [
        f"--data.dataset={tracklets}",
        "--data.image_size=[64,32]",
        "--data.clip_length=4",
        "--data.p=3",
        "--data.k=2",
        "--data.num_workers=0",
        f"--model.network_options={json.dumps(network)}",
        "--redetection.detector=generated",
        "--accelerator=cpu",
        "--epochs=1",
        "--quiet",
    ]


def test_a_run_with_redetection_leaves_both_rows_pictures_and_a_checkpoint_that_loads_by_itself(small_run, tmp_path, capsys):
    tables = video_mars.main([*small_run, "--network=stenvan", "--redetect", f"--output={tmp_path}"])
    names = [row.name for row in tables["stenvan"]]
    assert names == ["baseline, tracklets as they are", "stenvan, re-detected and linked"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["rows"]) == names
    for row in results["rows"].values():
        assert 0 < row["mAP"] <= 1
        assert row["costs"]["G multiply-adds"] > 0
    assert results["stamp"]["protocol"] == "mars"
    assert "RRS, T=4, first of each chunk" in results["protocol"]
    for file in ("table.md", "curves.png", "stenvan-aligned-T4/rank_list.png", "stenvan-aligned-T4/redetected.png"):
        assert (tmp_path / file).stat().st_size > 0
    network = VideoReID.load_from_checkpoint(tmp_path / "stenvan-aligned-T4" / "last.ckpt", weights_only=True).network
    assert network.stripes == 4  # 16 for images of 256 rows
    assert names[1] in capsys.readouterr().out

    again = video_mars.main([*small_run, "--network=stenvan", "--redetect", f"--output={tmp_path}", "--resume"])
    assert again == tables


def test_generated_people_are_trained_on_and_others_scored_on_however_few_those_are(small_run, tracklets, tmp_path, capsys):
    people = "--data.dataset=generated-people,people=9,cameras=3,visits=2,test_people=2,frames=4"
    tables = video_mars.main([*small_run, people, "--data.p=9", f"--tested_on={tracklets}", "--network=baseline", f"--output={tmp_path}"])
    assert [row.queries.people for row in tables["baseline"]] == [4]
    assert json.loads((tmp_path / "results.json").read_text())["stamp"]["dataset"] == tracklets.name
    assert f"baseline on {tracklets}" in (tmp_path / "table.md").read_text()
    assert next(iter(json.loads((tmp_path / "run.json").read_text())["data"])).startswith("generated-people,people=9")


def test_an_ablation_trains_the_rows_of_the_table_and_each_network_once(small_run, tmp_path, without_pictures_and_exports):
    with without_pictures_and_exports():
        tables = video_mars.main([*small_run, "--ablation", "2.3", "2.5", "--data.clip_length=2", f"--output={tmp_path}"])
    assert [row.name for row in tables["table 2.3"]] == ["1 block", "3 blocks", "5 blocks"]
    five, whole = tables["table 2.3"][2], tables["table 2.5"][0]
    assert five.scores == whole.scores  # the same NVAN
    assert len(list(tmp_path.glob("*/last.ckpt"))) == 5
    one, three = tables["table 2.3"][:2]
    assert one.costs["M parameters"] < three.costs["M parameters"] < five.costs["M parameters"]
    for table in ("table-2.3", "table-2.5"):
        assert json.loads((tmp_path / table / "results.json").read_text())["rows"]


def test_every_row_of_the_tables_has_options_that_fit_small_frames(small_run):
    cfg = video_mars.parse([*small_run, "--ablation"])
    assert cfg.ablation == list(VIDEO_TABLES)
    for rows in VIDEO_TABLES.values():
        for row in rows:
            options = row.fitted(cfg.model.network_options, cfg.data.image_size)
            if row.network == "stenvan" and row.options.get("stripes", 16) is not None:
                assert options["stripes"] == max(1, row.options.get("stripes", 16) // 4)
            if row.network == "cfaan":
                assert (options["clip_length"], options["image_size"]) == (6, (64, 32))


def test_without_a_data_set_the_small_run_says_so(capsys):
    cfg = video_mars.parse(["--network=nvan"])
    assert (cfg.data.dataset, cfg.epochs) == ("mars-like", video_mars.SMALL_RUN["epochs"])
    assert "generating noisy tracklets" in capsys.readouterr().out
    assert video_mars.parse(["--data.root=somewhere"]).epochs == 200


@pytest.mark.parametrize("given", ["a flag", "a flag before others", "a config file", "nothing"])
def test_redetection_is_switched_on_by_a_flag_and_by_a_config_file_alike(small_run, tmp_path, given):
    (tmp_path / "run.yaml").write_text("redetect: true\nredetection:\n  alpha: 0.5\n")
    more = {
        "a flag": ["--redetection.alpha=0.5", "--redetect"],
        "a flag before others": ["--redetect", "--redetection.alpha=0.5"],
        "a config file": [f"--config={tmp_path / 'run.yaml'}"],
        "nothing": ["--redetection.alpha=0.5"],
    }[given]
    cfg = video_mars.parse([*small_run, *more])
    assert (cfg.redetect, cfg.redetection.alpha, cfg.redetection.detector) == (given != "nothing", 0.5, "generated")
    (rows,) = video_mars.asked_rows(cfg).values()
    assert [row.redetected for row in rows] == ([False] if given == "nothing" else [False, True])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--ablation", "2.9"], "--ablation takes the tables 2.1, 2.2, 2.3, 2.4, 2.5, 2.8, got 2.9"),
        (["--network=lstm"], "lstm"),
    ],
)
def test_a_wrong_option_is_refused_with_those_there_are(small_run, wrong, said, capsys):
    with pytest.raises(SystemExit):
        video_mars.parse([*small_run, *wrong])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (["--redetection.detector=onnx"], ValueError, "the detector 'onnx' needs a file"),
        (["--redetection.detector=onnx", "--redetection.detector_file=gone.onnx"], FileNotFoundError, "gone.onnx"),
        (["--redetection.detector=opencv", "--redetection.detector_file=some.onnx"], ValueError, "the detector 'opencv' takes no file"),
        (["--redetection.detector=torchvision", "--redetection.detector_file=gone.pth"], FileNotFoundError, "gone.pth"),
        (["--redetection.checkpoint=gone.ckpt"], FileNotFoundError, "gone.ckpt"),
    ],
)
def test_what_redetection_lacks_is_found_before_anything_is_trained(small_run, tmp_path, wrong, error, said):
    with pytest.raises(error, match=said):
        video_mars.main([*small_run, "--network=baseline", "--redetect", *wrong, f"--output={tmp_path}"])
    assert not list(tmp_path.glob("**/*.ckpt"))
