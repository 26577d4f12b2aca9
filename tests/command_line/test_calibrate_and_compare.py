"""What the cosine of two pictures means: a calibration is made, kept, found again, and refused where it is another network's."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_reid import from_pretrained
from lightning_reid.command_line.labeled_people import read_strangers
from lightning_reid.command_line.main import main
from lightning_reid.command_line.probability import shown_probability
from lightning_reid.datamodules.generated.people_address import PeopleAddress
from lightning_reid.datamodules.generated.people_data import PeopleData
from lightning_reid.inference import calibration_path, find_calibration, name_with_size, read_calibration, write_calibration
from lightning_reid.metrics import calibrate_similarity
from lightning_reid.networks import shipped_names
from lightning_reid.networks.shipped import FOLDERS

NAME = "generated-people-small"
FEW = "generated-people,people=26,cameras=4,visits=2,shots=1,test_people=2,seed=5"


def told(capsys, *argv: object) -> dict:
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    assert main([*map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model folder without a calibration."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    shutil.copytree(FOLDERS / NAME, folder, ignore=shutil.ignore_patterns("calibration.*"))
    return folder


@pytest.fixture(scope="module")
def calibrated(folder) -> Path:
    """The same with one, made by the verb."""
    beside = folder.with_name("calibrated")
    shutil.copytree(folder, beside)
    assert main(["calibrate", FEW, "--model", str(beside), "--json"]) == 0
    return beside


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> list[str]:
    """Two pictures of one generated person in two cameras, of two sizes, and one of another."""
    paths = [str(tmp_path_factory.mktemp("crops") / f"{number}.png") for number in range(3)]
    for path, (pid, camid), size in zip(paths, ((1, 1), (1, 2), (2, 1)), ((60, 120), (31, 77), (48, 96)), strict=True):
        Image.fromarray(PeopleAddress(9, pid, camid, 0).draw()).resize(size).save(path)
    return paths


def test_a_calibration_is_kept_in_the_model_folder_with_a_picture_and_says_what_it_was_made_of(calibrated, capsys):
    found = read_calibration(calibrated / "calibration.json")
    assert found.data == FEW
    assert sum(found.people) == 28
    assert found.model == name_with_size(from_pretrained(NAME), (128, 64))
    data = PeopleData.named(FEW).read()
    assert found.cameras == len({one.camid for one in (*data.train, *data.query, *data.gallery) if one.pid > 0})
    with Image.open(calibrated / "calibration.png") as picture:
        assert len(picture.convert("L").getcolors()) > 20
    assert "calibration.json exists: give another file" in refused(capsys, "calibrate", FEW, "--model", calibrated)


def test_compare_finds_it_and_gives_a_verdict_and_a_probability_at_the_prior_asked_for(calibrated, crops, capsys):
    unsure = told(capsys, "compare", *crops[:2], "--model", calibrated)  # of generated people it says so, and decides about nobody
    assert (unsure["verdict"], unsure["among generated people"]) == ("unknown", "same")
    assert main(["compare", *crops[:2], "--model", str(calibrated)]) == 0
    assert "unknown: cosine" in (shown := capsys.readouterr().out)
    assert "; among generated people it would be 'same'" in shown
    given = ("--model", calibrated, "--calibration", calibration_path(calibrated))
    same, rare = (told(capsys, "compare", *crops[:2], *given, "--prior", prior) for prior in (0.5, 0.001))
    other = told(capsys, "compare", crops[0], crops[2], *given)
    assert same["probability"] == unsure["probability"]
    assert -1 <= other["cosine"] < same["cosine"] < 1
    assert 0 < other["probability"] < 0.5 < same["probability"] < 1
    odds = [one["probability"] / (1 - one["probability"]) for one in (same, rare)]
    assert odds[0] == pytest.approx(999 * odds[1])
    assert (same["verdict"], other["verdict"]) == ("same", "different")
    assert (same["calibrated on"], same["people"]) == (FEW, [14, 14])
    assert (same["false_match_rate"], same["false_non_match_rate"]) == (0.1, 0.1)  # 14 people can show no less
    assert "generated people" in same["notes"][-1]
    identical = told(capsys, "compare", crops[0], crops[0], "--model", calibrated)
    assert identical["notes"][0] == "both are the same picture, pixel by pixel"


def test_without_a_calibration_there_is_a_cosine_and_the_command_that_makes_one(folder, crops, capsys):
    found = told(capsys, "compare", *crops[:2], "--model", folder)
    assert (found["probability"], found["verdict"]) == (None, "unknown")
    assert f"lightning-reid calibrate DATA --model {folder}" in found["notes"][0]
    assert main(["compare", *crops[:2], "--model", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"unknown: cosine {found['cosine']:.3f}\nnote: there is no probability")


def test_for_people_the_thresholds_are_listed_with_what_they_do_to_others(folder, tmp_path, capsys):
    options = ["--out", str(tmp_path / "c.json"), "--picture", str(tmp_path / "p.png"), "--within_cameras", "--false_match_rates", "0.2"]
    assert main(["calibrate", FEW, "--model", str(folder), *options]) == 0
    out = capsys.readouterr().out
    assert "fitted on 14 people" in out
    assert "    0.2    cosine > " in out
    assert "note: pairs within a camera count" in out
    assert (tmp_path / "p.png").is_file()
    assert (
        main(
            [
                "compare",
                *[str(PeopleAddress(9, 1, camid, 0)) for camid in (1, 2)],
                "--calibration",
                str(tmp_path / "c.json"),
                "--false_match_rate",
                "0.2",
            ]
        )
        == 0
    )
    assert "calibrated on 14 people" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((FEW,), "comes with the library, whose folder is not written to: give --out FILE"),
        ((FEW, "--out", "here.txt"), "here.txt must end with .json"),
        ((FEW, "--out", "here.json", "--picture", "here.jpg"), "here.jpg must end with .png"),
        (
            ("generated-people,people=15,shots=1,test_people=2", "--out", "here.json", "--part", "test"),
            "at least 20 people: this set has 2 ",
        ),
        (("generated-people,people=15,shots=1,test_people=2", "--part", "test"), "at least 20 people: this set has 2 "),
        (("nowhere", "--out", "here.json"), "'nowhere' is neither an existing folder or table nor a known data set"),
        (("generated-people", "--out", "here.json", "--part", "train"), "but 1000 people whom generated-people-small was trained on"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "calibrate", *options)
    assert list(tmp_path.iterdir()) == []


def test_whom_a_network_was_trained_on_is_left_out_where_its_file_tells(tmp_path):
    data = PeopleData(people=30, cameras=2, visits=2, shots=1, test_people=2)
    found = read_strangers(str(data), None, "all", NAME)
    assert {one.pid for one in found.records} == {1_000_001, 1_000_002}
    assert f"left out 30 people whom {NAME} was trained on" in found.notes
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(1)}, "people": {"data": str(data), "pids": [1, 2], "held_out": [3]}}, checkpoint)
    assert {one.pid for one in read_strangers(str(data), None, "train", str(checkpoint)).records} == set(range(3, 31))
    assert len(read_strangers("generated-people,people=2,seed=8", None, "train", str(checkpoint)).notes) == 1  # others, beyond doubt
    torch.save({"state_dict": {"weight": torch.ones(1)}}, checkpoint)
    assert "does not tell whom it was trained on" in read_strangers(str(data), None, "all", str(checkpoint)).notes[-1]


def test_numbers_that_both_parts_have_may_be_two_people_or_one(tmp_path):
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        rows = [("path", "pid", "camid", "split"), ("a.png", 1, 1, "train"), ("b.png", 1, 2, "query"), ("c.png", 1, 1, "gallery")]
        csv.writer(file).writerows(rows)
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 16)).save(tmp_path / name)
    with pytest.raises(ValueError, match="1 people of the training part have the numbers of people of the test part"):
        read_strangers(str(tmp_path / "mine.csv"), None, "all", NAME)
    assert [Path(one.path).name for one in read_strangers(str(tmp_path / "mine.csv"), None, "test", NAME).records] == ["b.png", "c.png"]
    torch.save({"weight": torch.ones(1), "people": {"data": "shop", "pids": [1], "held_out": []}}, tmp_path / "last.ckpt")
    notes = read_strangers(str(tmp_path / "mine.csv"), None, "test", str(tmp_path / "last.ckpt")).notes
    assert "was trained on shop: were these the same people under another name" in notes[-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.png", "there is no picture"),
        ("text.png", "cannot decode"),
        ("folder", "is a folder: give one picture of it"),
        ("street.png", "is 160 pixels wide and 90 high, which no crop of one person is: cut the person out"),
    ],
)
def test_what_is_no_crop_is_refused_by_name(name, message, crops, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (160, 90)).save(tmp_path / "street.png")
    told_of = refused(capsys, "compare", crops[0], tmp_path / name)
    assert message in told_of
    assert str(tmp_path / name) in told_of


def test_a_calibration_of_another_network_is_refused_by_name(calibrated, tmp_path, crops, capsys):
    content = read_calibration(calibrated / "calibration.json")
    assert find_calibration(calibrated, content.model) == content
    with pytest.raises(
        ValueError, match=r"calibration\.json is of another network, 'weights [0-9a-f]+ at 128x64'.* are of weights 1 at 8x4"
    ):
        find_calibration(calibrated, "weights 1 at 8x4")
    other = tmp_path / "calibration.json"
    rows = torch.randn(80, 8, generator=torch.Generator().manual_seed(0)), torch.arange(80) // 4, torch.arange(80) % 2
    write_calibration(other, calibrate_similarity(*rows, model="weights 1 at 8x4", data="d"))
    message = refused(capsys, "compare", *crops[:2], "--calibration", other)
    assert "is of another network, 'weights 1 at 8x4'" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told | {"seed": 1}, "was changed since it was made"),
        (lambda told: told | {"evidence": told["evidence"][::-1]}, "the evidence must not fall"),
        (lambda told: told | {"evidence": [float("nan"), *told["evidence"][1:]]}, "evidence must be a number"),
        (lambda told: told | {"similarities": told["similarities"][1:]}, "each with its evidence"),
        (lambda told: told | {"people": [10]}, "people must be how many"),
        (lambda told: told | {"match": [{"rate": 0.1}]}, "holds no calibration"),
        (lambda told: told | {"match": ["0.1"]}, "holds no calibration"),
        (lambda told: told | {"model": 7}, "holds 7 as 'model'"),
        (lambda told: {"backbone": "resnet18"}, "it was edited or is not of this library"),
        (lambda told: [told], "expected a JSON object"),
    ],
)
def test_a_file_that_is_no_calibration_or_was_changed_is_refused(change, message, calibrated, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(change(json.loads((calibrated / "calibration.json").read_text()))))
    with pytest.raises(ValueError, match=message) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)
    assert "lightning-reid calibrate" in str(caught.value)


def test_where_a_calibration_is_kept(folder):
    assert calibration_path("run/last.ckpt") == Path("run/last.calibration.json")
    assert calibration_path("run/last.onnx") == Path("run/last.onnx.calibration.json")
    assert calibration_path(folder) == folder / "calibration.json"
    assert find_calibration(folder, "any") is None


@pytest.mark.parametrize("name", shipped_names())
def test_the_calibration_of_a_shipped_network_is_its_own_and_of_people_it_was_not_trained_on(name):
    network = from_pretrained(name)
    assert network.image_size is not None
    found = find_calibration(name, name_with_size(network, network.image_size))
    assert found is not None, f"make one: see the end of {FOLDERS / name / 'README.md'}"
    people, trained = PeopleData.named(found.data), PeopleData.named(json.loads((FOLDERS / name / "config.json").read_text())["trained_on"])
    assert people is not None
    assert trained is not None
    assert people.seed != trained.seed
    assert min(found.people) >= 100
    assert found.calibration_error <= 0.05
    assert f"lightning-reid calibrate {found.data} " in (FOLDERS / name / "README.md").read_text()


def test_an_exported_file_has_the_calibration_of_the_checkpoint_beside_it(tmp_path):
    calibration = read_calibration(calibration_path("generated-people-small"))
    write_calibration(tmp_path / "last.calibration.json", calibration)
    assert find_calibration(tmp_path / "people.onnx", calibration.model) == calibration
    assert find_calibration(tmp_path / "people.onnx", "another at 128x64") is None
    write_calibration(tmp_path / "people.onnx.calibration.json", replace(calibration, model="another at 128x64"))
    with pytest.raises(ValueError, match="is of another network"):
        find_calibration(tmp_path / "people.onnx", calibration.model)


def test_no_probability_is_shown_as_certain():
    assert [shown_probability(one) for one in (0.99998, 0.5, 0.0012, 1e-9)] == ["> 0.999", "0.5", "0.0012", "< 0.001"]


def test_who_stops_a_command_reads_a_sentence(capsys, monkeypatch):
    monkeypatch.setattr("lightning_reid.command_line.compare.run", raises_interrupt)
    assert main(["compare", "a.jpg", "b.jpg"]) == 130
    assert "lightning-reid compare: stopped." in capsys.readouterr().err


def raises_interrupt(cfg) -> int:
    raise KeyboardInterrupt
