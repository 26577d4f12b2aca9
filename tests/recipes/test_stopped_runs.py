"""Every recipe, stopped after a rename of a file and resumed, ends as it does unbroken: rows and weights, bit for bit."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from lightning_reid.datamodules.generated import GeneratedPedestrians, GeneratedTracklets

SIZES = ["--data.image_size=[32,16]", "--data.num_workers=0"]
BATCHES = ["--data.p=3", "--data.k=4"]
OPTIONS = '{"channels":[4,4,8,8],"layers":[1,1,1,1]}'
MODEL = ["--model.backbone=resnet18", f"--model.backbone_options={OPTIONS}"]
CLUSTERING = ["--clustering.every_n_epochs=1", "--clustering.min_samples=2", "--clustering.k1=8", "--clustering.k2=3"]
DBSCAN = ["--dbscan.k1=8", "--dbscan.k2=3", "--dbscan.min_samples=2", "--dbscan.rho=0.1"]
FEDERATION = ["--rounds=2", "--epochs=1", "--split=identity", "--num_clients=2"]
STUDENT = ["--model.student=resnet18", f"--model.backbone_options={OPTIONS}"]
TEACHER = ["--teacher.backbone=resnet18", '--teacher.backbone_options={"channels":[4,8,8,8],"layers":[1,1,1,1]}']
VIDEO = {"backbone": "resnet18", "channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
LAYERS = [f"backbone.trunk.layer{stage}.0.{layer}" for stage in (1, 2, 3, 4) for layer in ("conv1", "downsample.0")][:-1]
RUNS = {
    "supervised_market": [*SIZES, *BATCHES, *MODEL, "--data.dataset={market}", "--epochs=2"],
    "hsr_duke2market": [
        *(*SIZES, *BATCHES, *MODEL, *CLUSTERING, "--source={duke}", "--target={market}"),
        *("--data.source_p=3", "--epochs=2", "--source_epochs=2"),
    ],
    "sgcdpl_market": [
        *(*SIZES, *BATCHES, *MODEL, *DBSCAN, "--data.dataset={market}", "--labeled=3", "--data.unlabeled_per_batch=4"),
        *("--model.warmup_epochs=0", "--clustering.every_n_epochs=1", "--iterations=2", "--initial_epochs=2"),
    ],
    "buc_market": [
        *(*SIZES, *MODEL, "--data.dataset={market}", "--data.batch_size=16"),
        *("--clustering.initial_epochs=1", "--clustering.every_n_epochs=1", "--steps=2"),
    ],
    "distill_market": [*SIZES, *BATCHES, *TEACHER, *STUDENT, "--data.dataset={market}", "--epochs=2"],
    "video_mars": [
        *(
            *SIZES,
            "--data.p=2",
            "--data.k=2",
            "--data.dataset={tracklets}",
            "--data.clip_length=2",
            "--epochs=2",
            "--network=baseline",
            "--redetect",
        ),
        *(f"--model.network_options={json.dumps(VIDEO)}", "--redetection.detector=generated"),
    ],
    "prune_caie": [
        *(*SIZES, *BATCHES, *MODEL, "--data.dataset={market}", "--images", "--epochs=2", "--tuning_epochs=2"),
        *("--caie.filters_per_step=4", "--caie.batches_per_step=1"),
    ],
    "prune_cpo": [
        *(*SIZES, *BATCHES, *MODEL, "--data.dataset={market}", "--epochs=2", "--tuning_epochs=2"),
        *("--cpo.expected_drop=0.2", "--cpo.retrain_epochs=1", f"--cpo.ignored={json.dumps(LAYERS)}"),
    ],
    "fedureid": [
        *(*SIZES, *MODEL, *FEDERATION, '--datasets=["{market}"]', "--data.batch_size=8", '--rows=["all"]'),
        *("--pretraining={crowd}", "--pretraining_epochs=2", "--clustering.min_samples=2", "--clustering.k1=6", "--clustering.k2=2"),
    ],
    "fedfr": [
        *(*SIZES, *BATCHES, *MODEL, *FEDERATION, "--public={duke}", '--clients=["{market}"]', "--held_out=0.5", '--rows=["FedFR"]'),
        *("--pretraining_epochs=2", "--batch_size=16", "--far=[0.5]", "--fpir=[0.5]"),
    ],
    "edge": [
        *(*SIZES, *MODEL, "--data.dataset={three cameras}", "--start_from={duke}", "--start_epochs=1", "--supervised_epochs=1"),
        *("--data.batch_size=8", '--rows=["style + walk + clustering"]', "--score_visits=false"),
        *("--edge.visits=1", "--edge.incremental_visits=1", "--edge.statistics=averaged", "--edge.unify=average"),
    ],
    "fedpav": [*SIZES, *BATCHES, *MODEL, *FEDERATION, '--datasets=["{market}"]'],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Few people in pictures of 32 x 16 pixels."""
    folder, size = tmp_path_factory.mktemp("data"), {"num_test_pids": 3, "num_distractors": 1, "height": 32, "width": 16}
    made = {
        name: GeneratedPedestrians(preset, num_train_pids=people, images_per_camera=2, **size)
        for name, preset, people in (("market", "market-like", 8), ("duke", "duke-like", 6), ("crowd", "duke-like", 16))
    }
    made["tracklets"] = GeneratedTracklets(num_train_pids=2, frames=(2, 3), **(size | {"num_test_pids": 2, "num_distractors": 0}))
    written = {name: people.write(folder / name, progress=False) for name, people in made.items()}
    written["three cameras"] = Path(shutil.copytree(written["market"], folder / "three"))
    for file in (written["three cameras"] / "bounding_box_train").glob("*_c[4-6]s*"):
        file.unlink()
    return {name: str(where) for name, where in written.items()}


