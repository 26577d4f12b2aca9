"""The recipes of pruning, run as a user runs them, on small generated tracklets and crops."""

from __future__ import annotations

import json

import onnxruntime
import pytest
import torch

from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.networks import count_multiply_adds
from lightning_reid.networks.channels.residual_blocks import ZeroPaddedShortcut
from lightning_reid.recipes import prune_caie, prune_cpo

TINY = [
    "--data.image_size=[64,32]",
    "--data.p=4",
    "--data.num_workers=0",
    "--caie.filters_per_step=16",
    "--caie.batches_per_step=1",
    "--epochs=1",
    "--tuning_epochs=1",
    "--quiet",
]
STENVAN = '{"backbone":"resnet18","channels":[8,8,16,16],"layers":[1,2,2,1],"stripes":4}'


def test_a_striped_video_network_is_trained_pruned_fine_tuned_and_exported_by_one_command(tmp_path, capsys, without_pictures_and_exports):
    folder, output = tmp_path / "tracklets", tmp_path / "out"
    people = GeneratedTracklets(num_train_pids=6, num_test_pids=4, num_distractors=2, frames=(4, 6), height=64, width=32)
    people.write(folder, progress=False)
    arguments = [f"--data.dataset={folder}", f"--output={output}", "--data.clip_length=4", "--data.k=2", *TINY]
    module = prune_caie
    rows = module.main([*arguments, f"--model.network_options={STENVAN}"])
    assert [row.name for row in rows] == ["trained", "pruned", "fine-tuned"]
    table = json.loads((output / "results.json").read_text())["rows"]
    full, small = table["trained"]["costs"], table["fine-tuned"]["costs"]
    assert small["G multiply-adds"] <= 0.75 * full["G multiply-adds"]
    assert small["M parameters"] < full["M parameters"]
    printed = capsys.readouterr().out
    assert "within" in printed
    assert "channels made by" in printed
    steps = json.loads((output / "steps.json").read_text())["steps"]
    assert steps[-1]["flops"] <= 0.75
    assert all(step["impact"] >= 0 for step in steps)
    session = onnxruntime.InferenceSession(str(output / "network.onnx"), providers=["CPUExecutionProvider"])
    clips = torch.randn(3, 4, 3, 64, 32)
    model = VideoReID.load_from_checkpoint(output / "fine-tuned" / "last.ckpt", map_location="cpu", weights_only=True).eval()
    assert count_multiply_adds(model.network, (1, 4, 3, 64, 32)).total / 1e9 == pytest.approx(small["G multiply-adds"])
    with torch.no_grad():
        expected = model(clips)
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"input": clips.numpy()})[0]), expected, rtol=0, atol=1e-4)
    with without_pictures_and_exports():
        again = module.main([*arguments, f"--model.network_options={STENVAN}", "--resume"])
    assert [row.scores for row in again] == [row.scores for row in rows]


def test_a_trained_image_network_is_pruned_without_being_trained_again(market_folder, tmp_path, without_pictures_and_exports):
    network = ["--model.backbone=resnet18", '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}']
    arguments = ["--images", f"--data.dataset={market_folder}", "--data.k=2", *network, *TINY]
    checkpoint = tmp_path / "first" / "trained" / "last.ckpt"
    constraints = '--caie.constraints={"peak_memory":0.8,"params":0.7}'
    with without_pictures_and_exports():
        prune_caie.main([*arguments, f"--output={tmp_path / 'first'}"])
        rows = prune_caie.main([*arguments, f"--output={tmp_path / 'second'}", f"--checkpoint={checkpoint}", constraints])
    assert [row.name for row in rows] == ["pruned", "fine-tuned"]
    assert not (tmp_path / "second" / "trained").exists()


def test_without_data_it_is_a_small_run_and_with_data_the_texts(capsys):
    cfg = prune_caie.parse([])
    assert "generating a small one" in capsys.readouterr().out
    assert (cfg.data.dataset, cfg.network, cfg.caie.constraints) == ("mars-like", "stenvan", {"flops": 0.75})
    cfg = prune_caie.parse(["--images", "--data.root=/data/reid"])
    assert capsys.readouterr().out == ""
    assert (cfg.model.backbone, cfg.caie.filters_per_step, cfg.caie.batches_per_step) == ("resnet50", 25, 30)


