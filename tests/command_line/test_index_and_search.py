"""Pictures in an index on the disk, found again by what somebody types."""

from __future__ import annotations

import csv
import json
import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_reid.command_line import search as search_verb
from lightning_reid.command_line.main import main
from lightning_reid.inference import (
    EmbeddedImages,
    EmbeddingPass,
    calibration_path,
    find_crops,
    load_network,
    read_calibration,
    write_embedding_parts,
)
from lightning_reid.metrics import probability_of, verdict_of
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.search_index import IndexRow, add_rows, create_index, write_index

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
PATTERN = ("--pattern", "{camera}/{person}_{frame}")
GRAY = {"anna": 40, "ben": 100, "carl": 160, "7": 220}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    network = EmbeddingNetwork(build_backbone(TINY["backbone"], **TINY["backbone_options"]))
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("model") / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": TINY}, path)
    return path


@pytest.fixture(scope="module")
def options(checkpoint) -> tuple[str, ...]:
    return "--model", str(checkpoint), "--image_size", "32x16", "--device", "cpu", "--quiet"


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """Four people in two cameras, two pictures each, whose clothes differ in where they are bright."""
    folder = tmp_path_factory.mktemp("pictures") / "street"
    for who, gray in GRAY.items():
        pattern = np.random.default_rng(gray).integers(0, 256, (4, 2, 3))
        for number, (camera, frame) in enumerate((camera, frame) for camera in ("door", "yard") for frame in (1, 2)):
            path = folder / camera / f"{who}_{frame:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(1000 * gray + number).integers(0, 25, (4, 2, 3))
            Image.fromarray(np.clip(pattern + noise, 0, 255).astype(np.uint8)).resize((16, 32), Image.Resampling.NEAREST).save(path)
    return folder


@pytest.fixture(scope="module")
def made(street, options, tmp_path_factory) -> Path:
    index = tmp_path_factory.mktemp("made") / "people.index"
    assert main(["index", "add", str(index), str(street), *PATTERN, *options, "--json"]) == 0
    return index


@pytest.fixture
def index(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "people.index")


