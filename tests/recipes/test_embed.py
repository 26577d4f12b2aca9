from __future__ import annotations

import csv
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_reid import from_pretrained
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.recipes import embed
from lightning_reid.recipes.embed import build_parser, main

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """What a Trainer saves of an untrained network, without the seconds of a Trainer."""
    torch.manual_seed(0)
    network = EmbeddingNetwork(build_backbone(TINY["backbone"], **TINY["backbone_options"]))
    state = {f"network.{name}": value for name, value in network.state_dict().items()} | {"classifier.weight": torch.zeros(5, 16)}
    path = tmp_path_factory.mktemp("model") / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": TINY}, path)
    return path


@pytest.fixture
def crops(tmp_path) -> Path:
    """Four crops, of which 1.png and 3.png are the same picture."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for number, seed in enumerate((0, 1, 2, 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20, 40)).save(folder / f"{number}.png")
    return folder


def run(crops, checkpoint, output, *more: str):
    return main(["--crops", str(crops), "--checkpoint", str(checkpoint), "--output", str(output), "--image_size", "[32,16]", *more])


def answers(output: Path) -> list[dict[str, str]]:
    with (output / "neighbors.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_embedded_and_searched_for_a_query_in_it(crops, checkpoint, tmp_path, capsys):
    run(crops, checkpoint, tmp_path / "out", "--query", str(crops / "3.png"))
    with np.load(tmp_path / "out" / "embeddings.npz", allow_pickle=False) as file:
        assert file["paths"].tolist() == [str(crops / f"{number}.png") for number in range(4)]
        assert file["embeddings"].shape == (4, 16)
        np.testing.assert_allclose(np.linalg.norm(file["embeddings"], axis=1), 1, atol=1e-5)
        expected = file["embeddings"] @ file["embeddings"][3]
    rows = answers(tmp_path / "out")
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["path"] == str(crops / "1.png")
    for row in rows:
        assert float(row["cosine_similarity"]) == pytest.approx(expected[int(Path(row["path"]).stem)], abs=1e-4)
    with Image.open(tmp_path / "out" / "rank_list.png") as picture:
        assert picture.width > 4 * 96
    printed = capsys.readouterr()
    for text in ("4 embeddings of 16 numbers", "resized to 32x16", "most similar to"):
        assert text in printed.out
    assert "4/4 images" in printed.err


def test_a_query_from_elsewhere_is_searched_but_not_stored(crops, checkpoint, tmp_path):
    query = (crops / "3.png").rename(tmp_path / "query.png")
    images = run(crops, checkpoint, tmp_path / "out", "--query", str(query), "--top", "2", "--quiet")
    assert images.paths == tuple(str(crops / f"{number}.png") for number in range(3))
    assert answers(tmp_path / "out")[0]["path"] == str(crops / "1.png")
    assert len(answers(tmp_path / "out")) == 2


def test_without_a_query_only_embeddings_are_left(crops, checkpoint, tmp_path):
    run(crops, checkpoint, tmp_path / "out", "--quiet")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.yaml", "embeddings.npz"]


def test_the_written_config_repeats_the_run(crops, checkpoint, tmp_path):
    first = run(crops, checkpoint, tmp_path / "out", "--quiet", "--batch_size", "3")
    again = main(["--config", str(tmp_path / "out" / "config.yaml"), "--output", str(tmp_path / "again")])
    assert again.paths == first.paths
    assert torch.equal(again.embeddings, first.embeddings)


def test_an_output_among_the_crops_can_be_run_twice(crops, checkpoint):
    for _ in range(2):
        images = run(crops, checkpoint, crops / "out", "--quiet", "--query", str(crops / "0.png"))
    assert len(images.paths) == 4


def test_a_list_of_files_is_embedded_in_its_order(crops, checkpoint, tmp_path):
    images = run(crops / "2.png", checkpoint, tmp_path / "out", "--quiet", "--crops", str(crops / "2.png"), str(crops / "0.png"))
    assert images.paths == (str(crops / "2.png"), str(crops / "0.png"))


@pytest.mark.parametrize("name", ["[cam1]", "null", "#1", "{a: b}", "no", "1.50"])
def test_a_folder_may_be_called_as_yaml_writes_something_else(crops, checkpoint, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    crops.rename(tmp_path / name)
    images = run(name, checkpoint, "out", "--quiet", "--query", f"{name}/3.png")
    assert images.paths == tuple(f"{name}/{number}.png" for number in range(4))
    again = main(["--config", "out/config.yaml", "--output", "again", "--quiet"])
    assert torch.equal(images.embeddings, again.embeddings)


@pytest.mark.parametrize("size", ["32x16", "[32,16]", "[32, 16]", "32 x 16"])
def test_an_image_size_is_taken_as_people_write_it(size):
    assert build_parser().parse_args(["--image_size", size]).image_size == (32, 16)


@pytest.mark.parametrize(
    "size",
    ["32", "32x", "0x16", "3x-4", "32x16x3", "x", "a x b", "1.5x2", "1e3x2", "", "1x1", "999999x99999", "9999999999x2", "\u0661\u0666x16"],
)
def test_a_size_that_is_none_is_named(size, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--image_size", size])
    told = capsys.readouterr().err
    assert f"expected HEIGHTxWIDTH in pixels, as in 256x128, got {size}: " in told
    assert "image_size must be height and width from 1 to 4,096 pixels, not both 1" in told


def test_a_lightning_checkpoint_of_a_fit_is_taken_with_its_image_size(market_folder, tmp_path, capsys):
    import pytorch_lightning as pl

    from lightning_reid.datamodules import ImageReIDDataModule
    from lightning_reid.modules import SupervisedReID

    model = SupervisedReID(**TINY)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, **quiet)
    trainer.fit(model, ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=4, k=2, num_workers=0))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    query = sorted((market_folder / "query").glob("*.jpg"))[0]
    given = {"--crops": market_folder / "bounding_box_test", "--checkpoint": tmp_path / "last.ckpt", "--query": query}
    images = main([*(str(part) for pair in given.items() for part in pair), "--output", str(tmp_path / "out"), "--quiet"])
    assert "resized to 64x32" in capsys.readouterr().out
    assert len(images.paths) == len(list((market_folder / "bounding_box_test").glob("*.jpg")))
    assert len(answers(tmp_path / "out")) == 10


def test_a_torchreid_resnet50_is_taken(crops, tmp_path):
    from torchvision.models import resnet50

    torch.manual_seed(0)
    state = {name: value for name, value in resnet50().state_dict().items() if not name.startswith("fc.")}
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 60}, tmp_path / "model.pth.tar-60")
    assert run(crops, tmp_path / "model.pth.tar-60", tmp_path / "out", "--quiet").embeddings.shape == (4, 2048)


def test_a_checkpoint_of_another_architecture_is_refused_by_its_name(crops, tmp_path):
    torch.save({"state_dict": {"conv2.0.conv2a.conv1.weight": torch.zeros(1)}}, tmp_path / "osnet.pth")
    with pytest.raises(ValueError, match=r"osnet\.pth is no checkpoint of lightning-reid .*OSNet \(torchreid\)"):
        run(crops, tmp_path / "osnet.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("argv", [[], ["--checkpoint", "some.ckpt"]])
def test_what_is_to_be_given_is_said(argv, capsys):
    with pytest.raises(SystemExit):
        main(argv)
    assert "give --crops (a folder of person crops, or image files)" in capsys.readouterr().err


def test_where_no_network_is_named_the_shipped_one_is_taken_at_its_own_size_and_this_is_said(crops, tmp_path, capsys):
    images = main(["--crops", str(crops), "--output", str(tmp_path / "out"), "--quiet"])
    told, network = capsys.readouterr().out, from_pretrained()
    assert images.embeddings.shape == (4, network.num_features)
    assert "by generated-people-small, trained on generated people alone; what it is good for, and what not: " in told
    assert f"images resized to {network.image_size[0]}x{network.image_size[1]}" in told
    assert Path(told.split("what not: ")[1].splitlines()[0]).is_file()


def test_a_query_that_is_not_there_is_named(crops, checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(crops, checkpoint, tmp_path / "out", "--query", str(crops / "9.png"))
    assert "--query must be one image file, there is none at" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_found_before_the_pass(crops, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "out").touch()  # a file where the folder should be: refused for root, too
    monkeypatch.setattr("lightning_reid.inference.embedding.EmbeddingPass.run", lambda *_: pytest.fail("the pass was begun"))
    with pytest.raises(OSError, match=r"cannot write .*Choose another folder \(--output\)"):
        run(crops, checkpoint, tmp_path / "out")


def test_an_unreadable_image_is_named_or_skipped(crops, checkpoint, tmp_path):
    (crops / "1.png").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"1\.png is no readable image: zero bytes .*unreadable='skip'"):
        run(crops, checkpoint, tmp_path / "out", "--quiet")
    assert len(run(crops, checkpoint, tmp_path / "out", "--quiet", "--unreadable", "skip").paths) == 3


def test_as_a_script_it_says_in_a_sentence_which_image_is_unreadable(crops, checkpoint, tmp_path, monkeypatch):
    (crops / "1.png").write_bytes(b"")
    monkeypatch.setattr(
        sys, "argv", ["embed.py", f"--crops={crops}", f"--checkpoint={checkpoint}", f"--output={tmp_path / 'out'}", "--quiet"]
    )
    with pytest.raises(SystemExit, match=r"^embed\.py: .*1\.png is no readable image: zero bytes .*--unreadable skip"):
        runpy.run_path(str(Path(embed.__file__)), run_name="__main__")


@pytest.mark.skipif("REID_TEST_DATA" not in os.environ, reason="REID_TEST_DATA names no folder with real crops")
def test_real_crops_are_embedded_and_searched(checkpoint, tmp_path):
    folder = Path(os.environ["REID_TEST_DATA"]) / "pets-reid"
    query = sorted((folder / "query").glob("*.jpg"))[0]
    images = run(folder / "bounding_box_test", checkpoint, tmp_path / "out", "--query", str(query), "--quiet")
    assert len(images.paths) == len(list((folder / "bounding_box_test").glob("*.jpg")))
    assert len(answers(tmp_path / "out")) == 10
