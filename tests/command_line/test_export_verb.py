"""``lightning-reid export``: from a checkpoint to a file for another runtime, told in numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from lightning_reid.command_line.main import main
from lightning_reid.datamodules.transforms import resized
from lightning_reid.inference import crop_embedder, load_network, model_name
from lightning_reid.inference.exported_files import opened
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.modules.video import load_video_network
from lightning_reid.networks import ChannelPlan, ModelFacts
from lightning_reid.networks.network_name import network_name
from lightning_reid.recipes.workshop.report import Queries, ResultRow, write_report

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
HALVED = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1], "stripes": 4, "temporal_reduction": (3,)}


def saved(path: Path, module: pl.LightningModule, **more: object) -> Path:
    """A checkpoint as Lightning writes it, with what a datamodule adds."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    module.trainer = trainer
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    torch.save({**torch.load(path, weights_only=True), **more}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW)
    return saved(tmp_path_factory.mktemp("images") / "last.ckpt", model, image_size=[64, 32])


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def told(capsys, *argv: object) -> dict:
    assert main(["export", *map(str, argv), "--timed_batch", "2", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    assert main(["export", *map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_checkpoint_becomes_an_onnx_file_of_the_same_model(checkpoint, crops, tmp_path, capsys):
    found = told(capsys, checkpoint, tmp_path / "people.onnx", "--crops", crops)
    network, file = load_network(checkpoint), load_network(tmp_path / "people.onnx")
    assert model_name(file) == model_name(network)
    assert found["model"] == f"{model_name(network)} at 64x32"
    assert (found["takes"], found["gives"]) == ("uint8 [batch, 3, 64, 32]", "float32 [batch, 16]")
    assert found["compared"]["largest difference"] <= 1e-4
    assert (found["compared"]["crops"], found["compared"]["batches"], found["notes"]) == (3, [1, 2, 5], [])
    assert all(found["milliseconds"][size][who] > 0 for size in ("1", "2") for who in ("PyTorch", "onnx"))
    assert found["bytes"] == (tmp_path / "people.onnx").stat().st_size
    images = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in sorted(crops.iterdir())]
    torch.testing.assert_close(file.embed_crops(images), crop_embedder(network)(images), rtol=0, atol=1e-4)


def test_a_network_that_comes_with_the_library_is_exported_with_its_card_on_people_who_were_drawn(tmp_path, capsys):
    assert main(["export", "generated-people-small", str(tmp_path / "people.pt2"), "--image_size", "32x16", "--timed_batch", "1"]) == 0
    out = capsys.readouterr().out
    assert "in batches of 1, 2, 5, 16, on 16 crops of generated people" in out
    assert "notes: it was trained on images of 128x64: at 32x16 it finds people less well" in out
    torch.export.load(tmp_path / "people.pt2", extra_files=(words := {"lightning_reid.json": ""}))
    assert json.loads(words["lightning_reid.json"])["card"] == "README.md of generated-people-small"


def test_a_video_network_takes_clips_of_as_many_frames_as_it_was_trained_on_made_of_crops(crops, tmp_path, capsys):
    told_by_data = {"image_size": [64, 32], "clip_length": 4}
    model = VideoReID("baseline", {"backbone": "resnet18", **NARROW}, num_classes=3)
    of_clips = saved(tmp_path / "last.ckpt", model, **told_by_data)
    found = told(capsys, of_clips, tmp_path / "clips.pt2", "--crops", crops)
    network = load_video_network(of_clips)
    assert found["model"] == f"{network_name(network)} at 64x32"
    assert (found["takes"], found["notes"]) == ("uint8 [batch, 4, 3, 64, 32]", [])
    clips = torch.stack([resized(torch.full((3, 9, 5), value, dtype=torch.uint8), 64, 32) for value in range(8)]).unflatten(0, (2, 4))
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(network(clips).embedding, dim=1)
    given = torch.from_numpy(opened(tmp_path / "clips.pt2", "torch-export")(clips.numpy()))
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-4)


def test_a_video_network_says_which_clips_it_cannot_take(tmp_path, crops, capsys):
    checkpoint = saved(tmp_path / "last.ckpt", VideoReID("stenvan", HALVED, num_classes=3), image_size=[64, 32])
    message = refused(capsys, checkpoint, tmp_path / "clips.pt2", "--frames", 3, "--crops", crops)
    assert "the network does not take pixels [5, 3, 3, 64, 32]: clips of 3 frames cannot be halved" in message
    assert not (tmp_path / "clips.pt2").exists()


def test_a_pruned_network_is_exported_as_small_as_it_is(tmp_path, capsys):
    model = SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW)
    model.materialize(ChannelPlan((1, 3, 64, 32), {"backbone.trunk.layer1.0.conv1": torch.arange(8) < 5}))
    told(capsys, saved(tmp_path / "small.ckpt", model, image_size=[64, 32]), tmp_path / "small.pt2")
    weights = torch.export.load(tmp_path / "small.pt2").state_dict
    assert [len(tensor) for name, tensor in weights.items() if name.endswith("layer1.0.conv1.weight")] == [5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["people.trt"], "ends with no suffix of a format"),
        (["people.pt2", "--frames", "4"], "is of a network of images: leave --frames out"),
        (["people.pt2", "--crops", "nowhere"], "there is no file or folder nowhere"),
        (["people.pt2", "--crops", "."], "holds no images at any depth"),
        (["people.pt2", "--crops", "broken.png"], "broken.png"),
        (["there.pt2"], "there.pt2 exists: give another OUT"),
    ],
    ids=["suffix", "frames", "no folder", "no images", "broken", "exists"],
)
def test_what_cannot_be_exported_is_refused_by_name_and_leaves_nothing(options, message, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.pt2").touch()
    if "broken.png" in options:
        Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    assert message in refused(capsys, checkpoint, *options)
    assert not Path("people.pt2").exists()


def test_a_file_that_is_exported_already_is_refused(tmp_path, capsys):
    assert "people.onnx is an exported network already" in refused(capsys, "people.onnx", tmp_path / "people.pt2")


def test_embeddings_that_differ_are_told_in_a_sentence(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lightning_reid.inference.network_export.opened", lambda *_, **__: lambda pixels: np.zeros((len(pixels), 16)))
    message = refused(capsys, checkpoint, tmp_path / "people.pt2")
    assert "people.pt2 is not written: embeddings of the exported network differ from PyTorch's by up to" in message
    assert list(tmp_path.iterdir()) == []


# --- a model folder


@pytest.fixture
def finished(checkpoint, tmp_path) -> Path:
    """A checkpoint where a recipe leaves it, and what lies around it."""
    stage = tmp_path / "run" / "supervised"
    stage.mkdir(parents=True)
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "people": {"data": "market-like", "pids": [1, 2, 3], "held_out": []}}, stage / "last.ckpt")
    told = {"stage": "supervised", "epochs": 10, "model.pretrained": False, "market-like, train": "12 records, sha256 0"}
    (stage / "stage.json").write_text(json.dumps(told))
    row = ResultRow("supervised", {"mAP": 0.5, "R1": 0.75, "R5": 0.8, "R10": 0.9, "mINP": 0.3}, (0.4, 0.6), Queries(20, 1, 6))
    stamp = ProtocolStamp("market-like", num_query=20, num_gallery=80, num_query_ids=6, seed=0)
    write_report(tmp_path / "run", [row], stamp, title="supervised", seconds=1.0)
    return stage / "last.ckpt"


