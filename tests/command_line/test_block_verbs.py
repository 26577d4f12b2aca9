"""``pack``, ``health``, ``unpack``: a data set to blocks and back, and what is said of those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_reid.command_line.main import main


def told(capsys, *argv: object) -> dict:
    capsys.readouterr()
    main([*map(str, argv), "--json"])
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    capsys.readouterr()
    assert main([*map(str, argv)]) == 1
    return capsys.readouterr().err


def test_a_data_set_is_packed_looked_at_and_unpacked(market_folder, tmp_path, capsys):
    packed = told(capsys, "pack", market_folder, tmp_path / "blocks", "--block_mb", 0.05)
    assert packed["written"] == packed["blocks"] > 1
    assert packed["kind"] == "images"
    again = told(capsys, "pack", market_folder, tmp_path / "blocks", "--block_mb", 0.05)
    assert (again["written"], again["kept"]) == (0, packed["blocks"])
    assert told(capsys, "health", tmp_path / "blocks")["whole"] is True
    assert main(["unpack", str(tmp_path / "blocks"), str(tmp_path / "files")]) == 0
    files = [*(tmp_path / "files" / "images").iterdir()]
    assert len(files) == packed["frames"]
    found = told(capsys, "doctor", tmp_path / "blocks")
    assert found["what"] == "a packed data set, blocks of images"
    assert found["next"][0] == f"lightning-reid health {tmp_path / 'blocks'}"
    (tmp_path / "blocks" / "blocks" / "00000.zip").unlink()
    assert told(capsys, "health", tmp_path / "blocks")["missing"] == ["00000.zip"]
    assert "has no 00000.zip" in refused(capsys, "unpack", tmp_path / "blocks", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_cannot_be_packed_is_told_before_anything_is_written(market_folder, tmp_path, capsys):
    broken = tmp_path / "crops.csv"
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    broken.write_text("path,pid,camid,split\na.jpg,1,1,train\n")
    assert "a.jpg cannot be decoded" in refused(capsys, "pack", broken, tmp_path / "blocks")
    assert not (tmp_path / "blocks").exists()
    assert "lies in no files" in refused(capsys, "pack", "generated-people", tmp_path / "blocks")
    assert "holds no set to append to" in refused(capsys, "pack", market_folder, tmp_path / "blocks", "--append")
    assert "--block_mb must be above 0" in refused(capsys, "pack", market_folder, tmp_path / "blocks", "--block_mb", 0)
    assert "is an address: lightning-reid health" in refused(capsys, "doctor", "s3://bucket/market")
    assert "exists: give another DIR" in refused(capsys, "unpack", tmp_path / "blocks", tmp_path)


@pytest.mark.parametrize("what", ["a recipe", "Lightning's own command line"])
def test_the_key_of_a_store_is_in_no_file_of_a_training(market_folder, tmp_path, capsys, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    main(["pack", str(market_folder), str(tmp_path / "blocks")])
    options = ["--data.dataset", str(tmp_path / "blocks"), "--data.storage_options", '{"secret": "xyzzy"}', "--data.num_workers", "0"]
    options += ["--data.image_size", "[32,16]", "--data.p", "4", "--data.k", "2", "--data.val_identities", "0"]
    options += ["--model.backbone", "resnet18", "--model.backbone_options", '{"channels":[4,4,8,8],"layers":[1,1,1,1]}']
    if what == "a recipe":
        code = main(["train", "supervised", *options, "--epochs", "1", "--quiet", "--accelerator", "cpu", "--output", "run"])
    else:
        trainer = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        code = main(["train", "fit", "--model", "SupervisedReID", "--data", "ImageReIDDataModule", *options, *trainer])
    assert code == 0
    if what == "a recipe":
        assert any("blocks/frames" in file.read_text() for file in Path("run").rglob("metrics.csv"))
    files = [file for file in Path().rglob("*") if file.is_file() and "blocks" not in file.parts]
    assert len(files) > 1
    assert [file for file in files if b"xyzzy" in file.read_bytes()] == []
    written = capsys.readouterr()
    assert "xyzzy" not in written.out + written.err
