"""Which files of a folder are images, and what is said of the others."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from lightning_reid.datamodules.readers import read_market_folder
from lightning_reid.datamodules.readers.folders import image_names
from lightning_reid.datamodules.readers.image_files import image_files
from lightning_reid.datamodules.readers.tracklet_folders import folder_names
from lightning_reid.inference import find_crops


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_images_are_found_at_any_depth_whatever_their_ending_and_case(tmp_path):
    names = ["0001/a.webp", "0001/b.JFIF", "0002/deep/c.tiff", "1.JPG", "a b.png"]
    assert image_files(make(tmp_path, *names)) == names


def test_what_is_passed_over_is_counted_and_a_hidden_folder_is_warned_of(tmp_path, caplog):
    make(tmp_path, "1.jpg", ".thumbs/1.jpg", "@eaDir/1.jpg/SYNO.jpg", "._1.jpg", "Thumbs.db", "a.txt", "b.txt")
    with caplog.at_level(logging.INFO):
        assert image_files(tmp_path) == ["1.jpg"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    told = "*.db, 2 x *.txt, hidden file, hidden folder .thumbs, hidden folder @eaDir"
    assert record.getMessage() == f"{tmp_path}: 1 images; passed over {told}"


def test_what_a_zip_of_macos_leaves_is_passed_over_and_told(tmp_path, caplog):
    make(tmp_path, "bounding_box_train/0001_c1s1_000001_00.jpg", "bounding_box_train/._0001_c1s1_000001_00.jpg")
    make(tmp_path, "bounding_box_train/__MACOSX/0001_c1s1_000001_00.jpg")
    with caplog.at_level(logging.INFO):
        assert len(read_market_folder(tmp_path, needs_test=False).train) == 1
    assert "1 images; passed over hidden file, hidden folder __MACOSX" in caplog.text


def test_folders_of_tracklets_pass_over_what_is_hidden_and_tell(tmp_path, caplog):
    make(tmp_path, "0001/a.jpg", "@eaDir/a.jpg", "__MACOSX/0001/a.jpg", ".thumbs/a.jpg", "0001/._a.jpg")
    with caplog.at_level(logging.INFO):
        assert folder_names(tmp_path) == ["0001"]
        assert image_names(tmp_path / "0001") == ["a.jpg"]
    assert "1 folders; passed over hidden folder .thumbs, hidden folder @eaDir, hidden folder __MACOSX" in caplog.text
    assert "1 images; passed over hidden file" in caplog.text


@pytest.mark.parametrize("read", [image_files, image_names])
def test_a_pipe_under_the_name_of_an_image_is_named(tmp_path, read):
    os.mkfifo(make(tmp_path, "1.jpg") / "2.jpg")
    with pytest.raises(OSError, match=r"2.jpg is a pipe where a file was expected"):
        read(tmp_path)


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path):
    elsewhere = make(tmp_path / "elsewhere", "2.jpg")
    folder = make(tmp_path / "set", "1.jpg")
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    assert image_files(folder) == ["1.jpg", "linked/2.jpg"]


def test_a_market_folder_in_folders_by_person_is_read_whole(tmp_path):
    make(tmp_path, "bounding_box_train/0001/0001_c1s1_000001_00.jpg", "bounding_box_train/0002_c2s1_000001_00.webp")
    records = read_market_folder(tmp_path, needs_test=False).train
    assert [(record.pid, record.camid) for record in records] == [(1, 1), (2, 2)]
    assert all(Path(record.path).is_file() for record in records)


def test_crops_of_a_network_drive_are_found_without_its_thumbnails(tmp_path):
    make(tmp_path, "people/1.jpg", "people/@eaDir/1.jpg/thumb.jpg")
    assert find_crops([tmp_path]) == [str(tmp_path / "people" / "1.jpg")]


@pytest.mark.parametrize("names", [[], [".hidden.jpg"], ["a.txt"]])
def test_a_folder_without_images_has_none(tmp_path, names):
    assert image_files(make(tmp_path, *names)) == []


def test_a_folder_that_two_links_lead_to_is_walked_once(tmp_path):
    real = make(tmp_path / "set", "a/1.jpg", "c/3.jpg")
    (real / "b").symlink_to(real / "a")
    (real / "c" / "x").symlink_to(real / "a")
    assert image_files(real) == ["a/1.jpg", "c/3.jpg"]


def test_a_folder_that_is_not_there_is_said_to_be_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        image_files(tmp_path / "gone")
