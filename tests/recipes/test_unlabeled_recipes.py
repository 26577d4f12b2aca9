"""Adapting to images without labels: what is left, what is scored, and from what it starts."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from lightning_reid.networks import load_embedding_network
from lightning_reid.recipes import buc_market, hsr_duke2market
from lightning_reid.recipes.workshop.curves import NOT_SCORED

QUICK = ["--start_from=generated-people-small", "--data.image_size=[64,32]", "--data.num_workers=0", "--quiet", "--accelerator=cpu"]


@pytest.fixture(scope="module")
def unknown(market_folder, tmp_path_factory) -> Path:
    """Images of people who train, copied under other names, in a folder alone."""
    root = tmp_path_factory.mktemp("unknown")
    for number, image in enumerate(sorted((Path(market_folder) / "bounding_box_train").iterdir())[:24]):
        shutil.copy(image, root / f"{number}.jpg")
    return root


def table_beside(unknown: Path, cameras: int) -> Path:
    """A table that tells camera and no person."""
    path = unknown / f"{cameras}-cameras.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "camid"), *((f"{number}.jpg", number % cameras + 1) for number in range(24))])
    return path


def test_buc_on_a_folder_of_images_alone_leaves_clusters_curves_and_a_network_and_no_score(
    unknown, tmp_path, capsys, without_pictures_and_exports
):
    steps = ["--clustering.initial_epochs=1", "--steps=1", "--data.batch_size=12"]
    with without_pictures_and_exports():
        assert buc_market.main([f"--data.dataset={unknown}", f"--output={tmp_path}", *QUICK, *steps]) == []
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["rows"], results["protocol"]) == ({}, NOT_SCORED)
    assert not (tmp_path / "table.md").exists()
    assert all((tmp_path / name).exists() for name in ("curves.png", "BUC/clusters.png"))
    printed = capsys.readouterr().out
    assert f"{NOT_SCORED}; name some that have, --scored_on" in printed
    assert f"the adapted network is {tmp_path / 'BUC' / 'last.ckpt'}" in printed
    start, adapted = load_embedding_network("generated-people-small"), load_embedding_network(tmp_path / "BUC" / "last.ckpt")
    names = start.state_dict().keys()
    assert names == adapted.state_dict().keys()
    assert any(not torch.equal(start.state_dict()[name], adapted.state_dict()[name]) for name in names)


@pytest.mark.parametrize(("cameras", "rows"), [(1, ["DBSCAN baseline", "baseline + PBH"]), (2, ["DBSCAN baseline", "HSR"])])
def test_hsr_from_a_given_network_is_scored_on_other_data_beside_it(
    cameras, rows, unknown, market_folder, tmp_path, capsys, without_pictures_and_exports
):
    told = [f"--target={table_beside(unknown, cameras)}", f"--scored_on={market_folder}", f"--output={tmp_path}", "--epochs=1"]
    quick = [*QUICK, "--data.p=2", "--data.k=2", "--clustering.k1=5", "--clustering.k2=2", "--clustering.min_samples=2"]
    with without_pictures_and_exports():
        found = hsr_duke2market.main([*told, *quick])
    assert [row.name for row in found] == ["start network", *rows]
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["rows"]) == ["start network", *rows]
    assert results["stamp"]["dataset"] == Path(market_folder).name
    said = "inter-camera mining is left out, and with it HSR: all images of"
    assert (said in capsys.readouterr().out) == (cameras == 1)


def test_the_architecture_and_the_image_size_are_those_of_the_network_that_is_given(unknown):
    cfg = hsr_duke2market.parse([f"--target={unknown}", "--start_from=generated-people-small"])
    assert (cfg.model.backbone, cfg.model.pooling, tuple(cfg.data.image_size)) == ("resnet18", "gem", (128, 64))
    assert cfg.model.backbone_options == {"channels": [24, 48, 96, 192], "layers": [2, 2, 2, 1]}
    assert (cfg.epochs, cfg.clustering.every_n_epochs) == (6, 3)
    assert tuple(hsr_duke2market.parse([f"--target={unknown}", *QUICK]).data.image_size) == (64, 32)
    assert hsr_duke2market.parse([f"--target={unknown}"]).model.backbone == "resnet50"


@pytest.mark.parametrize("beside", ["--source=duke-like", "--data.source=duke-like", "--reverse", "--model.backbone=resnet34"])
def test_what_the_given_network_says_cannot_be_said_otherwise(beside, unknown, capsys):
    with pytest.raises(SystemExit):
        hsr_duke2market.parse([f"--target={unknown}", "--start_from=generated-people-small", beside])
    assert f"{beside.partition('=')[0]} cannot be given beside --start_from generated-people-small" in capsys.readouterr().err


def test_a_network_that_is_not_there_or_that_no_module_is_built_like_is_refused(unknown, tmp_path, capsys):
    torch.save({"conv1.weight": torch.zeros(1), "layer4.0.conv1.weight": torch.zeros(1)}, tmp_path / "theirs.pth")
    state = {f"network.{name}": tensor for name, tensor in load_embedding_network("generated-people-small").state_dict().items()}
    del state["network.neck.running_mean"]
    built = {"backbone": "resnet18", "backbone_options": {"channels": [24, 48, 96, 192], "layers": [2, 2, 2, 1]}, "pooling": "gem"}
    torch.save({"state_dict": state, "hyper_parameters": built}, tmp_path / "lacking.ckpt")
    refused = {"theirs.pth": "theirs.pth is a network of torchreid, from which training does not start", "nosuch": "nosuch"}
    refused |= {"lacking.ckpt": "neck.running_mean"}
    for name, told in refused.items():
        with pytest.raises(SystemExit):
            hsr_duke2market.parse([f"--target={unknown}", f"--start_from={tmp_path / name}"])
        said = capsys.readouterr().err
        assert "--start_from: " in said
        assert told in said


def test_data_without_labels_to_score_on_are_refused_before_training(unknown, tmp_path):
    scored = unknown / "scored.csv"
    scored.write_text("path,pid,camid,split\n" + "".join(f"{number}.jpg,-1,1,train\n" for number in range(24)))
    told = [f"--target={table_beside(unknown, 2)}", f"--scored_on={scored}", f"--output={tmp_path / 'out'}", *QUICK]
    with pytest.raises(ValueError, match=r"no row of split 'query', .* Its 24 training rows have no labels"):
        hsr_duke2market.main(told)
    assert not (tmp_path / "out" / "start-network").exists()
