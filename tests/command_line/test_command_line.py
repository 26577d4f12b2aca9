"""Somebody with pictures and no script: what ``lightning-reid`` tells them, and what it makes of their names."""

from __future__ import annotations

import ast
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from filmed import film
from PIL import Image
from verbs import refused, told

from lightning_reid.command_line.contact_sheet import draw_sheet
from lightning_reid.command_line.main import main
from lightning_reid.command_line.seen import Seen
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.readers import read_market_folder, read_table


def paint(path: Path, seed: int, size: tuple[int, int] = (24, 48)) -> Path:
    """Another picture for each seed, smooth enough for a perceptual hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 3, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def street(tmp_path) -> Path:
    """Four people whom two cameras saw twice each, and one whom a single camera saw, named as their owner liked."""
    for number, who in enumerate(("anna", "ben", "carl", "dora")):
        for camera in ("door", "yard"):
            for frame in (1, 2):
                paint(tmp_path / "street" / f"cam_{camera[0]}" / f"{who}_{frame:03d}.png", 100 * number + 10 * (camera == "yard") + frame)
    paint(tmp_path / "street" / "cam_d" / "emil_007.png", 999)
    return tmp_path / "street"


def test_help_and_the_verbs_that_look_and_convert_need_no_torch(tmp_path):
    paint(tmp_path / "a" / "anna_1.png", 1)
    code = (
        "import sys\nfrom lightning_reid.command_line.main import main\nmain(['doctor', sys.argv[1]])\n"
        "print([one for one in ('torch', 'pytorch_lightning', 'matplotlib', 'sklearn') if one in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"
    finished = subprocess.run([sys.executable, "-m", "lightning_reid", "--help"], capture_output=True, text=True, check=True)
    assert "doctor" in finished.stdout
    assert "convert" in finished.stdout


def test_own_names_are_guessed_shown_and_the_next_command_makes_a_table_of_them(street, capsys, monkeypatch):
    monkeypatch.chdir(street.parent)
    found = told(capsys, "doctor", "street")
    assert found["what"] == "a folder of images that seem to be named {camera}/{person}_{frame}"
    assert found["splits"] == {"all": {"images": 17, "people": 5, "cameras": 2}}
    assert found["people a camera"] == {"cam_d": 5, "cam_y": 4}
    assert found["people seen by one camera alone"] == 1
    assert found["images a person"] == {"least": 1, "median": 4, "most": 4}
    command = found["next"][0].split()
    assert command[:3] == ["lightning-reid", "convert", "street"]
    made = told(capsys, *[one.strip("'") for one in command[1:]])
    assert {split: counts["people"] for split, counts in made["splits"].items()} == {"train": 3, "query": 2, "gallery": 2}
    assert made["next"][0] == "lightning-reid doctor street.csv"
    assert made["next"][2] == "lightning-reid train supervised --data.dataset street.csv --data.p 3"
    data = read_table("street.csv")
    assert (len(data.train), len(data.query), len(data.gallery)) == (9, 4, 4)
    trained = {Path(record.path).stem.split("_")[0] for record in data.train}
    assert "emil" in trained
    assert not trained & {Path(record.path).stem.split("_")[0] for record in (*data.query, *data.gallery)}
    assert all({other.camid for other in data.gallery if other.pid == record.pid} - {record.camid} for record in data.query)
    again = told(capsys, "doctor", "street.csv")
    assert again["what"] == "a table of images"
    assert again["queries without a match in another camera"] == 0
    whole = "lightning-reid train supervised --data.dataset street.csv --data.p 3"
    assert again["next"][1] == whole
    assert again["next"][0].startswith(f"{whole} --model.backbone resnet18 ")
    assert again["notes"][-1] == made["notes"][-1]
    assert "takes hours without a GPU: the command with --model.backbone resnet18 trains a small network" in again["notes"][-1]


def test_a_folder_in_the_market_naming_is_made_whose_numbers_are_listed(street, tmp_path, capsys):
    made = told(capsys, "convert", street, tmp_path / "market", "--pattern", "{camera}/{person}_{frame}.jpg", "--seed", 3)
    assert made["read"]["cam_d/anna_001.png"] == "person anna, camera cam_d, frame 001"
    assert (made["guessed"], made["seed"], made["cameras"]) == (False, 3, 2)
    data = read_market_folder(tmp_path / "market")
    assert (len(data.train), len(data.query), len(data.gallery)) == (9, 4, 4)
    with (tmp_path / "market" / "ids.csv").open(newline="", encoding="utf-8") as file:
        ids = {(row["what"], int(row["number"])): row["name"] for row in csv.DictReader(file)}
    assert ids["person", 1] == "anna"
    assert ids["camera", 2] == "cam_y"
    for record in data.train:
        mine = [ids["camera", record.camid], ids["person", record.pid]]
        original = street / mine[0] / f"{mine[1]}_{record.frame:03d}.png"
        assert Path(record.path).read_bytes() == original.read_bytes()
    assert told(capsys, "doctor", tmp_path / "market")["what"] == "a folder in the Market naming"


def test_numbers_stay_but_a_person_0_who_would_be_nobody(tmp_path, capsys):
    for who in (0, 7, 12):
        for frame in (1, 2):
            paint(tmp_path / "mine" / f"p{who}_c{frame}.png", 10 * who + frame)
    told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv")
    assert {row["pid"] for row in csv.DictReader((tmp_path / "mine.csv").open())} == {"person 0", "person 7", "person 12"}
    assert len({record.pid for split in read_table(tmp_path / "mine.csv").splits() for record in split[1]}) == 3
    (tmp_path / "mine" / "p0_c1.png").unlink()
    (tmp_path / "mine" / "p0_c2.png").unlink()
    told(capsys, "convert", tmp_path / "mine", tmp_path / "market", "--pattern", "p{person}_c{camera}")
    data = read_market_folder(tmp_path / "market")
    assert {record.pid for record in (*data.train, *data.query, *data.gallery)} == {7, 12}


def test_without_cameras_the_protocol_is_told(tmp_path, capsys):
    for who in ("anna", "ben"):
        for frame in (1, 2, 3):
            paint(tmp_path / "mine" / who / f"{frame}.png", len(who) + 10 * frame)
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv")
    assert made["pattern"] == "{person}/{frame}"
    few = "nobody is held out to validate on: too few people who are trained on can be found again"
    assert made["notes"] == ["no camera is told: score it by --model.protocol no-camera", few]
    assert [len(records) for _, records in read_table(tmp_path / "mine.csv").splits()] == [3, 1, 2]


def test_splits_that_names_tell_are_kept(tmp_path, capsys):
    for split in ("train", "query", "gallery"):
        for who in (1, 2):
            paint(tmp_path / "mine" / split / f"{who + 2 * (split != 'train')}_c{1 + (split == 'query')}.png", who)
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv", "--pattern", "{split}/{person}_c{camera}")
    assert made["seed"] is None
    assert [len(records) for _, records in read_table(tmp_path / "mine.csv").splits()] == [2, 2, 2]
    (tmp_path / "mine" / "query").rename(tmp_path / "mine" / "dev")
    message = refused(capsys, "convert", tmp_path / "mine", tmp_path / "two.csv", "--pattern", "{split}/{person}_c{camera}")
    assert "the split 'dev' is none of train, training, query, probe, gallery, test," in message
    (tmp_path / "mine" / "dev").rename(tmp_path / "mine" / "test")
    message = refused(capsys, "convert", tmp_path / "mine", tmp_path / "two.csv", "--pattern", "{split}/{person}_c{camera}")
    assert "images to test and queries or a gallery too" in message


def test_a_folder_to_test_is_divided_and_one_to_validate_on_who_is_trained_on_is_trained_on(tmp_path, capsys):
    for split, people in (("train", (1, 2)), ("val", (1, 2)), ("test", (3, 4))):
        for who in people:
            for frame in (1, 2, 3):
                paint(tmp_path / "mine" / split / str(who) / f"{split}{frame}.png", 10 * who + frame)
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv", "--pattern", "{split}/{person}/*")
    assert made["notes"][0] == "6 images to test or validate show people who are trained on: they are trained on too"
    assert made["seed"] == 0
    assert made["splits"] == {
        "train": {"images": 12, "people": 2},
        "query": {"images": 2, "people": 2},
        "gallery": {"images": 4, "people": 2},
    }
    shutil.rmtree(tmp_path / "mine" / "test")
    message = refused(capsys, "convert", tmp_path / "mine", tmp_path / "two.csv", "--pattern", "{split}/{person}/*")
    assert "nobody of the test is seen twice" in message


def test_a_table_holds_people_out_to_validate_on_who_are_held_out_when_it_is_trained_on(tmp_path, capsys, caplog):
    for who in range(12):
        for camera in ("c1", "c2"):
            for frame in (1, 2):
                paint(tmp_path / "mine" / camera / f"p{who:02d}_{frame}.png", 100 * who + frame)
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv")
    assert not any("held out" in one for one in made["notes"])
    assert made["splits"] == {
        "train": {"images": 16, "people": 4},
        "val": {"images": 8, "people": 2},
        "query": {"images": 12, "people": 6},
        "gallery": {"images": 12, "people": 6},
    }
    assert main(["convert", str(tmp_path / "mine"), str(tmp_path / "again.csv")]) == 0
    assert "  val: 8 images of 2 people\n" in capsys.readouterr().out
    assert not caplog.records, "nothing is told by the name of a draft"
    assert told(capsys, "doctor", tmp_path / "mine.csv", "--quick")["splits"]["val"] == {"images": 8, "people": 2, "cameras": 2}
    data = ImageReIDDataModule(str(tmp_path / "mine.csv"), p=4, k=2, image_size=(32, 16), num_workers=0)
    data.setup("fit")
    query, gallery = data.evaluation_records("val")
    assert (
        {record.pid for record in query}
        == {record.pid for record in gallery}
        == {record.pid for record in read_table(tmp_path / "mine.csv").val}
    )
    assert (len(query), len(gallery), data.num_classes) == (4, 4, 4)
    without = told(capsys, "convert", tmp_path / "mine", tmp_path / "without.csv", "--val_share", 0)
    assert [(split, counts["people"]) for split, counts in without["splits"].items()] == [("train", 6), ("query", 6), ("gallery", 6)]
    half = told(capsys, "convert", tmp_path / "mine", tmp_path / "half.csv", "--val_share", 0.5, "--seed", 3)
    assert (half["splits"]["train"]["people"], half["splits"]["val"]["people"]) == (3, 3)
    assert {one.path for one in read_table(tmp_path / "mine.csv").query} == {one.path for one in read_table(tmp_path / "without.csv").query}
    message = refused(capsys, "convert", tmp_path / "mine", tmp_path / "market", "--val_share", 0.1)
    assert "the Market naming has no part to validate on: give OUT as a .csv, or leave it out" in message
    assert "val_share must be" in refused(capsys, "convert", tmp_path / "mine", tmp_path / "x.csv", "--val_share", 1)
    assert set(told(capsys, "convert", tmp_path / "mine", tmp_path / "market")["splits"]) == {"train", "query", "gallery"}


def test_people_whom_names_tell_to_validate_on_stay_so_where_others_are_tested(tmp_path, capsys):
    for split, people in (("train", (1, 2)), ("val", (3, 4)), ("query", (5,)), ("gallery", (5, 6))):
        for who in people:
            for camera in (1, 2):
                paint(tmp_path / "mine" / split / f"p{who}_c{camera}.png", 10 * who + camera)
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv")
    assert {split: counts["people"] for split, counts in made["splits"].items()} == {"train": 2, "val": 2, "query": 1, "gallery": 2}
    assert {record.pid for record in read_table(tmp_path / "mine.csv").val} == {3, 4}
    made = told(capsys, "convert", tmp_path / "mine", tmp_path / "market")
    assert "4 images to validate on lie among those to train on, for the Market naming has no part for them" in made["notes"]
    assert {record.pid for record in read_market_folder(tmp_path / "market").train} == {1, 2, 3, 4}
    message = refused(capsys, "convert", tmp_path / "mine", tmp_path / "more.csv", "--val_share", 0.1)
    assert "names tell already who is to be validated on" in message
    paint(tmp_path / "mine" / "query" / "p4_c1.png", 1)
    assert "1 people are to be validated on and tested, '4' say" in refused(capsys, "convert", tmp_path / "mine", tmp_path / "both.csv")


@pytest.mark.parametrize(("one", "other"), [("7", "007"), ("Jos\u00e9", "Jose\u0301"), ("anna", "anna ")])
def test_two_people_who_would_be_one_are_refused_and_noticed(one, other, tmp_path, capsys):
    for who in (one, other, "12" if one == "7" else "ben"):
        for camera in (1, 2):
            paint(tmp_path / "mine" / f"c{camera}" / who / "1.png", camera)
    for out in ("mine.csv", "market"):
        message = refused(capsys, "convert", tmp_path / "mine", tmp_path / out, "--pattern", "{camera}/{person}/*")
        assert "would both be" in message
        assert repr(one) in message
        assert repr(other) in message
    assert any("would both be" in note for note in told(capsys, "doctor", tmp_path / "mine", "--quick")["notes"])


def test_what_is_wrong_is_named_with_examples(tmp_path, capsys):
    folder = tmp_path / "mine"
    for who in range(3):
        for camera in range(2):
            paint(folder / f"{who + 1}_c{camera + 1}_1.png", 10 * who + camera)
    (folder / "1_c1_2.png").write_bytes((folder / "1_c1_1.png").read_bytes())
    (folder / "2_c1_3.png").write_bytes((folder / "1_c1_1.png").read_bytes())
    shade = np.asarray(Image.open(folder / "3_c1_1.png")).astype(int)
    Image.fromarray((shade * 0.97).astype(np.uint8)).save(folder / "2_c2_4.png")
    (folder / "3_c2_5.png").write_bytes((folder / "3_c2_1.png").read_bytes()[:60])
    (folder / "3_c2_6.png").touch()
    paint(folder / "3_c2_7.png", 77, size=(60, 40))
    paint(folder / "3_c2_8.png", 78, size=(8, 16))
    problems = told(capsys, "doctor", folder)["problems"]
    expected = [
        ("2 files cannot be read", "3_c2_5.png", "3_c2_6.png", "zero bytes"),
        ("2 files are copies of others, to the byte", "1_c1_2.png"),
        ("1 pictures bear the names of several people", "2_c1_3.png"),
        ("1 groups of pictures of several people look nearly the same", "2_c2_4.png ~ ", "3_c1_1.png"),
        ("1 of 11 pictures are wider than high", "3_c2_7.png"),
        ("1 pictures are smaller than 32 x 12 pixels", "3_c2_8.png"),
    ]
    assert len(problems) == len(expected)
    for problem, parts in zip(problems, expected):
        assert all(part in problem for part in parts), problem
    assert told(capsys, "doctor", folder, "--quick")["problems"] == []


def test_a_group_of_one_look_is_told_once_however_many_it_has(tmp_path, capsys):
    for who in range(3):
        for frame in range(40):
            (tmp_path / "black").mkdir(exist_ok=True)
            Image.new("RGB", (24 + who, 48 + frame)).save(tmp_path / "black" / f"p{who}_{frame:03d}.png")
    found = told(capsys, "doctor", tmp_path / "black")
    (alike,) = [problem for problem in found["problems"] if "look nearly the same" in problem]
    assert alike.startswith("1 groups of pictures of several people look nearly the same: ")
    assert all(f"p{who}_000.png" in alike for who in range(3))
    assert found["sizes"]["nearly the same"] == 120


SEEN = [("train", 1, 1), ("query", 1, 1), ("gallery", 1, 1), ("gallery", 2, 2), ("query", 2, 1)]


def test_people_who_are_trained_on_and_tested_queries_without_a_match_and_clocks_are_noticed(tmp_path, capsys):
    for split, who, camera in SEEN:
        paint(tmp_path / f"{split}_{who}_{camera}.png", 10 * who + camera)
    rows = [f"{split}_{who}_{camera}.png,{who},{camera},{split}" for split, who, camera in SEEN]
    (tmp_path / "table.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
    found = told(capsys, "doctor", tmp_path / "table.csv", "--quick")
    assert found["queries without a match in another camera"] == 1
    assert found["problems"] == ["1 people are trained on and tested: 1"]
    rows = [f"{split}_{who}_{camera}.png,173280723{row},1,train" for row, (split, who, camera) in enumerate(SEEN[:3])]
    (tmp_path / "clocks.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
    problems = told(capsys, "doctor", tmp_path / "clocks.csv", "--quick")["problems"]
    assert problems[0].startswith("the names of people look like clocks, as if the pattern took a time for them: 1732807230, ")
    assert problems[1].startswith("3 of 3 people have a single image")


def test_what_is_passed_over_is_told(street, capsys):
    (street / "notes.txt").touch()
    (street / ".hidden").mkdir()
    notes = told(capsys, "doctor", street, "--quick")["notes"]
    assert any("passed over *.txt, hidden folder .hidden" in note for note in notes)
    made = told(capsys, "convert", street, street.parent / "street.csv")
    assert any("passed over *.txt, hidden folder .hidden" in note for note in made["notes"])


def test_a_folder_with_the_name_of_an_official_set_tells_why_it_is_not_read_as_one(tmp_path, capsys):
    paint(tmp_path / "VIPeR" / "cam_a" / "001_0001.png", 1)
    notes = told(capsys, "doctor", tmp_path / "VIPeR", "--quick")["notes"]
    assert any(note.startswith("it is not read as viper: ") and "cam_b" in note for note in notes)


def test_a_contact_sheet_shows_a_row_a_person(street, tmp_path, capsys):
    found = told(capsys, "doctor", street, "--sheet", tmp_path / "sheet.png")
    assert found["sheet"] == str(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] == 5 * (128 + 14 + 4)
        assert len(sheet.convert("RGB").getcolors(2**20)) > 100
    content = (tmp_path / "sheet.png").read_bytes()
    assert "exists: give another file" in refused(capsys, "doctor", street, "--sheet", tmp_path / "sheet.png")
    assert "must end with .png" in refused(capsys, "doctor", street, "--sheet", tmp_path / "sheet.jpg")
    assert "in which nothing is changed" in refused(capsys, "doctor", street, "--sheet", street / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == content
    for picture in (street / "cam_d").iterdir():
        picture.write_bytes(b"broken")
    found = told(capsys, "doctor", street / "cam_d", "--quick", "--sheet", tmp_path / "none.png")
    assert (found["sheet"], found["images"]) == (None, 9)
    assert not (tmp_path / "none.png").exists()


def test_a_contact_sheet_has_letters_beyond_ascii(tmp_path):
    picture, labels = paint(tmp_path / "a.png", 1), set[bytes]()
    for person in "äöüßéЖ":
        draw_sheet([Seen(str(picture), person=person, camera="1")], tmp_path / f"{person}.png")
        with Image.open(tmp_path / f"{person}.png") as sheet:
            labels.add(sheet.crop((0, 0, 140, 128)).tobytes())
    assert len(labels) == 6  # and not the same box for each


def test_names_that_hold_anything_are_told_on_one_line_and_refused_by_name_where_a_table_cannot_hold_them(tmp_path, capsys):
    folder = tmp_path / "mine"
    for who in ("anna", "ben\nnext: rm -rf", "carl\x1b[2J"):
        for camera in (1, 2):
            paint(folder / f"c{camera}" / who / "1.png", camera)
    (folder / "c1" / "ben\nnext: rm -rf" / "2.png").touch()
    assert main(["doctor", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert not [line for line in out.splitlines() if line.startswith("next: rm")]
    message = refused(capsys, "convert", folder, tmp_path / "mine.csv", "--pattern", "{camera}/{person}/*")
    assert "holds what no table can: rename it" in message
    assert len(message.splitlines()) == 1
    latin = tmp_path / "latin"
    for camera in ("c1", "c2"):
        for who in (b"p1", b"p\xe9"):
            paint(latin / camera / os.fsdecode(who) / "1.png", 1)
    assert main(["doctor", str(latin), "--quick"]) == 0
    assert "2 people" in capsys.readouterr().out
    assert "holds what no table can" in refused(capsys, "convert", latin, tmp_path / "latin.csv", "--pattern", "{camera}/{person}/*")


@pytest.mark.parametrize("damage", ["dangling link", "person 1.0", "large frame"])
def test_a_table_that_could_not_be_read_is_not_made(damage, tmp_path, capsys):
    for who in ("1", "2"):
        for camera in (1, 2):
            paint(tmp_path / "mine" / f"c{camera}" / f"p{who}_{camera}.png", camera)
    match damage:
        case "dangling link":
            (tmp_path / "mine" / "c1" / "p1_9.png").symlink_to(tmp_path / "nowhere.png")
        case "person 1.0":
            paint(tmp_path / "mine" / "c1" / "p1.0_1.png", 1)
        case "large frame":
            paint(tmp_path / "mine" / "c1" / f"p1_{'9' * 30}.png", 1)
    message = refused(capsys, "convert", tmp_path / "mine", tmp_path / "mine.csv", "--pattern", "{camera}/p{person}_{frame}")
    expected = {"dangling link": "not there", "person 1.0": "write 1", "large frame": "has a frame of more than 18 digits"}[damage]
    assert expected in message
    assert not (tmp_path / "mine.csv").exists()


def test_a_link_to_nothing_and_other_tables_are_no_place_for_a_table(street, capsys):
    (street.parent / "link.csv").symlink_to(street.parent / "nowhere" / "x.csv")
    assert "exists: give another OUT" in refused(capsys, "convert", street, street.parent / "link.csv")
    assert "a table is written as .csv" in refused(capsys, "convert", street, street.parent / "people.tsv")


def test_folders_of_splits_without_the_names_of_market_and_folders_that_look_like_a_small_official_set_are_own_names(tmp_path, capsys):
    for split, who in (("train", 1), ("query", 2), ("gallery", 2)):
        for camera in (1, 2):
            paint(tmp_path / "tqg" / split / f"{who}_c{camera}.png", camera)
    assert told(capsys, "doctor", tmp_path / "tqg", "--quick")["what"].endswith("named {split}/{person}_c{camera}")
    for camera in ("cam_a", "cam_b"):
        for who in range(6):
            paint(tmp_path / "shop" / camera / f"{who + 1:03d}_0001.png", who)
    found = told(capsys, "doctor", tmp_path / "shop", "--quick")
    assert found["what"] == "a folder of images of whom names do not tell for sure who they are"
    assert "these fit, --pattern '{camera}/{person}_{frame}', --pattern '{camera}/{frame}_{person}'" in found["notes"][0]
    (tmp_path / "shop").rename(tmp_path / "VIPeR")
    found = told(capsys, "doctor", tmp_path / "VIPeR", "--quick")
    assert (found["what"], found["official"]) == ("the layout of viper", None)
    assert any("official 632" in note for note in found["notes"])
    assert f"--data.dataset viper --data.root {tmp_path} --data.p" in found["next"][0]


@pytest.mark.parametrize(
    "name", ["2024-11-28", "2024_11_28", "20241128", "20241128-1022", "2024-11-28_10-22-33", "1732807234", "20241128102233123"]
)
def test_a_date_is_no_person(name, tmp_path, capsys):
    for who in (1, 2):
        for camera in (1, 2):
            paint(tmp_path / "mine" / name / f"cam{camera}" / f"p{who}_{camera:04d}.png", who)
    assert told(capsys, "doctor", tmp_path / "mine", "--quick")["what"].endswith(f"named {name}/{{camera}}/p{{person}}_{{frame}}")


WHAT_MAKES_A_FOLDER = {
    "model": ["config.json", "model.safetensors"],
    "index": ["embeddings.f16"],
    "sequence": ["seqinfo.ini"],
    "run": ["run.json", "supervised/last.ckpt"],
    "begun": ["run.json"],
    "empty": ["notes.txt"],
}


@pytest.mark.parametrize(
    "kind", ["video", "weights", "model", "index", "sequence", "run", "begun", "excel", "empty", "text", "market", "mars"]
)
def test_everything_else_is_told_by_what_it_is_and_what_it_is_good_for(kind, tmp_path, capsys, market_folder):
    path = tmp_path / kind
    match kind:
        case "video":
            path = film(tmp_path / "door.mp4", 3)
        case "weights":
            (path := tmp_path / "last.ckpt").write_bytes(b"weights")
        case "text":
            (path := tmp_path / "notes.txt").write_text("notes")
        case "market":
            path = market_folder
        case "mars":
            GeneratedTracklets("mars-like", num_train_pids=4, num_test_pids=3, num_distractors=0, frames=(2, 3), height=32, width=16).write(
                path, progress=False
            )
        case "excel":
            (path := tmp_path / "people.xlsx").write_bytes(b"PK")
        case _:
            path.mkdir()
            for name in WHAT_MAKES_A_FOLDER[kind]:
                (path / name).parent.mkdir(exist_ok=True)
                (path / name).touch()
    expected = {
        "video": ("a video", "lightning-reid crops ", 0),
        "weights": ("weights of a network", "lightning-reid embed my_crops/ embeddings.npz --model", 0),
        "model": ("a folder of a network", "lightning-reid embed my_crops/ embeddings.npz --model", 0),
        "index": ("an index of pictures", "lightning-reid search ", 0),
        "sequence": ("a sequence of MOTChallenge", "lightning_reid.datamodules.mot.conversion", 0),
        "run": ("a run of a recipe", "last.ckpt", 0),
        "begun": ("a run of a recipe", None, 1),
        "excel": ("a table of a kind that is not read: save it as UTF-8 (in Excel: 'CSV UTF-8')", None, 1),
        "empty": ("a folder without images", None, 1),
        "text": ("no data: expected a folder, a table or a video", None, 1),
        "market": ("a folder in the Market naming", "lightning-reid train supervised --data.dataset", 0),
        "mars": ("tracklets in the MARS layout", "lightning-reid train video --data.dataset", 0),
    }[kind]
    found = told(capsys, "doctor", path, code=expected[2])
    assert found["what"] == expected[0]
    assert (expected[1] is None) == (not found["next"])
    assert expected[1] is None or expected[1] in found["next"][0]
    assert found["official"] is None
    assert main(["doctor", str(path), "--quick"]) == expected[2]
    assert f"{path}: {expected[0]}" in capsys.readouterr().out


def test_a_video_tells_its_size_and_one_that_cannot_be_read_is_told(tmp_path, capsys):
    found = told(capsys, "doctor", film(tmp_path / "door%d.avi", 6, size=(48, 64), fps=20))
    assert found["video"] == {"width": 64, "height": 48, "frames": 6, "frames a second": 20.0}
    assert main(["doctor", str(tmp_path / "door%d.avi")]) == 0
    assert "  video: width 64, height 48, frames 6, frames a second 20" in capsys.readouterr().out
    (tmp_path / "text.mp4").write_text("no video")
    found = told(capsys, "doctor", tmp_path / "text.mp4", code=1)
    assert (found["what"], found["next"], "video" in found) == ("a video that cannot be read", [], False)


def test_the_next_commands_are_taken_as_they_stand(street, market_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(street.parent)
    told(capsys, "convert", street, "street.csv")
    (tmp_path / "-dash").mkdir()
    for camera in ("c1", "c2"):
        for who in ("anna", "ben ben"):
            paint(tmp_path / "-dash" / camera / who / "1.png", 1)
    videos = [film(tmp_path / name, 3) for name in ("door.mp4", "a=b.mp4")]
    paths = [
        ("street.csv", 3),
        (market_folder, 4),
        (street, 2),
        ("./-dash", 2),
        (street / ".." / "street", 2),
        *((one, 1) for one in videos),
    ]
    for path, number in paths:
        commands = [shlex.split(one) for one in told(capsys, "doctor", path, "--quick")["next"]]
        assert len(commands) == number
        for program, *arguments in commands:
            assert program == "lightning-reid"
            match arguments:
                case ["convert", _, out, *_]:
                    Path(out).unlink(missing_ok=True)
                    assert main([*arguments, "--json"]) == 0
                    following = json.loads(capsys.readouterr().out)["next"]
                    assert main([*shlex.split(following[0])[1:], "--json"]) == 0
                    capsys.readouterr()
                case ["train", preset, *options]:
                    recipe = {"supervised": "supervised_market", "buc": "buc_market", "video": "video_mars"}[preset]
                    import_module(f"lightning_reid.recipes.{recipe}").parse(options)
                case _:
                    assert [Path(one.rpartition("=")[2]).suffix for one in arguments] in (["", "", ".npz"], ["", ".mp4", ""])
                    assert arguments[0] in ("embed", "crops")
    assert "--data.dataset street.csv --data.p 3" in told(capsys, "doctor", "street.csv", "--quick")["next"][0]
    data = ImageReIDDataModule("street.csv", val_identities=0, p=3, k=2)
    data.setup("fit")
    assert data.num_classes == 3


@pytest.mark.parametrize("kind", ["ten people", "three people", "val", "one camera", "nobody"])
def test_of_a_table_without_queries_a_training_is_told_that_validates_on_whom_there_are(kind, tmp_path, capsys, monkeypatch):
    """The options of the command are those with which the data can be set up, and the people of a batch are there."""
    monkeypatch.chdir(tmp_path)
    rows = ["path,pid,camid,split"]
    for who in range(1, 4 if kind == "three people" else 11):
        for camera in (1, 2):
            paint(tmp_path / f"{who}_{camera}.png", 10 * who + camera)
            split = "val" if kind == "val" and who > 7 else "train"
            rows.append(f"{who}_{camera}.png,{-1 if kind == 'nobody' else who},{1 if kind == 'one camera' else camera},{split}")
    Path("t.csv").write_text("\n".join(rows), encoding="utf-8")
    found = told(capsys, "doctor", "t.csv", "--quick")
    assert "it has no images of split query and gallery: nothing can be scored on it" in found["notes"]
    p, more = {
        "ten people": (8, ""),
        "three people": (3, "--data.val_identities 0 --trainer.limit_val_batches 0 "),
        "val": (7, ""),
        "one camera": (10, "--data.val_identities 0 --trainer.limit_val_batches 0 "),
        "nobody": (0, ""),
    }[kind]
    if not p:
        started = "--start_from generated-people-small"
        assert found["next"] == [
            f"lightning-reid train hsr --target t.csv {started}",
            f"lightning-reid train buc --data.dataset t.csv {started}",
        ]
        return
    protocol = "--model.protocol no-camera " if kind == "one camera" else ""
    small, whole = shlex.split(found["next"][0]), shlex.split(found["next"][1])
    assert small[: len(whole) - 2] == whole[:-2]
    assert small[-2:] == ["--trainer.max_epochs", "20"]
    assert found["next"][1] == (
        f"lightning-reid train fit --model SupervisedReID {protocol}--data ImageReIDDataModule --data.dataset t.csv --data.needs_test false"
        f" {more}--data.p {p} --trainer.max_epochs 60"
    )
    data = ImageReIDDataModule("t.csv", needs_test=False, p=p, val_identities=0 if more else 0.1, image_size=(32, 16), num_workers=0)
    data.setup("fit")
    assert data.num_classes == p
    assert more or len(data.evaluation_records("val")[0]) >= 2


def test_what_cannot_be_converted_is_refused_with_the_remedy_and_leaves_nothing(street, tmp_path, capsys):
    out = tmp_path / "people.csv"
    message = refused(capsys, "convert", street, out, "--pattern", "{person}-{camera}.jpg")
    assert "does not fit 17 of 17 images" in message
    assert "cam_d/anna_001.png, cam_d/anna_002.png, cam_d/ben_001.png" in message
    assert "'{camera}/{person}_{frame}' would fit all" in message
    assert "names no {person}" in refused(capsys, "convert", street, out, "--pattern", "{camera}/*")
    assert "there is no folder" in refused(capsys, "convert", tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(capsys, "convert", tmp_path / "empty", out)
    single = tmp_path / "single"
    shutil.copytree(street / "cam_d", single / "cam_d")
    assert "0 of 5 people were seen by two cameras: at least two are needed" in refused(capsys, "convert", single, out)
    elsewhere = tmp_path / "elsewhere" / "people.csv"
    assert f"{street.parent / 'people.csv'} would" in refused(capsys, "convert", street, elsewhere)
    assert "whose images it would become part of" in refused(capsys, "convert", street, street / "market")
    for shape in ("a.png", "x/b.png"):
        paint(tmp_path / "mixed" / shape, 1)
    assert "no pattern can be seen in a.png, x/b.png: they lie at different depths. Tell it, as in --pattern" in refused(
        capsys, "convert", tmp_path / "mixed", out
    )
    out.touch()
    assert f"{out} exists: give another OUT" in refused(capsys, "convert", street, out)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["empty", "mixed", "people.csv", "single", "street"]
    assert "there is nothing at" in refused(capsys, "doctor", tmp_path / "none")


def test_no_verb_prints_numbers_that_json_does_not_have():
    verbs = Path(import_module("lightning_reid.command_line").__file__).parent
    calls = [
        call
        for file in verbs.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "json.dumps"
    ]
    assert len(calls) >= 10
    assert [ast.unparse(call) for call in calls if "allow_nan=False" not in ast.unparse(call)] == []