def test_a_checkpoint_becomes_a_model_folder_whose_card_tells_what_its_run_left(finished, tmp_path, capsys):
    options = ["--license", "apache-2.0", "--intended_use", "Tests."]
    assert main(["export", str(finished), f"{tmp_path}/model/", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    network, folder = load_network(finished), load_network(tmp_path / "model")
    assert found["model"] == f"{model_name(network)} at 64x32"
    assert model_name(folder) == model_name(network)
    assert folder.image_size == (64, 32)
    assert [Path(file).name for file in found["out"]] == ["README.md", "config.json", "model.safetensors"]
    assert found["scores"] == {"market-like": {"mAP": 0.5, "R1": 0.75, "R5": 0.8, "R10": 0.9, "mINP": 0.3}}
    assert list(found["unknown"]) == ["what its cosines mean"]
    assert "lightning-reid calibrate" in found["unknown"]["what its cosines mean"]
    card = (tmp_path / "model" / "README.md").read_text()
    for words in (
        "# model\n",
        "license: apache-2.0",
        "`market-like`. 10 passes over it.",
        "Its first weights: random.",
        "| market-like | 50.0 | 75.0 | 80.0 | 90.0 | 30.0 | 40.0 to 60.0 |",
        "- market-like: 20 queries of 6 ids, 80 gallery images; protocol market",
        "1 of 20 queries have no match in another camera and are not scored.",
        "    epochs: 10\n",
        "## Intended use\n\nTests.",
    ):
        assert words in card, words


def test_first_weights_of_a_file_are_told_to_people_as_code_and_to_programs_plainly(finished, tmp_path):
    stage = finished.parent / "stage.json"
    stage.write_text(json.dumps(json.loads(stage.read_text()) | {"start_from": "first/last.ckpt", "epochs": True}))
    assert main(["export", str(finished), f"{tmp_path}/model/"]) == 0
    assert "Its first weights: those of `first/last.ckpt`." in (tmp_path / "model" / "README.md").read_text()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["first_weights"] == "those of first/last.ckpt"
    assert "epochs" not in config


def test_a_checkpoint_alone_becomes_a_folder_too_whose_card_knows_little(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(checkpoint), "model/"]) == 0
    out = capsys.readouterr().out
    for words in (
        "its card does not know the license of its weights: give --license",
        "its card does not know what it is meant for: give --intended_use",
        "its card does not know what its cosines mean: lightning-reid calibrate",
        "not know what it scores, what it was trained on, where its first weights came from, how often it saw its data, how it was made: ",
    ):
        assert words in out, words
    fields = [field.name for field in dataclasses.fields(ModelFacts) if "_" in field.name and field.name != "intended_use"]
    assert [name for name in fields if name in out] == []
    assert "It was not scored, or nobody told" in Path("model/README.md").read_text()
    assert main(["export", str(checkpoint), "model"]) == 0, "a folder that is there is one without a slash"


def test_a_network_of_clips_becomes_a_model_folder(tmp_path, capsys):
    checkpoint = saved(tmp_path / "last.ckpt", VideoReID("stenvan", HALVED, num_classes=3), image_size=[64, 32], clip_length=4)
    assert main(["export", str(checkpoint), f"{tmp_path}/clips/"]) == 0
    network = load_video_network(tmp_path / "clips")
    assert (network.clip_length, network_name(network)) == (4, network_name(load_video_network(checkpoint)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"results.json": "{"}, r"results.json is cut short"),
        ({"results.json": '{"rows": {"supervised": {}}, "stamp": {"dataset": 3}}'}, "results.json holds no stamp of a protocol"),
        ({"supervised/stage.json": "[]"}, "stage.json holds [], expected a JSON object"),
        ({"supervised/last.calibration.json": "{}"}, "last.calibration.json holds no 'lightning-reid'"),
    ],
    ids=str,
)
def test_what_lies_beside_a_checkpoint_and_is_damaged_is_named(damage, message, finished, tmp_path, capsys):
    for name, text in damage.items():
        (tmp_path / "run" / name).write_text(text)
    assert message in refused(capsys, finished, f"{tmp_path}/model/")
    assert not (tmp_path / "model").exists()


def test_what_belongs_to_other_formats_is_refused_for_a_folder(checkpoint, tmp_path, capsys):
    assert "--crops is of exported files, and" in refused(capsys, checkpoint, f"{tmp_path}/model/", "--crops", tmp_path)
    assert "people has no suffix: give people/ for a model folder, or a file with one of .onnx" in refused(capsys, checkpoint, "people")
    assert "is a model folder already: copy it, card and all" in refused(capsys, "generated-people-small", f"{tmp_path}/model/")
