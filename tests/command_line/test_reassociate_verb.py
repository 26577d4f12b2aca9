"""``lightning-reid reassociate``: pictures and boxes in, whether the same track is the nearest some frames later out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filmed import film
from PIL import Image

from lightning_reid.command_line.main import main
from lightning_reid.datamodules.mot.sequence import open_sequence
from lightning_reid.datamodules.transforms import resized
from lightning_reid.evaluation.reassociation import boxes_to_reassociate, reassociate
from lightning_reid.inference import load_network
from lightning_reid.metrics import reassociation_scores
from lightning_reid.normalization import normalize_images

LAST = 12


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """Four people who walk through twelve pictures of noise, each a patch of a look of their own; one leaves after half."""
    folder = tmp_path_factory.mktemp("sequence") / "street"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rng, rows = np.random.default_rng(0), []
    looks = [rng.integers(0, 256, (6, 3, 3), dtype=np.uint8) for _ in range(4)]
    for frame in range(1, LAST + 1):
        picture = Image.fromarray(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8))
        for who, look in enumerate(looks):
            if who == 3 and frame > LAST // 2:
                continue
            x = 10 + 35 * ((who + frame) % 4)
            noisy = np.clip(look + rng.normal(0, 60, look.shape), 0, 255).astype(np.uint8)
            picture.paste(Image.fromarray(noisy).resize((24, 60), Image.Resampling.BICUBIC), (x, 20))
            rows.append(f"{frame},{who + 21},{x},20,24,60,1,1,{1 if who else frame / LAST}")
        rows.append(f"{frame},99,-40,-70,30,60,1,1,1")
        rows.append(f"{frame},98,5,5,30,60,0,1,1")
        picture.save(folder / "img1" / f"{frame:06d}.png")
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nname=street\nimDir=img1\nseqLength={LAST}\nimWidth=160\nimHeight=90\n")
    return folder


def told(capsys, *argv: object) -> dict:
    assert main(["reassociate", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    assert main(["reassociate", *map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_scores_are_those_of_the_crops_of_the_annotation(street, capsys):
    found = told(capsys, street, "--gap", 1, 4)
    rows = [line.split(",") for line in (street / "gt" / "gt.txt").read_text().splitlines()]
    rows = [[int(cell) for cell in row[:6]] for row in rows if int(row[1]) < 90]
    crops = []
    for frame, _, x, y, width, height in rows:
        picture = np.asarray(Image.open(street / "img1" / f"{frame:06d}.png").convert("RGB"))
        crops.append(resized(torch.from_numpy(picture[y : y + height, x : x + width].copy()).permute(2, 0, 1), 128, 64))
    with torch.inference_mode():
        embeddings = load_network().eval()(normalize_images(torch.stack(crops))).embedding
    frames, tracks = (torch.tensor([row[column] for row in rows]) for column in (0, 1))
    for gap, row in zip((1, 4), found["rows"], strict=True):
        expected = reassociation_scores(embeddings, frames, tracks, gap)
        assert row["rank_1"] == pytest.approx(float(expected.scores.cmc[0]))
        assert row["mAP"] == pytest.approx(expected.scores.mAP, abs=1e-6)
        assert row["chance"] == pytest.approx(expected.chance)
        assert (row["queries"], row["tracks"]) == (3 * (LAST - gap) + LAST // 2 - gap, 4)
        assert row["gone"] == gap
        assert row["rank_1_interval"][0] <= row["rank_1"] <= row["rank_1_interval"][1]
        assert row["chance"] < row["rank_1"]
    assert any(0 < row["mAP"] < 1 for row in found["rows"]), "which says nothing if all is right"
    assert set(found["notes"]) == {f"{street}: {LAST} boxes left out, {why}" for why in ("not considered", "outside the picture")}


def test_no_more_frames_are_held_than_the_longest_gap_needs(street):
    boxes = boxes_to_reassociate(open_sequence(street), [1, 3])
    held = [len(video._window) for video in reassociate(load_network(), boxes, [1, 3])]
    assert max(held) == 4
    assert len(held) == LAST


def test_boxes_that_are_hardly_visible_are_left_out_where_the_annotation_tells(street, capsys):
    whole, half = (told(capsys, street, "--gap", 1, "--min_visibility", least) for least in (0, 0.5))
    hidden = LAST // 2 - 1
    assert half["rows"][0]["queries"] == whole["rows"][0]["queries"] - hidden
    assert f"{street}: {hidden} boxes left out, hidden" in half["notes"]


def test_a_table_is_shown_and_written(street, tmp_path, capsys):
    assert main(["reassociate", str(street), "--gap", "2", "--out", str(tmp_path / "found.md")]) == 0
    shown, text = capsys.readouterr().out, (tmp_path / "found.md").read_text()
    assert "found again N frames later" in shown
    assert "| generated-people-small |" in text
    assert "exists: give another OUT" in refused(capsys, street, "--out", tmp_path / "found.md")


def test_what_cannot_be_asked_is_refused_by_name(street, tmp_path, capsys):
    message = refused(capsys, street, "--gap", 1, 12)
    assert "no track has boxes in two frames that are 12 apart. Give a shorter gap; the longest track lasts 12 frames" in message
    assert "gap names 3 twice" in refused(capsys, street, "--gap", 3, 3)
    assert "--min_visibility must" in refused(capsys, street, "--min_visibility", 2)
    assert "there is no sequence" in refused(capsys, tmp_path / "nowhere")
    with pytest.raises(SystemExit) as stopped:
        main(["reassociate", str(street), "--gap", "0"])
    assert stopped.value.code == 2


@pytest.mark.parametrize("kind", ["pictures", "video"])
def test_another_number_of_pictures_than_the_sequence_tells_is_refused(kind, tmp_path, capsys):
    pytest.importorskip("av")
    if kind == "video":
        film(tmp_path / "door.avi", 6)
    else:
        (tmp_path / "img1").mkdir()
        for frame in range(1, 7):
            Image.new("RGB", (64, 48)).save(tmp_path / "img1" / f"{frame:06d}.png")
    (tmp_path / "gt.txt").write_text("\n".join(f"{frame},7,4,4,20,40,1" for frame in (1, 2, 3, 4)))
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nseqLength=6\n")
    assert told(capsys, tmp_path, "--gap", 1)["rows"][0]["rank_1_interval"] is None
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nseqLength=5\n")
    assert "tells 5 pictures, and there are 6: boxes might be of others" in refused(capsys, tmp_path, "--gap", 1)
