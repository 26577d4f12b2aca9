"""The first evening, as its page tells it: every command in its order, on generated people under names of somebody's own."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from constant_detector import write_people_onnx
from filmed import film
from written_pages import blocks, commands, replacements

from lightning_reid.command_line.main import main

PAGE = "docs/first_evening.md"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A folder in which all has been done that the page says, and the names that its Python made."""
    folder = tmp_path_factory.mktemp("evening")
    bring_along(folder)
    names = {"frame": torch.randint(256, (3, 90, 120), dtype=torch.uint8), "boxes": torch.tensor([[10.0, 5, 40, 80], [60, 0, 95, 90]])}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        do_what_is_told(names)
    return folder, names


@pytest.fixture
def evening(done) -> Path:
    """The folder of the evening."""
    return done[0]


def bring_along(folder: Path) -> None:
    """Crops of 24 people in two cameras, two of them apart, a third to ask for, and two videos."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    people = GeneratedPedestrians("market-like", num_train_pids=24, num_test_pids=4, images_per_camera=2, height=64, width=32)
    pictures = sorted((people.write(folder / "drawn", progress=False) / "bounding_box_train").iterdir())
    for number, path in enumerate(pictures):
        person, camera = path.name.split("_")[:2]
        own = folder / "my_folder" / f"camera{camera[1]}" / f"{person}_{number}.jpg"
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, own)
    for name, path in zip(("somebody.jpg", "one.jpg", "other.jpg"), pictures[::9]):
        shutil.copy(path, folder / name)
    film(folder / "door.mp4", 20)
    film(folder / "yard.mp4", 12, first=5)
    write_people_onnx(folder / "detector.onnx")
    (folder / "unlabeled").mkdir()
    for path in pictures[:40]:
        shutil.copy(path, folder / "unlabeled" / f"{path.stem[-6:]}.jpg")


def do_what_is_told(names: dict[str, Any]) -> None:
    told = [one for one in blocks(PAGE) if one.language in {"bash", "python"}]
    code = [one.code for one in told]
    for old, new in replacements(PAGE):
        assert any(old in one for one in code), f"{PAGE} no longer says {old}"
        code = [one.replace(old, new) for one in code]
    for block, text in zip(told, code):
        if block.language == "python":
            exec(compile(text, PAGE, "exec"), names)
            continue
        for command in commands(text):
            if command[:2] != ["pip", "install"]:
                assert main(command[1:]) == 0, " ".join(command)


def test_own_names_became_a_table_of_all_people(evening):
    with (evening / "people.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["pid"] for row in rows}) == 24
    assert (evening / "sheet.png").is_file()


def test_the_network_that_comes_along_was_scored_on_them(evening):
    assert "generated-people-small" in (evening / "scores.md").read_text(encoding="utf-8")


def test_somebody_was_found_and_drawn(evening):
    assert (evening / "answers.png").is_file()
    assert (evening / "people.index").is_dir()


def test_a_network_was_trained_with_labels_and_scored_and_one_without_them_and_not(evening):
    results = {run: json.loads((evening / "runs" / run / "results.json").read_text(encoding="utf-8"))["rows"] for run in ("mine", "doors")}
    assert [bool(rows) for rows in results.values()] == [True, False]
    assert all(list((evening / "runs" / run).rglob("last.ckpt")) for run in results)


def test_videos_became_tracklets(evening):
    assert (evening / "crops" / "tracklets.csv").is_file()


def test_a_calibration_and_a_file_for_a_device_were_written(evening):
    assert json.loads((evening / "calibration.json").read_text(encoding="utf-8"))
    assert importlib.import_module("onnx").load(str(evening / "people.onnx")).graph.output


def test_the_detections_of_a_frame_are_embedded_in_three_lines_and_a_crop_by_the_exported_file(done, evening):
    _, names = done
    assert names["embeddings"].shape == (2, 192)
    torch.testing.assert_close(names["embeddings"].norm(dim=1), torch.ones(2))
    assert names["crop"].shape == (names["height"], names["width"], 3)
