"""People held out to select by: who they are, which of their records are queries, and what a fit then sees of whom."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import pytorch_lightning as pl
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_reid.datamodules import CrossDomainDataModule, ImageReIDDataModule, UnlabeledDataModule, VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.readers import read_market_folder, read_table, read_tracklet_table
from lightning_reid.datamodules.validation_split import hold_out_people, told_validation
from lightning_reid.records import ImageRecord, ReIDDataset

SMALL = {"image_size": (32, 16), "p": 2, "k": 2, "num_workers": 0}


def dataset(cameras_of: list[list[int]]) -> ReIDDataset:
    """Person i + 1 has an image in each of the cameras named."""
    records = [
        ImageRecord(f"{pid}-{number}.jpg", pid, camid)
        for pid, cameras in enumerate(cameras_of, start=1)
        for number, camid in enumerate(cameras)
    ]
    return ReIDDataset("made up", (*records, ImageRecord("distractor.jpg", 0, 1)))


people = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=6, max_size=12)


@given(cameras_of=people, count=st.integers(2, 3), seed=st.integers(0, 5))
def test_every_query_of_the_people_held_out_has_a_match_in_another_camera(cameras_of, count, seed):
    data = dataset(cameras_of)
    if sum(len(set(cameras)) > 1 for cameras in cameras_of) < count:
        with pytest.raises(ValueError, match="two cameras"):
            hold_out_people(data, count, seed=seed)
        return
    held = hold_out_people(data, count, seed=seed)
    out = {record.pid for record in held.query}
    assert len(out) == held.num_people == count
    for query in held.query:
        assert any(record.pid == query.pid and record.camid != query.camid for record in held.gallery)
    assert {record.pid for record in held.gallery} == out
    assert not out & {record.pid for record in held.train}
    assert {*held.train, *held.query, *held.gallery} == set(data.train)
    assert len(held.train) + len(held.query) + len(held.gallery) == len(data.train)


def test_one_image_of_each_camera_that_keeps_others_is_a_query_as_in_market():
    held = hold_out_people(dataset([[1, 1, 2, 2, 2, 3]] * 4), 2, seed=0)
    for pid in {record.pid for record in held.query}:
        assert sorted(record.camid for record in held.query if record.pid == pid) == [1, 2]
        assert sorted(record.camid for record in held.gallery if record.pid == pid) == [1, 2, 2, 3]


def test_of_people_with_single_images_one_is_the_query_and_the_others_its_gallery():
    held = hold_out_people(dataset([[1, 2]] * 5), 3, seed=0)
    assert len(held.query) == len(held.gallery) == 3
    assert {record.camid for record in held.query} <= {1, 2}


def test_the_choice_is_seeded_nested_and_does_not_depend_on_the_order_of_the_records():
    data = dataset([[1, 2, 2]] * 20)
    shuffled = ReIDDataset("made up", data.train[::-1])

    def chosen(of: ReIDDataset, share: float, seed: int) -> set[int]:
        return {record.pid for record in hold_out_people(of, share, seed=seed).query}

    assert chosen(data, 0.2, 1) == chosen(shuffled, 0.2, 1)
    assert chosen(data, 0.1, 1) < chosen(data, 0.3, 1)
    assert chosen(data, 0.2, 1) != chosen(data, 0.2, 2)
    assert len(chosen(data, 0.2, 1)) == 4
    assert len(chosen(data, 0.01, 1)) == 2  # one person has no wrong answer


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), True, -3])
def test_a_share_out_of_range_dies_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=r"val_identities must be a share of the training identities in \[0, 1\)"):
        ImageReIDDataModule(val_identities=wrong)


@pytest.mark.parametrize(("asked", "cameras_of"), [(1, [[1, 2]] * 4), (4, [[1, 2]] * 4), (0.1, [[1]] * 30), (3, [[1, 2]] * 2 + [[1]] * 9)])
def test_people_that_cannot_be_held_out_are_counted(asked, cameras_of):
    with pytest.raises(ValueError, match=rf"val_identities={asked} .* or 0 to validate on the test part"):
        hold_out_people(dataset(cameras_of), asked, seed=0)


def set_up(data):
    data.prepare_data()
    data.setup()
    return data


def test_validation_is_on_others_than_training_and_test(market_folder):
    data = set_up(ImageReIDDataModule(str(market_folder), **SMALL, val_identities=3))
    parts = {
        "train": {record.pid for record in data.dataset.train},
        "val": {record.pid for side in data.evaluation_records("val") for record in side},
        "test": {record.pid for side in data.evaluation_records("test") for record in side if record.pid > 0},
    }
    assert [len(part) for part in parts.values()] == [7, 3, 6]
    assert data.num_classes == 7
    assert not parts["train"] & parts["val"]
    assert not parts["val"] & parts["test"]
    for name in ("val", "test"):
        loader = data.val_dataloader() if name == "val" else data.test_dataloader()
        assert {int(pid) for batch in loader for pid in batch["pids"] if pid > 0} == parts[name]
    assert data.protocol_stamp().num_val_ids == 3
    assert "validated on 3 training ids" in str(data.protocol_stamp())


def test_by_default_a_tenth_of_the_people_is_held_out(market_folder):
    assert ImageReIDDataModule(str(market_folder)).val_identities == VideoReIDDataModule("mars").val_identities == 0.1


def test_the_papers_protocol_trains_on_all_validates_on_the_test_part_and_says_so(market_folder, tmp_path, caplog):
    from lightning_reid.modules import SupervisedReID

    data = ImageReIDDataModule(str(market_folder), **SMALL, val_identities=0)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, fast_dev_run=True, default_root_dir=tmp_path, **options)
    module = SupervisedReID(backbone="resnet18", backbone_options={"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]})
    data.eval_batch_size = 10_000  # a partial validation has no gallery
    with caplog.at_level(logging.WARNING):
        trainer.fit(module, data)
    assert data.num_classes == 10
    assert data.evaluation_records("val") == data.evaluation_records("test")
    assert "val/ scores are those of" in caplog.text
    assert "select nothing by them" in caplog.text
    assert data.protocol_stamp().num_val_ids == 0
    assert "validated" not in str(data.protocol_stamp())


def test_fewer_people_than_p_tells_of_those_held_out(market_folder):
    with pytest.raises(ValueError, match=r"has 7 training identities beside 3 that are held out .*wants P=8: lower p to 7"):
        set_up(ImageReIDDataModule(str(market_folder), **(SMALL | {"p": 8}), val_identities=3))


def test_where_identities_are_unknown_nobody_can_be_held_out(market_folder, duke_folder):
    with pytest.raises(ValueError, match="UnlabeledDataModule does not know who its target images show"):
        UnlabeledDataModule(str(market_folder), val_identities=0.1)
    data = set_up(CrossDomainDataModule(str(duke_folder), str(market_folder), image_size=(32, 16), num_workers=0))
    assert data.evaluation_records("val") == data.evaluation_records("test")


def test_tracklets_are_held_out_likewise_and_are_among_those_to_be_processed(tmp_path):
    people = GeneratedTracklets("mars-like", num_train_pids=5, num_test_pids=3, num_distractors=1, frames=(3, 4), height=32, width=16)
    folder = people.write(tmp_path / "mars", progress=False)
    data = set_up(VideoReIDDataModule(str(folder), image_size=(32, 16), clip_length=2, p=2, k=2, num_workers=0, val_identities=2))
    query, gallery = data.evaluation_records("val")
    assert data.num_classes == 3
    assert len({record.pid for record in (*query, *gallery)}) == 2
    assert {*query, *gallery} <= set(data.tracklet_records())


def told(cameras_of: list[list[int]], first: int = 100) -> ReIDDataset:
    """People 1 and 2 to train on, and people of these cameras to validate on."""
    train = [ImageRecord(f"{pid}-{camid}.jpg", pid, camid) for pid in (1, 2) for camid in (1, 2)]
    val = [ImageRecord(f"{first + who}-{row}.jpg", first + who, camid) for who, of in enumerate(cameras_of) for row, camid in enumerate(of)]
    return ReIDDataset("told", tuple(train), val=tuple(val))


@given(cameras_of=people, seed=st.integers(0, 3))
def test_people_whom_a_data_set_tells_are_validated_on_and_every_query_has_a_match(cameras_of, seed):
    data = told(cameras_of)
    single = len({camid for cameras in cameras_of for camid in cameras}) == 1
    again = [cameras for cameras in cameras_of if (len(cameras) if single else len(set(cameras))) > 1]
    if len(again) < 2:
        with pytest.raises(ValueError, match=rf"{len(again)} of {len(cameras_of)} people to validate on \(split 'val' of told\)"):
            told_validation(data, seed=seed)
        return
    held = told_validation(data, seed=seed)
    assert held.train == data.train
    assert {*held.query, *held.gallery} == set(data.val)
    assert len(held.query) + len(held.gallery) == len(data.val)
    assert len({record.pid for record in held.query}) == len(again)
    for query in held.query:
        assert any(record.pid == query.pid and (single or record.camid != query.camid) for record in held.gallery)


@pytest.mark.parametrize("val_identities", [0, 0.1, 2])
def test_they_are_validated_on_whatever_number_would_be_drawn_and_are_trained_on_by_nobody(val_identities, tmp_path, market_folder):
    val = write_with_val(tmp_path / "people.csv", market_folder)
    data = ImageReIDDataModule(str(tmp_path / "people.csv"), val_identities=val_identities, allow_paths_outside=True, **SMALL)
    data.setup("fit")
    query, gallery = data.evaluation_records("val")
    assert {record.pid for record in query} == set(val) == set(data.people.held_out)
    assert not {*val} & {record.pid for record in data.dataset.train}
    assert data.num_classes == len(data.people.pids) == 8
    assert data.protocol_stamp().num_val_ids == 2
    assert data.evaluation_records("test")[0] == data.dataset.query
    unlabeled = UnlabeledDataModule(str(tmp_path / "people.csv"), allow_paths_outside=True, image_size=(32, 16), num_workers=0)
    unlabeled.setup("fit")
    assert not {*val} & {record.pid for record in unlabeled.target_records}
    assert unlabeled.evaluation_records("val") == (query, gallery)


def write_with_val(table: Path, market_folder: Path) -> list[int]:
    """A table of a folder in the Market naming of whose people to train on two are to validate on, which are returned."""
    data = read_market_folder(market_folder)
    val = sorted({record.pid for record in data.train})[-2:]
    parts = [(("val" if split == "train" and one.pid in val else split), one) for split, records in data.splits() for one in records]
    rows = [f"{Path(one.path).resolve()},{one.pid},{one.camid},{split}" for split, one in parts]
    table.write_text("\n".join(["path,pid,camid,split", *rows]), encoding="utf-8")
    return val


@pytest.mark.parametrize("other", ["train", "query", "gallery"])
def test_who_is_to_be_validated_on_is_in_no_other_split(other, tmp_path):
    rows = [("a", 1, "train"), ("b", 2, "query"), ("c", 2, "gallery"), ("d", 3, "val"), ("e", 3, other)]
    for name, *_ in rows:
        (tmp_path / f"{name}.png").touch()
    for columns in ("path,pid,camid,split", "path,pid,camid,split,tracklet"):
        lines = [f"{name}.png,{pid},1,{split}" + f",{name}" * ("tracklet" in columns) for name, pid, split in rows]
        (tmp_path / "t.csv").write_text("\n".join([columns, *lines]))
        read = read_tracklet_table if "tracklet" in columns else read_table
        with pytest.raises(
            ValueError, match=rf"one person is in split 'val' \(.*d\.png\) and in split '{other}' \(.*e\.png\): people to val"
        ):
            read(tmp_path / "t.csv")


def test_nobody_is_not_validated_on(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "t.csv").write_text("path,pid,camid,split\na.png,1,1,train\nb.png,0,1,val\n")
    with pytest.raises(ValueError, match=r"b\.png of split 'val' has pid 0, which is nobody: number people from 1"):
        read_table(tmp_path / "t.csv", needs_test=False)


def test_an_unreadable_image_to_validate_on_is_refused_or_left_out(tmp_path, market_folder):
    val = write_with_val(tmp_path / "people.csv", market_folder)
    broken = Image.new("RGB", (8, 16))
    broken.save(tmp_path / "broken.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:40])
    with (tmp_path / "people.csv").open("a") as file:
        file.write(f"\nbroken.png,{val[0]},1,val\n")
    data = ImageReIDDataModule(str(tmp_path / "people.csv"), allow_paths_outside=True, unreadable="skip", **SMALL)
    data.setup("fit")
    assert not any("broken" in record.path for records in data.evaluation_records("val") for record in records)
    assert any("1 unreadable images left out" in note for note in data.dataset.notes)


def test_a_table_of_tracklets_tells_people_to_validate_on_too(tmp_path):
    rows = ["path,pid,camid,tracklet,split"]
    for pid, split in ((1, "train"), (2, "train"), (3, "val"), (4, "val"), (5, "gallery")):
        for camid in (1, 2):
            for frame in (1, 2):
                name = f"{pid}_{camid}_{frame}.png"
                Image.new("RGB", (8, 16), (40 * pid, 90 * camid, 0)).save(tmp_path / name)
                rows.append(f"{name},{pid},{camid},{pid}-{camid},{'query' if (pid, camid) == (5, 1) else split}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = VideoReIDDataModule(str(tmp_path / "t.csv"), val_identities=0, clip_length=2, **SMALL)
    data.setup("fit")
    query, gallery = data.evaluation_records("val")
    assert {record.pid for record in query} == {record.pid for record in gallery} == {3, 4} == set(data.people.held_out)
    assert (len(query), len(gallery), data.num_classes) == (2, 2, 2)
