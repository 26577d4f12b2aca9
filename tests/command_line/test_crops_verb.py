"""From videos to crops: what ``lightning-reid crops`` leaves, and what it says of videos that show nobody."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from importlib import import_module
from pathlib import Path
from urllib.error import URLError

import pytest
from constant_detector import write_people_onnx
from filmed import STEP, film
from jsonargparse import ArgumentParser
from PIL import Image

from lightning_reid.command_line.crops import build_parser
from lightning_reid.command_line.filming import Film, good_tracklets
from lightning_reid.command_line.main import main
from lightning_reid.datamodules.mot.crops import CropRules
from lightning_reid.datamodules.mot.sequence import PEDESTRIAN, MotBox
from lightning_reid.datamodules.readers import read_mars_folder, read_tracklet_table
from lightning_reid.detection import OnnxDetector
from lightning_reid.recipes.workshop.live_parts import add_camera_options

SMALL = ["--min_height=20", "--max_distance=0"]


@pytest.fixture(scope="module")
def people_onnx(tmp_path_factory) -> str:
    """A detector that sees somebody in the middle of every picture."""
    return str(write_people_onnx(tmp_path_factory.mktemp("detector") / "people.onnx"))


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory, people_onnx) -> tuple[Path, list[str]]:
    """The folder of two videos of 20 and 12 frames, and the arguments that made it."""
    root = tmp_path_factory.mktemp("videos")
    door, yard = film(root / "door.mp4", 20), film(root / "yard.mp4", 12, first=5)
    cut = ["--max_frames=10", "--images_per_tracklet=3", "--start", "door=2024-05-01T10:00:00"]
    arguments = ["crops", str(door), f"back yard={yard}", str(root / "crops"), f"--detector={people_onnx}", *SMALL, *cut]
    assert main(arguments) == 0
    return root / "crops", arguments


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys, *argv: object) -> str:
    assert main(["crops", *map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_each_video_becomes_a_camera_and_long_tracks_are_cut_into_equal_tracklets(two_cameras):
    folder, _ = two_cameras
    tracklets = read_mars_folder(folder, needs_test=False)
    # a track has no number in its first frame, in which nothing tells it from a fault of the detector
    assert [(one.camid, len(one.paths)) for one in tracklets.train] == [(1, 10), (1, 9), (2, 6), (2, 5)]
    assert (tracklets.query, tracklets.gallery) == ((), ())
    table = read_tracklet_table(folder / "tracklets.csv", needs_test=False)
    assert [(one.camid, one.frame, len(one.paths)) for one in table.train] == [(1, 1, 10), (1, 11, 9), (2, 1, 6), (2, 7, 5)]
    assert [[Path(path).name for path in one.paths] for one in table.train] == [
        [Path(path).name for path in one.paths] for one in tracklets.train
    ]


def test_nobody_is_identified(two_cameras):
    folder, _ = two_cameras
    tracklets = read_mars_folder(folder, needs_test=False)
    assert {one.pid for one in tracklets.train} == {-1}
    assert "4 of 4 training records show nobody" in tracklets.notes[0]
    assert {row["pid"] for name in ("tracklets.csv", "images.csv") for row in rows_of(folder / name)} == {"-1"}


def test_the_doctor_knows_the_folder_and_its_next_commands_are_taken_as_they_stand(two_cameras, capsys):
    folder, _ = two_cameras
    embedded = [f"lightning-reid embed {folder}/bbox_train crops.npz"]  # without the contact sheet
    for path, others in ((folder, embedded), (folder / "images.csv", [])):
        assert main(["doctor", str(path), "--quick", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["splits"] == {"train": {"images": told["images"], "people": 0, "cameras": 2, "unknown": told["images"]}}
        commands = [shlex.split(one) for one in told["next"][:2]]
        assert told["next"][2:] == others
        assert [command[:3] for command in commands] == [["lightning-reid", "train", "hsr"], ["lightning-reid", "train", "buc"]]
        for command, recipe in zip(commands, ("hsr_duke2market", "buc_market"), strict=True):
            import_module(f"lightning_reid.recipes.{recipe}").parse(command[3:])


def test_a_crop_is_the_box_of_its_frame_with_camera_time_and_clock(two_cameras):
    folder, _ = two_cameras
    for row in rows_of(folder / "tracklets.csv"):
        first = 0 if row["camera"] == "door" else 5
        shade = Image.open(folder / row["path"]).convert("L").resize((1, 1)).getpixel((0, 0))
        assert shade == pytest.approx((int(row["frame"]) + first) * STEP % 250, abs=5)
        assert float(row["time"]) == pytest.approx(int(row["frame"]) / 20)
        assert Image.open(folder / row["path"]).size == (int(row["x1"]) - int(row["x0"]), int(row["y1"]) - int(row["y0"])) == (32, 24)
    rows = {(row["camera"], row["frame"]): row["clock"] for row in rows_of(folder / "tracklets.csv")}
    assert rows["door", "19"] == "2024-05-01T10:00:00.950"
    assert rows["back yard", "11"] == ""


def test_images_are_evenly_spread_over_each_tracklet(two_cameras):
    images = rows_of(two_cameras[0] / "images.csv")
    assert [row["frame"] for row in images if row["tracklet"] == "c1t0001"] == ["1", "5", "10"]
    assert len(images) == 4 * 3


def test_a_sheet_shows_a_row_a_tracklet(two_cameras):
    width, height = Image.open(two_cameras[0] / "sheet.png").size
    assert (width, height) == (140 + 8 * 68, 4 * 146)


def test_the_same_videos_give_the_same_bytes(two_cameras, tmp_path):
    folder, arguments = two_cameras
    assert main([str(tmp_path / "again") if one == str(folder) else one for one in arguments]) == 0
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != "crops.json"}
    assert len(files) == 30 + 5 + 3
    assert all((folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


def test_it_tells_a_camera_what_was_left_out_and_the_next_commands(tmp_path, people_onnx, capsys):
    door = film(tmp_path / "door.mp4", 20)
    assert main(["crops", str(door), str(tmp_path / "out"), f"--detector={people_onnx}", *SMALL, "--every=2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cameras"] == {
        "door": {"camid": 1, "frames": 20, "looked_at": 10, "damaged": 0, "boxes": 10, "left_out": {"not_tracked": 1}, "tracklets": 1}
        | {"crops": 9}
    }
    assert told["detector"] == OnnxDetector(people_onnx).name
    assert told["next"][1].startswith("lightning-reid train hsr --target ")
    assert json.loads((tmp_path / "out" / "crops.json").read_text()) == told
    assert [row["frame"] for row in rows_of(tmp_path / "out" / "tracklets.csv")] == [str(number) for number in range(2, 20, 2)]


def test_one_of_several_videos_without_people_is_named(tmp_path, people_onnx, capsys):
    videos = film(tmp_path / "door.mp4", 20), film(tmp_path / "short.mp4", 3)
    assert main(["crops", *map(str, videos), str(tmp_path / "out"), f"--detector={people_onnx}", *SMALL]) == 0
    assert "notes: no tracklet of short" in capsys.readouterr().out


def test_who_is_hidden_by_a_nearer_person_low_or_short_is_left_out_and_counted():
    def walk(track: int, frames: range, x: float, height: float = 60) -> list[MotBox]:
        return [MotBox(number, track, x, 10, 20, height, True, PEDESTRIAN, None) for number in frames]

    # 2 is nearer, as its feet are lower, and covers three quarters of 1 in four of ten frames; 3 is low, 4 short, 5 was lost for a while
    boxes = walk(1, range(10), 0) + walk(2, range(6, 10), 5, 70) + walk(3, range(10), 100, 20) + walk(4, range(3), 150)
    film = Film(7, (200, 100), boxes + walk(5, range(0, 10, 3), 180), num_frames=10)
    tracklets, left_out = good_tracklets(film, CropRules(min_height=40, min_visibility=0.6, min_frames=4), padding=0.1)
    assert [[crop.frame for crop in one] for one in tracklets] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [0, 3, 6, 9]]
    assert left_out == {"hidden": 4, "too low": 10, "in a short run": 3}
    first = tracklets[0][0]
    assert (first.x0, first.y0, first.x1, first.y1) == (0, 4, 22, 76)  # a tenth more on every side, within the picture
    assert {(crop.pid, crop.camid) for one in tracklets for crop in one} == {(-1, 7)}


def test_opencvs_detector_finds_nobody_in_gray_pictures_and_the_remedy_is_told(tmp_path, capsys):
    said = refused(capsys, film(tmp_path / "gray.mp4", 2), tmp_path / "out")
    assert "nobody was found in 2 frames of gray by OpenCV's people detector, which is weak" in said
    assert "--detector" in said
    assert not (tmp_path / "out").exists()


def test_videos_of_too_few_frames_tell_why_no_tracklet_is_left(tmp_path, people_onnx, capsys):
    said = refused(capsys, film(tmp_path / "door.mp4", 5), tmp_path / "out", f"--detector={people_onnx}", *SMALL)
    assert "no tracklet is left of 5 boxes in 5 frames (door: 1 not tracked, 4 in short tracks): lower --min_frames (8)" in said


def test_frames_too_far_apart_are_told_with_the_seconds_between_them(tmp_path, people_onnx, capsys):
    long, short = film(tmp_path / "long.mp4", 60), film(tmp_path / "short.mp4", 20)
    options = [f"--detector={people_onnx}", *SMALL, "--every=6"]
    assert main(["crops", str(long), str(short), str(tmp_path / "out"), *options, "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert notes[1] == "one tracklet may hold two people where they crossed: look at the sheet"
    assert notes[-3:] == [
        "long: 0.3 s lie between the frames that were looked at: people may move too far."
        " Look at every frame, or give a smaller --every (6)",
        "short: 0.3 s lie between the frames that were looked at, and 4 of 4 boxes are in no track or in a short one: people move too far."
        " Look at every frame, or give a smaller --every (6)",
        "sheet.png shows 1 of 1 tracklets, of each camera the longest",
    ]
    assert "lower --every (6), --min_frames (8)" in refused(capsys, short, tmp_path / "none", *options)


@pytest.mark.parametrize(
    ("videos", "options", "said"),
    [
        (["text.mp4"], [], "text.mp4 cannot be read"),
        (["none.mp4"], [], "there is no video at"),
        (["empty.mp4"], [], "cannot be read"),
        (["cut.avi"], [], "camera 'cut': there is no frame in it that can be decoded"),
        (["door.mp4", "text.mp4"], [], "text.mp4 cannot be read"),
        (["door.mp4", "sub/door.mp4"], [], "two bear the name 'door': give names of your own"),
        (["a=door.mp4", "b=door.mp4"], [], "the cameras 'a' and 'b' are one video"),
        ([f"c{number}=door.mp4" for number in range(10)], [], "10 videos are given, and a folder takes 9 cameras"),
        (["rtsp://127.0.0.1/x"], [], "is a camera, which can be neither looped"),
        (["pictures"], [], "is a folder of pictures: tell how many a second they are (--fps)"),
        (["door.mp4"], ["--detector=yolo"], "--detector must be an .onnx file, 'torchvision' or 'opencv', got 'yolo'"),
        (["door.mp4"], ["--detector=none.onnx"], "there is no detector at none.onnx"),
        (["door.mp4"], ["--detector_weights=a.pth"], "--detector_weights is of --detector torchvision"),
        (["door.mp4"], ["--min_visibility=2"], "--min_visibility must lie in 0..1, got 2"),
        (["door.mp4"], ["--max_frames=4"], "--max_frames must lie in 8..999, got 4"),
        (["door.mp4"], ["--start=noon"], "'noon' is no ISO time"),
        (["door.mp4"], ["--start=hall=2024-05-01"], "'hall' must be one of the cameras door"),
    ],
)
def test_bad_input_is_refused_by_name_before_any_detection(videos, options, said, tmp_path, capsys, monkeypatch):
    film(tmp_path / "door.mp4", 2)
    (tmp_path / "sub").mkdir()
    (tmp_path / "pictures").mkdir()
    film(tmp_path / "sub" / "door.mp4", 2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    whole = film(tmp_path / "cut.avi", 2).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: whole.index(b"movi") + 4])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightning_reid.command_line.crops.find_people", lambda *args, **options: pytest.fail("a video was searched"))
    assert said in refused(capsys, *videos, "out", *options)
    assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_downloaded_are_asked_for_as_a_file(tmp_path, capsys, monkeypatch):
    def no_network(**options):
        assert options == {"weights": "DEFAULT"}
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models.detection.fasterrcnn_resnet50_fpn_v2", no_network)
    said = refused(capsys, film(tmp_path / "door.mp4", 2), tmp_path / "out", "--detector=torchvision")
    assert "cannot be downloaded: fetch them where there is a network, and give their file" in said


def test_it_tracks_as_the_live_recipe_does():
    live = ArgumentParser()
    add_camera_options(live)
    mine, theirs = build_parser().get_defaults(), live.get_defaults()
    assert mine.max_distance == theirs.max_distance
    assert mine.tracker == theirs.tracker
    assert mine.model == theirs["reid.checkpoint"]


def test_an_out_that_exists_is_refused(tmp_path, capsys):
    assert f"{tmp_path} exists: give another OUT" in refused(capsys, film(tmp_path / "door.mp4", 2), tmp_path)


@pytest.mark.parametrize("lacking", ["av", "trackers"])
def test_what_is_not_installed_is_told_with_the_extra(lacking, tmp_path, capsys, monkeypatch):
    video = film(tmp_path / "door.mp4", 2)
    monkeypatch.setitem(sys.modules, lacking, None)
    assert "pip install 'lightning-reid[tracking]'" in refused(capsys, video, tmp_path / "out")