def told(capsys, *argv: object, code: int = 0) -> dict:
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    capsys.readouterr()
    assert main([*map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_embeddings_of_a_folder_are_those_of_the_library_and_load_without_pickle(street, checkpoint, options, tmp_path, capsys):
    out = tmp_path / "street.npz"
    found = told(capsys, "embed", street / "door", street / "yard" / "anna_001.png", out, *options, "--batch_size", 4)
    assert (found["images"], found["left out"], found["dimension"], found["notes"]) == (9, 0, 16, [])
    expected = EmbeddingPass((32, 16), batch_size=4, device="cpu", quiet=True).run(
        load_network(checkpoint), find_crops([street / "door", street / "yard" / "anna_001.png"])
    )
    with np.load(out, allow_pickle=False) as content:
        assert content["paths"].tolist() == list(expected.paths)
        np.testing.assert_array_equal(content["embeddings"], expected.embeddings.numpy())
    assert f"{out} exists: give another OUT" in refused(capsys, "embed", street, out, *options)
    assert "must end with .npz" in refused(capsys, "embed", street, tmp_path / "out", *options)
    assert list(tmp_path.iterdir()) == [out]


def test_unreadable_pictures_end_a_pass_by_name_or_are_counted(street, options, tmp_path, capsys):
    shutil.copytree(street / "door", tmp_path / "door")
    (tmp_path / "door" / "zoe_001.png").write_text("no picture")
    assert "zoe_001.png is no readable image" in refused(capsys, "embed", tmp_path / "door", tmp_path / "a.npz", *options)
    found = told(capsys, "embed", tmp_path / "door", tmp_path / "a.npz", *options, "--unreadable", "skip")
    assert (found["images"], found["left out"]) == (8, 1)
    assert "left out 1 of 9 images that cannot be read" in found["notes"][0]
    added = told(capsys, "index", "add", tmp_path / "i", tmp_path / "door", *options, "--unreadable", "skip")
    assert (added["added"], added["left out"]) == (8, 1)


def test_the_file_of_embeddings_holds_one_part_at_a_time(tmp_path):
    parts = [weakref.ref(torch.eye(3))]

    def drawn():
        for number in range(5):
            assert sum(part() is not None for part in parts) <= 1
            embeddings = torch.full((2, 3), float(number))
            parts.append(weakref.ref(embeddings))
            yield EmbeddedImages((f"{number}.jpg", os.fsdecode(b"\xff.jpg")), embeddings)

    assert write_embedding_parts(tmp_path / "parts.npz", drawn()) == (10, 3)
    with np.load(tmp_path / "parts.npz", allow_pickle=False) as content:
        assert content["embeddings"][:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert content["paths"][:2].tolist() == ["0.jpg", os.fsdecode(b"\xff.jpg")]
    with pytest.raises(ValueError, match="expected embeddings of one length"):
        write_embedding_parts(tmp_path / "two.npz", [EmbeddedImages(("a",), torch.eye(2)[:1]), EmbeddedImages(("b",), torch.eye(3)[:1])])
    assert [file.name for file in tmp_path.iterdir()] == ["parts.npz"]


def test_an_index_shows_whom_its_names_say(made, capsys):
    found = told(capsys, "index", "show", made)
    assert (found["pictures"], found["people"], found["cameras"]) == (16, 4, {"door": 8, "yard": 8})
    assert found["model"].endswith(" at 32x16")
    assert (found["first"], found["without a time"], found["holes"]) == (None, 16, 0)


def test_a_query_finds_its_person_but_never_its_own_file(made, street, options, capsys):
    query = street / "door" / "ben_001.png"
    found = told(capsys, "search", made, "--query", query, "--top", 3, *options)
    assert (found["searched"], found["approximately"]) == (16, [])
    (answers,) = (one["answers"] for one in found["queries"])
    assert [one["rank"] for one in answers] == [1, 2, 3]
    assert [one["person"] for one in answers] == ["ben"] * 3
    assert str(query) not in [one["path"] for one in answers]
    assert answers[0]["similarity"] >= answers[1]["similarity"] >= answers[2]["similarity"] > 0.5
    assert found["notes"] == ["similarity only: no calibration for this model (lightning-reid calibrate)"]
    assert {one["probability"] for one in answers} == {None}


def test_filters_come_before_the_nearest_and_leave_nothing_aloud(made, street, options, capsys):
    query = ("--query", street / "door" / "ben_001.png", *options)
    (found,) = told(capsys, "search", made, *query, "--camera", "yard", "--person", "carl", "7", "--top", 9)["queries"]
    assert {(one["camera"], one["person"]) for one in found["answers"]} == {("yard", "carl"), ("yard", "7")}
    assert len(found["answers"]) == 4
    empty = told(capsys, "search", made, *query, "--camera", "attic", code=1)
    assert empty["queries"][0]["answers"] == []
    assert f"{made} has no camera attic: it has door, yard" in empty["notes"]
    assert main(["search", str(made), *map(str, query), "--since", "5"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert f"nothing is found for {query[1]}" in printed
    assert "16 of 16 rows" in printed


def test_times_given_for_all_pictures_can_be_filtered_by(street, options, tmp_path, capsys):
    for camera, when in (("door", 10), ("yard", 20.5)):
        added = told(capsys, "index", "add", tmp_path / "i", street / camera, "--camera", camera, "--time", when, *options)
        assert added["added"] == 8
    shown = told(capsys, "index", "show", tmp_path / "i")
    assert (shown["first"], shown["last"], shown["of nobody who is named"]) == (10, 20.5, 16)
    query = ("--query", street / "door" / "ben_001.png", "--top", 99, *options)
    for limits, cameras in ((("--since", 10.5), {"yard"}), (("--until", 10), {"door"}), (("--since", 10, "--until", 30), {"door", "yard"})):
        (found,) = told(capsys, "search", tmp_path / "i", *query, *limits)["queries"]
        assert {one["camera"] for one in found["answers"]} == cameras


def test_shards_are_searched_as_one_and_answers_tell_theirs(made, street, options, tmp_path, capsys):
    for camera in ("door", "yard"):
        told(capsys, "index", "add", tmp_path / camera, street / camera, "--pattern", "{person}_*", "--camera", camera, *options)
    query = ("--query", street / "door" / "anna_002.png", street / "yard", "--top", 6, *options)
    whole, shards = (told(capsys, "search", *folders, *query)["queries"] for folders in ([made], [tmp_path / "door", tmp_path / "yard"]))
    assert len(whole) == 9

    def answers(queries):
        return [[{**one, "index": ""} for one in query["answers"]] for query in queries]

    assert answers(whole) == answers(shards)
    assert {one["index"] for query in shards for one in query["answers"]} == {str(tmp_path / "door"), str(tmp_path / "yard")}


def test_answers_are_written_as_a_table_and_drawn(made, street, options, tmp_path, capsys):
    outputs = ("--out", tmp_path / "new" / "answers.csv", "--picture", tmp_path / "answers.png")
    found = told(capsys, "search", made, "--query", street, "--top", 2, *outputs, *options)
    with (tmp_path / "new" / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    first = found["queries"][0]
    assert (rows[0]["query"], rows[0]["path"], rows[0]["person"]) == (first["path"], first["answers"][0]["path"], "7")
    with Image.open(tmp_path / "answers.png") as picture:
        assert picture.height > 10 * 192
        assert picture.width > 3 * 96
    assert f"{tmp_path / 'answers.png'} has room for 10 of 16 queries, the first" in found["notes"]
    assert "--picture: " in refused(capsys, "search", made, "--query", street, "--picture", tmp_path / "answers.png", *options)
    assert "must end with .csv" in refused(capsys, "search", made, "--query", street, "--out", tmp_path / "answers", *options)


def test_a_calibration_makes_probabilities_of_similarities(made, street, options, capsys, monkeypatch):
    shipped = read_calibration(calibration_path("generated-people-small"))
    monkeypatch.setattr(search_verb, "find_calibration", lambda source, model: replace(shipped, model=model))
    query = street / "door" / "ben_001.png"
    unsure = told(capsys, "search", made, "--query", query, *options)
    assert {answer["probability"] for answer in unsure["queries"][0]["answers"]} == {None}
    assert "is of generated people, and of real ones far too sure" in unsure["notes"][0]
    monkeypatch.setattr(search_verb, "of_model", lambda path, model: replace(shipped, model=model))
    options = (*options, "--calibration", "of_generated_people.json")
    found = told(capsys, "search", made, "--query", query, *options)
    answers = found["queries"][0]["answers"]
    similarities = torch.tensor([answer["similarity"] for answer in answers], dtype=torch.float64).clamp(-1, 1)
    expected = probability_of(similarities, shipped, 0.5).tolist()
    assert [answer["probability"] for answer in answers] == pytest.approx(expected, abs=1e-3)
    assert [answer["verdict"] for answer in answers] == [verdict_of(float(one), shipped) for one in similarities]
    assert found["notes"] == ["calibrated on generated people: of real ones it is far too sure; calibrate on people of your own cameras"]
    rare = told(capsys, "search", made, "--query", query, "--prior", "0.001", *options)["queries"][0]["answers"]
    assert rare[0]["probability"] < answers[0]["probability"]
    assert rare[0]["verdict"] == answers[0]["verdict"]
    assert "with mirror images" in refused(capsys, "search", made, "--query", query, *options[:-2], "--flip")
    assert "--prior must be" in refused(capsys, "search", made, "--query", query, *options, "--prior", "1")


def test_adding_again_replaces_and_removed_or_forgotten_pictures_are_found_no_more(index, street, options, capsys):
    again = told(capsys, "index", "add", index, street / "yard", "--pattern", "{person}_{frame}", "--camera", "roof", *options)
    assert (again["added"], again["of them replaced"]) == (8, 8)
    assert told(capsys, "index", "show", index)["cameras"] == {"door": 8, "roof": 8}
    assert told(capsys, "index", "remove", index, street / "yard", street / "door" / "carl_001.png")["removed"] == 9
    assert told(capsys, "index", "forget", index, "ben")["forgotten pictures"] == 2
    (found,) = told(capsys, "search", index, "--query", street / "yard" / "ben_001.png", "--top", 99, *options)["queries"]
    left = {"7_001.png", "7_002.png", "anna_001.png", "anna_002.png", "carl_002.png"}
    assert {Path(one["path"]).name for one in found["answers"]} == left
    assert "nobody 'bem' in" in refused(capsys, "index", "forget", index, "bem")
    missing = refused(capsys, "index", "remove", index, street / "door" / "7_001.png", street / "cellar")
    assert f"has no picture {street / 'cellar'}, and none in a folder of that name: nothing was removed" in missing
    assert told(capsys, "index", "show", index)["pictures"] == 5


def test_a_table_tells_who_is_seen_where_and_a_guess_is_not_taken(street, options, tmp_path, capsys):
    told(capsys, "convert", street, street.parent / "people.csv", *PATTERN)
    added = told(capsys, "index", "add", tmp_path / "table", street.parent / "people.csv", *options)
    assert (added["added"], added["people"], added["cameras"]) == (16, 4, 2)
    guess = told(capsys, "index", "add", tmp_path / "names", street, *options)
    assert (guess["added"], guess["people"], guess["cameras"]) == (16, 0, 0)
    assert "--pattern '{camera}/*_{person}'" in guess["notes"][-1]


def test_two_tables_keep_the_names_of_their_people(street, options, tmp_path, capsys):
    index = tmp_path / "both.index"
    for table, who in (("a", ("anna", "ben")), ("b", ("carl", "7"))):
        rows = [f"{street}/door/{name}_001.png,{name},door,train" for name in who]
        (tmp_path / f"{table}.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
        for name in who:
            (tmp_path / f"{name}.png").write_bytes((street / "door" / f"{name}_001.png").read_bytes())
        content = (tmp_path / f"{table}.csv").read_text().replace(f"{street}/door/", "").replace("_001.png", ".png")
        (tmp_path / f"{table}.csv").write_text(content)
        told(capsys, "index", "add", index, tmp_path / f"{table}.csv", *options)
    shown = told(capsys, "index", "show", index)
    assert (shown["people"], shown["cameras"]) == (4, {"door": 4}) or set(shown["people"]) == {"anna", "ben", "carl", "7"}
    assert told(capsys, "index", "forget", index, "anna")["forgotten pictures"] == 1


def test_a_folder_that_convert_made_keeps_the_names_of_its_people(street, options, tmp_path, capsys):
    told(capsys, "convert", street, tmp_path / "market", *PATTERN)
    told(capsys, "index", "add", tmp_path / "i", tmp_path / "market", *options)
    assert told(capsys, "index", "forget", tmp_path / "i", "anna")["forgotten pictures"] == 4
    assert told(capsys, "index", "show", tmp_path / "i")["cameras"] == {"door": 6, "yard": 6}


def test_somebody_may_be_called_null_and_a_time_of_day_is_no_number(street, options, tmp_path, capsys):
    picture = street / "door" / "ben_001.png"
    told(capsys, "index", "add", tmp_path / "i", picture, "--person", "null", "--camera", "~", "--time", "12.5", *options)
    (answer,) = told(capsys, "search", tmp_path / "i", "--query", street / "yard" / "ben_001.png", *options)["queries"][0]["answers"]
    assert (answer["person"], answer["camera"], answer["time"]) == ("null", "~", 12.5)
    for time in ("12:30:00", "0x10", "nan", "1e999", "soon"):
        with pytest.raises(SystemExit, match="2"):
            main(["index", "add", str(tmp_path / "i"), str(picture), "--time", time])
        assert "expected a number of seconds" in capsys.readouterr().err


def test_what_was_found_is_told_also_where_a_picture_is_gone(index, street, options, tmp_path, capsys):
    moved = shutil.copytree(street, tmp_path / "moved")
    told(capsys, "index", "add", tmp_path / "i", moved, *PATTERN, *options)
    shutil.rmtree(moved)
    query = street / "door" / "ben_001.png"
    assert main(["search", str(tmp_path / "i"), "--query", str(query), "--picture", str(tmp_path / "a.png"), *options]) == 1
    captured = capsys.readouterr()
    assert "ben_001.png" in captured.out
    assert "cannot read" in captured.err


def test_one_person_has_one_name_whoever_else_is_added(street, options, tmp_path, capsys):
    for names in (("007", "12"), ("7", "0")):
        folder = tmp_path / names[0]
        folder.mkdir()
        for name in names:
            shutil.copy(street / "door" / "7_001.png", folder / f"{name}_1.png")
        told(capsys, "index", "add", tmp_path / "i", folder, "--pattern", "{person}_*", *options)
    assert told(capsys, "index", "forget", tmp_path / "i", "7")["forgotten pictures"] == 2


def test_what_cannot_be_added_is_refused_before_anything_is_made(street, options, tmp_path, capsys):
    index = tmp_path / "i"
    cases = (
        ((tmp_path / "none",), "there is no file or folder"),
        ((street, *PATTERN, "--camera", "attic"), "--camera attic is given, and "),
        ((street, "--pattern", "{person}-{camera}"), "does not fit 16 of 16 images"),
        ((tmp_path,), "is a folder without images: expected image files"),
    )
    for given, message in cases:
        assert message in refused(capsys, "index", "add", index, *given, *options)
    assert not index.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    assert "is no index: it has no index.sqlite" in refused(capsys, "index", "add", tmp_path / "other", street, *options)


def test_embeddings_of_another_size_are_another_model(index, street, options, capsys):
    query = ("--query", street / "door" / "ben_001.png")
    other = tuple("64x32" if one == "32x16" else one for one in options)
    for argv in (("search", index, *query), ("index", "add", index, street)):
        error = refused(capsys, *argv, *other)
        assert "at 32x16, and cannot be compared with those of" in error
        assert "at 64x32: give the --model and --image_size that it was made with" in error
    assert told(capsys, "index", "show", index)["pictures"] == 16


def test_speed_tells_what_is_found_and_forgetting_that_it_is_gone(tmp_path, capsys, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr("lightning_reid.search_index.fast.FEWEST", 1000)
    create_index(tmp_path / "i", "some network", 16)
    with write_index(tmp_path / "i") as index:
        rows = [IndexRow(f"/crops/{row}.jpg", person="ben" if row else "anna") for row in range(1200)]
        add_rows(index, rows, torch.randn(1200, 16, generator=torch.Generator().manual_seed(0)))
    built = told(capsys, "index", "speed", tmp_path / "i")
    assert (built["rows"], built["lists"]) == (1200, 32)
    assert built["recall"] > 0.9  # all lists of so few are looked into
    assert told(capsys, "index", "show", tmp_path / "i")["in the file for approximate search"] == 1200
    forgotten = told(capsys, "index", "forget", tmp_path / "i", "anna")
    assert "the file for approximate search is removed" in forgotten["notes"][0]
    assert told(capsys, "index", "show", tmp_path / "i")["in the file for approximate search"] == 0


def test_too_small_an_index_needs_no_approximate_search(index, capsys):
    pytest.importorskip("faiss")
    assert "has 16 rows, which are searched exactly in no time" in refused(capsys, "index", "speed", index)
