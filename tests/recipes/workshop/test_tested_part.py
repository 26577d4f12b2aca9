"""What a stage was scored on, told and read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from lightning_reid.datamodules import ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.recipes.workshop.tested_part import TestedPart


def opened(dataset: str, **options) -> ImageReIDDataModule:
    data = ImageReIDDataModule(dataset, p=2, k=2, image_size=(32, 16), num_workers=0, val_identities=0, **options)
    data.prepare_data()
    data.setup()
    return data


def told_and_read(data: ImageReIDDataModule) -> TestedPart:
    tested = TestedPart.of(data)
    assert tested is not None
    return TestedPart.of_json(json.loads(json.dumps(tested.as_json())), Path("scores.json"))


def test_a_folder_is_read_again_from_wherever_one_stands(market_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(market_folder.parent)
    data = opened(market_folder.name)
    tested = told_and_read(data)
    monkeypatch.chdir(tmp_path)
    assert tested.dataset == str(market_folder)
    found = tested.read()
    assert (found.query, found.gallery) == tuple(
        tuple(type(one)(str(market_folder.parent / one.path), one.pid, one.camid, one.domain, one.frame) for one in side)
        for side in (data.dataset.query, data.dataset.gallery)
    )


def test_people_who_are_drawn_lie_in_no_folder_and_are_drawn_again():
    data = opened("generated-people,people=6,test_people=4")
    tested = told_and_read(data)
    assert tested.dataset == data.dataset_name
    assert tested.read().query == data.dataset.query


def test_files_that_cannot_be_read_are_left_out_again(market_folder, tmp_path):
    broken = Path(shutil.copytree(market_folder, tmp_path / "broken"))
    torn = next((broken / "query").iterdir())
    torn.write_bytes(b"torn")
    data = opened(str(broken), unreadable="skip")
    assert str(torn) not in {record.path for record in told_and_read(data).read().query}


@pytest.mark.parametrize("change", ["label", "size", "gone"])
def test_what_was_changed_since_is_told_by_its_part(market_folder, tmp_path, change):
    changed = Path(shutil.copytree(market_folder, tmp_path / "market"))
    tested = told_and_read(opened(str(changed)))
    tested.read()
    picture = sorted((changed / "query").iterdir())[0]
    if change == "label":
        picture.rename(picture.with_name(f"9999{picture.name[4:]}"))
    elif change == "size":
        picture.write_bytes(picture.read_bytes() + b"x")
    else:
        picture.unlink()
    with pytest.raises(ValueError, match=r"market is not what it was when the run was scored on it: market, query: \"17 records"):
        tested.read()


@pytest.mark.parametrize("content", [None, [], {"dataset": "market"}, {"dataset": "market", "root": "data", "split": "0"}])
def test_what_is_no_tested_part_is_refused_by_its_file(content):
    with pytest.raises(ValueError, match=r"^scores\.json tells .* of what was scored on, it was edited: give --data$"):
        TestedPart.of_json(content, Path("scores.json"))


@pytest.mark.slow
def test_clips_are_read_again_as_they_were_and_those_of_a_runs_own_tracklets_are_not_told(walks, tmp_path):
    options = {"image_size": (32, 16), "clip_length": 2, "test_clips": "even"}
    data = VideoReIDDataModule(str(walks), p=2, k=2, num_workers=0, val_identities=0, **options)
    data.setup()
    again = told_and_read(data).read_clips()
    assert (again.dataset.query, again.dataset.gallery) == (data.dataset.query, data.dataset.gallery)
    assert again.transform_text() == data.transform_text()
    (first, second) = (next(iter(one.test_dataloader()))["clips"] for one in (data, again))
    assert torch.equal(first, second)
    data.serve_processed({record.paths: tmp_path / "x" for record in data.tracklet_records()})
    assert TestedPart.of(data) is None


@pytest.fixture
def walks(tmp_path) -> Path:
    people = GeneratedTracklets(num_train_pids=3, num_test_pids=3, num_distractors=1, frames=(2, 4), height=32, width=16)
    return people.write(tmp_path / "walks", progress=False)
