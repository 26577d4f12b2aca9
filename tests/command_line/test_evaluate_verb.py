"""``lightning-reid evaluate``: the numbers of a Trainer without one, in a table that says what they were measured on."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml

from lightning_reid.command_line.main import main
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.readers import read_market_folder, read_mars_folder
from lightning_reid.evaluation.retrieval import fitting_protocols
from lightning_reid.inference import EmbeddingPass, load_network
from lightning_reid.metrics import bootstrap_interval, retrieval_scores
from lightning_reid.modules import SupervisedReID
from lightning_reid.records import ImageRecord, TrackletRecord

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
QUIET = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)


def scores_of_a_trainer(model: SupervisedReID, data: ImageReIDDataModule) -> dict[str, float]:
    trainer = pl.Trainer(accelerator="cpu", devices=1, **QUIET)
    (scores,) = trainer.test(model, datamodule=data, verbose=False)
    return {name.removeprefix("test/"): value for name, value in scores.items()}


@pytest.fixture(scope="module")
def trained(market_folder, tmp_path_factory) -> dict[str, Any]:
    """A checkpoint of one epoch, and what a Trainer says of it on the test part, re-ranked too."""
    pl.seed_everything(0)
    data = ImageReIDDataModule(str(market_folder), image_size=(32, 16), crop_padding=2, p=4, k=2, num_workers=0, val_identities=0)
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, limit_val_batches=0, num_sanity_val_steps=0, **QUIET)
    model = SupervisedReID(**TINY)
    trainer.fit(model, data)
    path = tmp_path_factory.mktemp("trained") / "last.ckpt"
    trainer.save_checkpoint(path)
    reranked = scores_of_a_trainer(SupervisedReID.load_from_checkpoint(path, rerank=True), data)
    return {"path": path, "scores": scores_of_a_trainer(model, data), "reranked": reranked}


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> Path:
    """Tracklets in the layout of MARS."""
    people = GeneratedTracklets("mars-like", num_train_pids=4, num_test_pids=4, num_distractors=1, frames=(2, 4), height=32, width=16)
    return people.write(tmp_path_factory.mktemp("data") / "walks", progress=False)


def told(capsys, *argv: object) -> dict:
    assert main(["evaluate", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    assert main(["evaluate", *map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize("rerank", [False, True])
def test_the_scores_are_those_of_trainer_test(rerank, trained, market_folder, capsys):
    options = ["--rerank"] if rerank else []
    (row, free) = told(capsys, "--models", trained["path"], "--data", market_folder, *options)["rows"]
    expected = trained["reranked" if rerank else "scores"]
    for name in ("mAP", "R1", "R5", "R10", "mINP", "unmatched_queries"):
        assert row[name] == pytest.approx(expected[name], abs=1e-6)
    assert 0 < row["mAP"] < 1, "which says nothing if all is right, or all is wrong"
    assert (row["protocol"], free["protocol"]) == ("market", "no-camera")
    data = read_market_folder(market_folder)
    assert (row["queries"], row["gallery"]) == (len(data.query), sum(record.pid != -1 for record in data.gallery))
    for part in (
        "resize 32x16",
        "cosine",
        f", {'re-ranked' if rerank else 'not re-ranked'}",
        "95 % interval of mAP by bootstrap over 6 people",
    ):
        assert part in row["stamp"]
    assert row["mAP_interval"][0] < row["mAP"] < row["mAP_interval"][1]


def test_a_tracklet_is_the_mean_of_its_frames_under_each_rule_of_mars(walks, capsys):
    rows = told(capsys, "--data", walks)["rows"]
    data, network = read_mars_folder(walks), load_network()
    embedding = EmbeddingPass(quiet=True)
    of = {one.paths: embedding.run(network, one.paths).embeddings.mean(0) for one in data.gallery}
    assert {row["protocol"] for row in rows} == {"mars", "mars-excluding-queries", "mars-corrected"}
    for row in rows:
        gallery = [one for one in data.gallery if row["protocol"] != "mars-excluding-queries" or one not in data.query]
        sides = [torch.stack([of[one.paths] for one in side]) for side in (data.query, gallery)]
        labels = [torch.tensor([getattr(one, name) for one in side]) for name in ("pid", "camid") for side in (data.query, gallery)]
        assert row["mAP"] == pytest.approx(retrieval_scores(*sides, *labels, protocol=row["protocol"]).mAP, abs=1e-6)
        assert row["gallery"] == sum(one.pid != -1 for one in gallery)
        assert "gallery tracklets" in row["stamp"]
        assert "mean of frames, resize 128x64" in row["stamp"]
    message = refused(capsys, "--data", walks, "--protocol", "no-camera")
    assert "the gallery holds queries, and under the protocol 'no-camera' each would find itself" in message


def test_models_are_compared_with_the_first_on_the_same_queries(trained, market_folder, tmp_path, capsys):
    copy = shutil.copy(trained["path"], tmp_path / "copy.ckpt")
    found = told(capsys, "--models", trained["path"], copy, "generated-people-small", "--data", market_folder, "--protocol", "market")
    first, same, other = found["rows"]
    copied, differing = found["differences"]
    assert (copied["difference"], copied["difference_interval"]) == (0, [0, 0])
    assert (copied["than"], copied["model"]) == (first["model"], str(copy))
    assert copied["network"] == first["network"] == same["network"] != differing["network"]
    assert differing["difference"] == pytest.approx(other["mAP"] - first["mAP"])
    each = []
    for network in (load_network(trained["path"]), load_network()):
        data, embed = read_market_folder(market_folder), EmbeddingPass(quiet=True)
        sides = [embed.run(network, [one.path for one in side]).embeddings for side in (data.query, data.gallery)]
        labels = [torch.tensor([getattr(one, name) for one in side]) for name in ("pid", "camid") for side in (data.query, data.gallery)]
        each.append(retrieval_scores(*sides, *labels))
    expected = bootstrap_interval(each[1].average_precision - each[0].average_precision, each[0].query_pids)
    assert differing["difference_interval"] == pytest.approx(expected, abs=1e-6)
    assert expected[0] < differing["difference"] < expected[1]


def test_people_whom_a_checkpoint_was_trained_on_are_told_loudly(trained, market_folder, tmp_path, capsys):
    content = torch.load(trained["path"], weights_only=True)
    assert told(capsys, "--models", trained["path"], "--data", market_folder)["rows"][0]["trained_on_test_people"] == 0
    asked = sorted({record.pid for record in read_market_folder(market_folder).query})
    content["people"] = {"data": market_folder.name, "pids": [asked[0], 9999], "held_out": [asked[1]]}
    torch.save(content, tmp_path / "cheat.ckpt")
    found = told(capsys, "--models", tmp_path / "cheat.ckpt", "--data", market_folder)
    (warning,) = found["warnings"]
    assert f"selected, on 2 of the people of {market_folder} that it is tested on (the first has pid {asked[0]})" in warning
    assert found["rows"][0]["trained_on_test_people"] == 2
    assert main(["evaluate", "--models", str(tmp_path / "cheat.ckpt"), "--data", str(market_folder)]) == 0
    assert warning in " ".join(capsys.readouterr().err.split("\n"))
    content["people"]["data"] = "another set with the same numbers"
    torch.save(content, tmp_path / "stranger.ckpt")
    found = told(capsys, "--models", tmp_path / "stranger.ckpt", "--data", market_folder)
    assert (found["warnings"], found["rows"][0]["trained_on_test_people"]) == ([], None)
    assert any("was trained on another set with the same numbers: whether" in one for one in found["notes"])
    shipped = told(capsys, "--data", market_folder)
    assert not any("does not tell whom it was trained on" in one for one in shipped["notes"])
    assert shipped["rows"][0]["trained_on_test_people"] == 0


def test_the_table_is_written_and_nothing_is_overwritten(market_folder, tmp_path, capsys):
    found = told(capsys, "--data", market_folder, "--flip", "--out", tmp_path / "scores.csv")
    assert "mean with the mirror image" in found["rows"][0]["stamp"]
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, found["rows"], strict=True):
        assert [float(row[f"mAP_interval_{end}"]) for end in ("low", "high")] == expected["mAP_interval"]
        assert (float(row["mAP"]), row["protocol"], row["stamp"]) == (expected["mAP"], expected["protocol"], expected["stamp"])
    assert main(["evaluate", "--data", str(market_folder), "--flip", "--out", str(tmp_path / "scores.md")]) == 0
    shown, text = capsys.readouterr().out, (tmp_path / "scores.md").read_text(encoding="utf-8")
    for row in found["rows"]:
        assert f"| {row['protocol']} | {100 * row['mAP']:.1f} |" in text
        assert f"- {row['stamp']}" in text
        assert f"{100 * row['mAP']:.1f}" in shown
    content = (tmp_path / "scores.csv").read_bytes()
    assert "exists: give another OUT" in refused(capsys, "--data", market_folder, "--out", tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_bytes() == content
    assert "must end with .csv or .md" in refused(capsys, "--data", market_folder, "--out", tmp_path / "scores.txt")


def test_files_that_cannot_be_read_are_refused_or_left_out_and_counted(market_folder, tmp_path, capsys):
    folder = shutil.copytree(market_folder, tmp_path / "market")
    shutil.rmtree(folder / "bounding_box_train")  # nobody is trained
    query = sorted((folder / "query").iterdir())
    query[0].write_bytes(query[0].read_bytes()[:100])
    assert query[0].name in refused(capsys, "--data", folder)
    found = told(capsys, "--data", folder, "--unreadable", "skip")
    assert found["rows"][0]["queries"] == len(query) - 1
    assert f"{folder}: 1 of the queries and the gallery cannot be read and are left out" in found["notes"]


def test_what_cannot_be_scored_is_refused_before_anything_is_embedded(market_folder, tmp_path, capsys):
    assert "--data names" in refused(capsys, "--data", market_folder, market_folder)
    assert "neither an existing folder or table nor a known data set" in refused(capsys, "--data", "nowhere")
    assert "no weights at" in refused(capsys, "--data", market_folder, "--models", tmp_path / "none.ckpt")
    data = read_market_folder(market_folder)
    rows = [f"{one.path},{one.pid},1,{split}" for split, side in (("query", data.query), ("gallery", data.gallery)) for one in side]
    (tmp_path / "one.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
    of_one = ["--data", tmp_path / "one.csv", "--allow_paths_outside"]
    message = refused(capsys, *of_one, "--protocol", "market")
    assert "one.csv cannot be scored by --protocol market: not one of" in message
    assert [row["protocol"] for row in told(capsys, *of_one)["rows"]] == ["no-camera"]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--data", str(market_folder), "--protocol", "cuhk"])
    assert stopped.value.code == 2


def image(path: str, camid: int = 1, pid: int = 7) -> ImageRecord:
    return ImageRecord(path, pid, camid)


def walk(path: str, camid: int = 1, pid: int = 7) -> TrackletRecord:
    return TrackletRecord((path,), pid, camid)


@pytest.mark.parametrize(
    ("query", "gallery", "protocols"),
    [
        ([image("a")], [image("b", 2)], ("market", "no-camera")),
        ([image("a")], [image("b")], ("no-camera",)),
        ([image("a")], [image("a"), image("b", 2)], ("market",)),
        ([image("a"), image("b")], [image("a"), image("b")], ("leave-one-out",)),
        ([image("a")], [image("a"), image("b")], ()),
        ([walk("a")], [walk("b", 2)], ("mars-excluding-queries", "no-camera")),
        ([walk("a")], [walk("a"), walk("b", 2)], ("mars", "mars-excluding-queries")),
        ([walk("a")], [walk("a"), walk("b", 2), walk("c", 2, pid=0)], ("mars", "mars-excluding-queries", "mars-corrected")),
    ],
)
def test_protocols_fit_by_the_labels(query, gallery, protocols):
    assert fitting_protocols(query, gallery) == protocols


def test_generated_people_are_named_like_any_data(capsys):
    found = told(capsys, "--data", "generated-people,test_people=2")
    assert [row["queries"] for row in found["rows"]] == [8, 8]
    assert "people who never were" in found["notes"]


def test_no_trainer_is_imported_but_to_train_and_then_names_alone_are_known(market_folder):
    code = """