@pytest.fixture(scope="module", params=RUNS)
def run(request, folders, stopped_runs, tmp_path_factory):
    """A recipe's unbroken run and its copies, for all tests of it."""
    arguments = RUNS[request.param]
    for name, folder in folders.items():
        arguments = [argument.replace(f"{{{name}}}", folder) for argument in arguments]
    return stopped_runs(request.param, arguments, tmp_path_factory.mktemp(request.param))


def test_the_folder_of_a_run_is_for_that_run_alone(run, monkeypatch):
    for part in ("image_reid.prepare_dataset", "federated.prepare_dataset", "video_reid.prepare_video_dataset"):
        monkeypatch.setattr(f"lightning_reid.datamodules.{part}", lambda *_: pytest.fail("data were prepared first"))
    with pytest.raises(FileExistsError, match=r"output was used before: give --resume .* or another folder, --output .*output-2"):
        run.main()
    with pytest.raises(ValueError, match="output holds a run with other options: seed: 0 there, 1 here"):
        run.main("--resume", "--seed=1")


def three_points(run) -> set[int]:
    """In the middle of the first fit, at the end of the first stage or round, and in the middle of the last fit."""
    saves = [point for point, name in enumerate(run.renamed) if name.endswith(".ckpt")]
    return {saves[0], run.ends[0], saves[-2]}


def other_points(run) -> set[int]:
    """All others, but for those that are as another."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for point, name in enumerate(run.renamed):
        # nothing reads a picture or a table: the folder is as it was before
        if not name.endswith((".png", ".md")):
            kinds["a tracklet" if name.startswith("redetected/") else re.sub(r"camera\d+", "a camera", name)].append(point)
    # of a file that is written again and again, or one of many alike, the first, the middle and the last
    points = {point for alike in kinds.values() for point in (alike[0], alike[len(alike) // 2], alike[-1])}
    # a checkpoint under its second name, of an epoch that is among the points under its first: once
    before = sorted(point for point in points if run.renamed[point].endswith(".previous"))
    return points - three_points(run) - {*before[:-1]}


def test_stopped_at_three_points_a_recipe_ends_as_unbroken(run):
    assert [lost for point in sorted(three_points(run)) for lost in run.lost(point)] == []


@pytest.mark.slow
def test_stopped_after_any_other_rename_a_recipe_ends_its_stage_or_round_as_unbroken(run):
    assert [lost for point in sorted(other_points(run)) for lost in run.lost_at_the_next_end(point)] == []