@pytest.mark.parametrize("given", ["flags", "a config file", "a config file and a file of its own for the data"])
def test_images_are_asked_for_by_flags_and_by_config_files_alike(given, tmp_path):
    (tmp_path / "data.yaml").write_text("dataset: mine\ncrop_padding: 3\n")
    model, own = "model:\n  backbone: resnet18\n  backbone_options: {layers: [1, 1, 1, 1]}\n", "data:\n  dataset: mine\n  crop_padding: 3\n"
    config = tmp_path / "run.yaml"
    config.write_text(f"images: true\n{model}{own if given == 'a config file' else ''}")
    flags = {
        "flags": ["--images", "--data.dataset=mine", "--data.crop_padding=3", "--model.backbone=resnet18"],
        "a config file": [f"--config={config}"],
        "a config file and a file of its own for the data": [f"--config={config}", f"--data={tmp_path / 'data.yaml'}"],
    }[given]
    options = ['--model.backbone_options={"layers":[1,1,1,1]}'] if given == "flags" else []
    cfg = prune_caie.parse([*flags, *options])
    assert cfg.images
    assert (cfg.data.dataset, cfg.data.crop_padding, cfg.model.backbone) == ("mine", 3, "resnet18")
    assert cfg.model.backbone_options == {"layers": [1, 1, 1, 1]}


def test_a_config_without_images_is_of_clips_and_what_either_does_not_know_is_refused(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text("images: false\ndata:\n  dataset: mine\n  clip_length: 3\n")
    assert prune_caie.parse([f"--config={config}"]).data.clip_length == 3
    assert prune_caie.parse(["--images", f"--config={config}"]).images is False  # the later one counts, as always
    with pytest.raises(SystemExit):
        prune_caie.parse([f"--config={config}", "--images"])
    assert "clip_length" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "named"), [(["--images"], "--data.crop_padding"), ([], "--data.clip_length")])
def test_help_names_the_options_of_what_is_asked_for(flags, named, capsys):
    with pytest.raises(SystemExit):
        prune_caie.parse([*flags, "--help"])
    assert named in capsys.readouterr().out


def test_an_image_network_is_pruned_layer_by_layer_up_to_an_expected_drop(market_folder, tmp_path, capsys):
    module = prune_cpo
    network = ["--model.backbone=resnet18", '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}']
    sizes = ["--data.image_size=[64,32]", "--data.p=4", "--data.k=2", "--data.num_workers=0", "--epochs=1", "--tuning_epochs=1", "--quiet"]
    layers = [f"backbone.trunk.layer{stage}.0.{layer}" for stage in (2, 3, 4) for layer in ("conv1", "downsample.0")][:-1]
    search = ["--cpo.expected_drop=0.2", "--cpo.retrain_epochs=1", f"--cpo.ignored={json.dumps(layers)}"]
    rows = module.main([f"--data.dataset={market_folder}", f"--output={tmp_path}", *network, *sizes, *search])
    assert [row.name for row in rows] == ["trained", "pruned", "retrained"]
    assert rows[1].costs["M parameters"] == rows[2].costs["M parameters"] < rows[0].costs["M parameters"]
    printed = capsys.readouterr().out
    assert "probe" in printed
    assert "keep" in printed
    assert (tmp_path / "network.onnx").is_file()


@pytest.mark.slow
def test_a_network_with_padded_shortcuts_is_retrained_and_exported_like_any_other(market_folder, tmp_path):
    network = ["--model.backbone=resnet18", '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,2,1,1]}']
    sizes = ["--data.image_size=[64,32]", "--data.p=4", "--data.k=2", "--data.num_workers=0", "--epochs=1", "--tuning_epochs=1", "--quiet"]
    search = ["--cpo.expected_drop=1.0", "--cpo.retrain_epochs=1", "--cpo.search=uniform", "--cpo.residual_blocks=zero-padded"]
    rows = prune_cpo.main([f"--data.dataset={market_folder}", f"--output={tmp_path}", *network, *sizes, *search])
    assert rows[1].costs["M parameters"] == rows[2].costs["M parameters"] < rows[0].costs["M parameters"]
    model = SupervisedReID.load_from_checkpoint(tmp_path / "retrained" / "last.ckpt", map_location="cpu", weights_only=True).eval()
    assert isinstance(model.network.get_submodule("backbone.trunk.layer2.1.downsample"), ZeroPaddedShortcut)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"input": images.numpy()})[0]), expected, rtol=0, atol=1e-4)
