"""Images of which nobody says whom they show: what reads them, who takes them, and who does not."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_reid.datamodules import CrossDomainDataModule, ImageReIDDataModule, UnlabeledDataModule, VideoReIDDataModule
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.datamodules.readers import read_table


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Six images, two of them deeper."""
    root = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg", "d.jpg", "deep/e.jpg", "deep/f.jpg")):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 8, 3), 40 * number, np.uint8)).save(root / name)
    return root


def table(images: Path, text: str) -> str:
    path = images / "table.csv"
    path.write_text(text.strip().replace(" ", "\n") + "\n")
    return str(path)


HEADLESS = {
    "path alone": "path a.jpg b.jpg",
    "no pid": "path,camid,split a.jpg,3,train b.jpg,4,train",
    "empty pid": "path,pid,camid,split a.jpg,,3,train b.jpg,,4,train",
    "pid -1": "path,pid,camid,split a.jpg,-1,3,train b.jpg,-1,4,train",
    "people with names": "path,pid,camid,split a.jpg,anna,3,train b.jpg,,4,train",
}


@pytest.mark.parametrize("kind", HEADLESS)
def test_a_table_that_does_not_say_who_is_seen_is_read_as_of_somebody_unknown(kind, images):
    data = read_table(table(images, HEADLESS[kind]), unlabeled=True, needs_test=kind != "people with names")
    named = kind == "people with names"
    assert [record.pid for record in data.train] == [1 if named else -1, -1]
    assert [record.camid for record in data.train] == ([0, 0] if kind == "path alone" else [3, 4])
    assert (data.has_labels, data.has_test) == (named, False)
    assert any("no camera is told" in note for note in data.notes) == (kind == "path alone")
    assert any("training records show nobody" in note for note in data.notes)


@pytest.mark.parametrize(
    ("text", "unlabeled", "said"),
    [
        (
            "path,camid,split a.jpg,1,train",
            False,
            r"lacks the columns pid;.*Without it who they show is not known: adapt a network",
        ),
        ("path,pid,camid,split a.jpg,-1,1,train", False, r"no row of split 'query', .* Its 1 training rows have no labels: who they show"),
        (
            "path,pid,camid,split a.jpg,5,1,train",
            True,
            r"no row of split 'query', but of train: write 'query' into the column 'split' of some rows$",
        ),
        ("path,pid,camid,split a.jpg,,1,train b.jpg,,1,gallery", True, r"line 3: the column 'pid' is empty"),
        ("name a.jpg", True, r"lacks the columns path"),
    ],
)
def test_a_label_that_is_needed_is_not_made_up(text, unlabeled, said, images):
    with pytest.raises(ValueError, match=said):
        read_table(table(images, text), unlabeled=unlabeled)


def test_a_folder_of_images_alone_is_read_without_its_names(images, tmp_path, caplog):
    data = read_prepared(str(images), None, unlabeled=True)
    assert [Path(record.path).relative_to(images).as_posix() for record in data.train] == [
        *("a.jpg", "b.jpg", "c.jpg", "d.jpg", "deep/e.jpg", "deep/f.jpg")
    ]
    assert {(record.pid, record.camid, record.domain) for record in data.train} == {(-1, 0, images.name)}
    assert "no camera is told: all images count as of one" in caplog.text
    with pytest.raises(FileNotFoundError, match="has another layout; expected a folder with bounding_box_train"):
        read_prepared(str(images), None)
    with pytest.raises(FileNotFoundError, match="holds no image"):
        read_prepared(str(tmp_path), None, unlabeled=True)
    (tmp_path / "bbox_train").mkdir()
    with pytest.raises(FileNotFoundError, match="has another layout"):  # whose test part would be adapted to, too
        read_prepared(str(tmp_path), None, unlabeled=True)


def test_the_table_of_a_folder_stands_for_it_but_not_for_one_in_the_market_naming(images, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes((images / name).read_bytes())
    (tmp_path / "images.csv").write_text("path,pid,camid,split\na.jpg,-1,2,train\n")
    data = read_prepared(str(tmp_path), None, unlabeled=True)
    assert [(record.path, record.camid, record.domain) for record in data.train] == [(str(tmp_path / "a.jpg"), 2, tmp_path.name)]
    (tmp_path / "bounding_box_train").mkdir()
    with pytest.raises(FileNotFoundError, match="lacks query"):
        read_prepared(str(tmp_path), None, unlabeled=True)


@pytest.mark.parametrize("module", [UnlabeledDataModule, lambda target: CrossDomainDataModule("duke-like", target)])
def test_what_needs_no_labels_takes_images_without_and_says_that_nothing_is_scored(module, images, caplog):
    data = module(table(images, HEADLESS["no pid"]))
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
        data.setup("fit")
    assert caplog.text.count("has no labels: nothing is scored on it, and clusters are not judged") == 1
    assert len(data.target_records) == 2
    assert data.ground_truth().tolist() == [-1, -1]
    with pytest.raises(ValueError, match="0 queries and 0 gallery images: nothing to score"):
        data.protocol_stamp()


@pytest.mark.parametrize("val_identities", [0, 0.1])
def test_who_trains_on_people_refuses_images_without_labels_by_name(val_identities, images):
    data = ImageReIDDataModule(table(images, HEADLESS["pid -1"]), needs_test=False, val_identities=val_identities)
    with pytest.raises(ValueError, match=r"ImageReIDDataModule trains on people who are known, and the 2 training images of .*table.csv"):
        data.setup("fit")
    (images / "walks.csv").write_text("path,pid,camid,split,tracklet\na.jpg,-1,1,train,t1\nb.jpg,-1,1,train,t2\n")
    walks = VideoReIDDataModule(str(images / "walks.csv"), needs_test=False)
    with pytest.raises(ValueError, match="VideoReIDDataModule trains on people who are known, and the 2 training tracklets"):
        walks.setup("fit")
