"""The recipe of networks trained on nobody's pictures, run as a user runs it, and the model folder that it leaves."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from lightning_reid.networks import EmbeddingNetwork, build_backbone, load_embedding_network
from lightning_reid.networks.foreign import trained_image_size
from lightning_reid.networks.model_folder import round_weights
from lightning_reid.recipes import generated_people

PEOPLE = "generated-people,people=8,cameras=4,visits=2,shots=1,test_people=4"
TINY = [
    f"--data.dataset={PEOPLE}",
    "--data.image_size=[32,16]",
    "--data.p=4",
    "--data.num_workers=0",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--epochs=1",
    "--quiet",
    "--accelerator=cpu",
]


@pytest.fixture(scope="module")
def trained(market_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    rows = generated_people.main([*TINY, f"--output={output}", f"--scored_on=[{market_folder}]"])
    return output, rows


def test_it_is_scored_on_generated_people_and_on_the_named_data_sets(trained, market_folder):
    _, rows = trained
    assert [row.name for row in rows] == ["generated people", f"on {market_folder.name}"]
    assert [row.queries.people for row in rows] == [4, 6]


def test_the_model_folder_is_the_network_that_was_scored_and_its_card_says_what_of(trained):
    output, rows = trained
    network = load_embedding_network(output / "model")
    checkpoint = load_embedding_network(output / "generated-people" / "last.ckpt")
    images = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images).embedding, checkpoint(images).embedding)
    assert trained_image_size(output / "model") == (32, 16)
    config = json.loads((output / "model" / "config.json").read_text())
    assert (config["trained_on"], config["embedding"], config["first_weights"]) == (PEOPLE, 16, "random")
    card = (output / "model" / "README.md").read_text()
    for told in (f"`{PEOPLE}`", f"| {100 * rows[1].scores['mAP']:.1f} | ", "It must not", "No picture of a real person"):
        assert told in card


def test_a_resumed_run_that_was_finished_trains_nothing_and_writes_the_same(trained, market_folder):
    output, rows = trained
    before = {file.name: file.read_bytes() for file in (output / "model").iterdir()}
    again = generated_people.main([*TINY, f"--output={output}", f"--scored_on=[{market_folder}]", "--resume"])
    assert [row.scores for row in again] == [row.scores for row in rows]
    assert {file.name: file.read_bytes() for file in (output / "model").iterdir()} == before


@pytest.mark.parametrize("damage", ["{", "{}", "[]", "[" * 100_000])
def test_a_damaged_model_folder_is_named(trained, tmp_path, damage):
    folder = shutil.copytree(trained[0] / "model", tmp_path / "model")
    (folder / "config.json").write_text(damage)
    with pytest.raises(ValueError, match=r"config.json (is cut short|holds) .*: fetch it again"):
        load_embedding_network(folder)


def test_rounded_weights_take_half_the_room_and_come_back_as_the_network_that_was_scored(tmp_path):
    network = EmbeddingNetwork(build_backbone("resnet18", channels=[16, 16, 32, 32], layers=[1, 1, 1, 1]), pooling="gem").eval()
    images, weights = torch.rand(2, 3, 32, 16), network.backbone.trunk.conv1.weight.clone()
    network.save_pretrained(tmp_path / "whole", image_size=(32, 16))
    round_weights(network)
    assert 0 < (network.backbone.trunk.conv1.weight - weights).abs().max() < 1e-3
    network.save_pretrained(tmp_path / "half", image_size=(32, 16), half=True)
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert torch.equal(load_embedding_network(tmp_path / "half")(images).embedding, network(images).embedding)


def test_weights_that_half_precision_has_not_are_refused():
    network = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]))
    torch.nn.init.constant_(network.backbone.trunk.conv1.weight, 1e6)
    with pytest.raises(ValueError, match=r"backbone\.trunk\.conv1\.weight has a weight of 1e\+06, .* keep full precision"):
        round_weights(network)


def test_other_data_are_refused_with_the_recipe_for_them(tmp_path, capsys):
    with pytest.raises(SystemExit):
        generated_people.main(["--data.dataset=market1501", f"--output={tmp_path / 'new'}"])
    assert "must be generated-people, with options or without, got market1501: see supervised_market.py" in capsys.readouterr().err


@pytest.mark.parametrize(("backbone", "options"), [("resnet18", "small"), ("mobilenetv2_100", None)])
def test_the_widths_of_the_small_network_are_not_asked_of_another(backbone, options):
    cfg = generated_people.parse([f"--model.backbone={backbone}"])
    expected = generated_people.DEFAULTS["model.backbone_options"] if options else None
    assert (cfg.model.backbone, cfg.model.backbone_options) == (backbone, expected)