import json, sys
from lightning_reid.command_line.main import main
main(["train", "--help"])
assert "torch" not in sys.modules
main(["evaluate", "--data", sys.argv[1], "--json"])
print(json.dumps([one for one in ("pytorch_lightning", "lightning_fabric") if one in sys.modules]))
named = ["--model", "SupervisedReID", "--data", "ImageReIDDataModule", "--trainer.callbacks+=RankListLogger", "--trainer.callbacks.path=a"]
main(["train", "fit", *named, "--print_config"])
"""
    finished = subprocess.run([sys.executable, "-c", code, str(market_folder)], capture_output=True, text=True, check=True)
    lines = finished.stdout.splitlines()
    (scores,) = (number for number, line in enumerate(lines) if line.startswith('{"rows"'))
    assert len(json.loads(lines[scores])["rows"]) == 2
    assert json.loads(lines[scores + 1]) == []
    config = yaml.safe_load("\n".join(lines[scores + 2 :]))
    (callback,) = config["trainer"]["callbacks"]
    found = [one["class_path"] for one in (config["model"], config["data"], callback)]
    assert [one.split(".")[0] for one in found] == ["lightning_reid"] * 3
    assert [one.split(".")[-1] for one in found] == ["SupervisedReID", "ImageReIDDataModule", "RankListLogger"]
