"""Cameras tracked while they run, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from filmed import film
from onnx_graph import write_onnx
from PIL import Image

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.inference import crop_embedder
from lightning_reid.live import Told
from lightning_reid.modules import VideoReID
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.network_name import network_name
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.normalization import normalize_images
from lightning_reid.recipes import track_cameras
from lightning_reid.recipes.workshop import live_record, live_run
from lightning_reid.recipes.workshop.camera_recording import record_world, replay
from lightning_reid.recipes.workshop.live_networks import THRESHOLD, load_networks
from lightning_reid.recipes.workshop.live_record import RunRecord
from lightning_reid.recipes.workshop.tracking_scores import camera_node, camera_tracker
from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher

WORLD = {
    "seed": 3,
    "num_cameras": 2,
    "num_people": 8,
    "fps": 8.0,
    "seconds": 20.0,
    "image_size": (96, 128),
    "encounters": 1,
    "crossings": 1,
    "twins": 0,
}
OF_WORLD = [f"--world.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in WORLD.items()]
HEADLESS = ["run", "--no-page", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("live") / "run"
    return output, track_cameras.main([*HEADLESS, "--realtime=false", "--every_n_frames=10", *OF_WORLD, f"--output={output}"])


def rows_of(file: Path) -> list[list[float]]:
    return [[float(cell) for cell in line.split(",")] for line in file.read_text().splitlines()]


def test_each_camera_is_told_of_with_what_was_tracked_and_dropped(run):
    output, results = run
    assert json.loads((output / "results.json").read_text()) == results
    assert (results["ended by"], results["messages refused"]) == ("the end of the videos", 0)
    assert list(results["cameras"]) == ["camera 1", "camera 2"]
    for row in results["cameras"].values():
        assert row["frames captured"] == row["frames tracked"] == 160
        assert row["frames dropped"] == row["clips dropped"] == row["damaged"] == row["losses"] == 0
        assert row["fps"] > 0
        assert row["latency p50"] is row["latency p95"] is None  # the times are those of the video
        assert 1 <= row["identities"] <= row["tracks"]
    assert results["identities"] <= sum(row["tracks"] for row in results["cameras"].values())
    assert 0.2 < results["scores"]["camera IDF1"] <= 1
    assert results["scores"]["twice in a camera"] == 0


def test_the_tracks_are_written_with_the_numbers_that_a_replayed_recording_shows(run):
    output, results = run
    world = GeneratedWorld(**WORLD)
    embed, threads = crop_embedder(load_embedding_network(DEFAULT)), torch.get_num_threads()

    torch.set_num_threads(1)
    nodes = {camid: camera_node(camid, camera_tracker(world.fps), embed, DEFAULT) for camid in (1, 2)}
    recorded = record_world(world, WorldDetector(world, seed=3), nodes, progress=False)
    torch.set_num_threads(threads)
    shown = replay(recorded, OnlineMatcher(MatchingRules(THRESHOLD, every_n_frames=10, own_camera=True), feature_size=192, model=DEFAULT))
    for camera in ("camera 1", "camera 2"):
        expected = [
            [one.number + 1, identity, box[0], box[1], box[2] - box[0], box[3] - box[1], score, -1, -1, -1]
            for one in shown
            if one.tracks.stamp.camera == camera
            for identity, box, score in zip(one.identities, one.tracks.boxes.tolist(), one.tracks.scores.tolist(), strict=True)
        ]
        written = rows_of(output / f"{camera}.txt")
        assert len(written) == len(expected) > 100
        torch.testing.assert_close(torch.tensor(written), torch.tensor(expected), atol=0.006, rtol=0)
    assert results["matches"] > 0


def test_the_lanes_are_a_picture(run):
    with Image.open(run[0] / "lanes.png") as picture:
        assert picture.size[0] == 1800
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 50
    assert sorted(one.name for one in run[0].iterdir()) == ["camera 1.txt", "camera 2.txt", "lanes.png", "results.json"]


def refused(capsys, *options: str) -> str:
    with pytest.raises(SystemExit):
        track_cameras.main(["run", *options])
    return capsys.readouterr().err


def test_a_folder_that_holds_another_run_or_anything_is_refused_before_a_camera_is_opened(run, capsys, tmp_path):
    assert "holds the results.json of another run: give another --output" in refused(capsys, "--no-page", f"--output={run[0]}")
    (tmp_path / "notes.txt").touch()
    assert "is not empty: give another --output" in refused(capsys, "--no-page", f"--output={tmp_path}")


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (["door.mp4"], "camera 'door': there is no video at door.mp4"),
        (["rtsp://a/1", "x=rtsp://b/1", "x=rtsp://c/1"], "two bear the name 'x': give names of your own"),
        (["(x)=rtsp://b/1"], "'(x)' is to be the name of a file: give letters, digits, spaces, dots and dashes"),
        (["x=rtsp://me:secret@b/1", "--realtime=false"], "rtsp://b/1 is a camera, which can be neither looped nor slowed down"),
        (["rtsp://b/1", "--detector=no.onnx"], "there is no detector at no.onnx"),
        (["rtsp://b/1", "--reid.checkpoint=nvan.ckpt"], "--threshold belongs to a network: tell the one of nvan.ckpt"),
        (["rtsp://b/1", "--reid.checkpoint=nvan.ckpt", "--threshold=0.5"], "nvan.ckpt"),
        (["rtsp://b/1", "--reid.checkpoint=nvan.onnx", "--threshold=0.5"], "there is no network at nvan.onnx"),
        (["rtsp://b/1", "--first_frames=5"], "first_frames must be"),
        (["rtsp://b/1", "--tracker.high_score=2"], "high_score must be"),
        (["."], ". is a folder of pictures: tell how many a second they are (--fps)"),
    ],
)
def test_cameras_that_cannot_be_are_refused_before_one_is_opened(cameras, message, capsys, tmp_path):
    told = refused(capsys, "--no-page", f"--output={tmp_path}", "--cameras", *cameras)
    assert message in " ".join(told.split())
    assert "secret" not in told


def parsed(output: Path, *options: str):
    return track_cameras.parse([*HEADLESS, f"--output={output}", *options])["run"]


def test_videos_and_folders_of_pictures_are_cameras_and_whoever_listens_is_told(tmp_path):
    (tmp_path / "hall" / "img1").mkdir(parents=True)
    for number in range(1, 6):
        Image.new("RGB", (64, 48), (10 * number, 0, 0)).save(tmp_path / "hall" / "img1" / f"{number:06d}.png")
    cameras = ["--cameras", str(film(tmp_path / "door.mp4", 6)), f"yard={tmp_path / 'hall'}", "--fps=10"]
    told, pictures = [], []
    cfg = parsed(tmp_path / "out", "--realtime=false", *cameras)
    results = live_run.run(cfg, listeners=[told.append], on_picture=lambda *seen: pictures.append(seen))
    assert {name: row["frames tracked"] for name, row in results["cameras"].items()} == {"door": 6, "yard": 5}
    assert (results["scores"], results["identities"]) == (None, 0)
    frames = [one.message.stamp for one in told if isinstance(one.message, CameraTracks)]
    assert [(one.camera, one.number) for one in frames if one.camera == "yard"] == [("yard", number) for number in range(5)]
    assert sorted((stamp.camera, stamp.number) for stamp, _, _ in pictures) == sorted((one.camera, one.number) for one in frames)
    reds = [round(float(picture[0].float().mean())) for stamp, picture, _ in pictures if stamp.camera == "yard"]
    assert reds == [10, 20, 30, 40, 50]
    assert (tmp_path / "out" / "lanes.png").stat().st_size > 1000  # though nobody came
    assert (tmp_path / "out" / "door.txt").read_text() == ""


def test_a_page_for_other_hosts_without_tls_is_refused_before_anything_starts(capsys, tmp_path):
    assert "without TLS everybody on the way reads" in refused(capsys, f"--output={tmp_path}", "--page.host=0.0.0.0")


def test_a_page_is_served_while_cameras_are_watched_and_what_is_asked_there_is_written_down(tmp_path, capsys):
    seen = {}

    def watch(told) -> None:
        if not seen and isinstance(told.message, CameraTracks) and told.message.stamp.number == 8:
            url = re.search(r"watch at (\S+)", capsys.readouterr().out)[1]
            with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
                seen["metrics"] = answer.read().decode()

    cfg = track_cameras.parse(
        ["run", "--quiet", "--page.port=0", "--page.open=false", "--seconds=3", *OF_WORLD, f"--output={tmp_path / 'out'}"]
    )
    live_run.run(cfg["run"], listeners=[watch])
    assert 'lightning_reid_camera_live{camera="camera 1"} 1' in seen["metrics"]
    assert (tmp_path / "out.audit.log").read_text() == ""  # nobody asked for anything


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_end_says_so_and_leaves_its_results(kind, tmp_path, capsys):
    before = signal.getsignal(kind)
    asked = []

    def ask(stamp, picture, tracks) -> None:
        asked.append(stamp)
        if len(asked) == 5:
            os.kill(os.getpid(), kind)

    results = live_run.run(parsed(tmp_path / "out", "--loop=true", "--cameras", str(film(tmp_path / "door.mp4", 6))), on_picture=ask)
    assert results["ended by"] == kind.name
    assert f"{kind.name}: the cameras are ended" in " ".join(capsys.readouterr().err.split())
    assert json.loads((tmp_path / "out" / "results.json").read_text())["ended by"] == kind.name
    assert results["cameras"]["door"]["frames tracked"] >= 5
    assert 0 <= results["cameras"]["door"]["latency p50"] <= results["cameras"]["door"]["latency p95"] < 60
    assert signal.getsignal(kind) is before


def test_whoever_looks_on_while_a_track_is_shown_first_sees_no_track_without_a_number(monkeypatch, tmp_path):
    record, seen, bar = RunRecord(tmp_path, ["door"], realtime=False, keep=False), [], live_record.Bar

    def look_on(*arguments) -> live_record.Bar:
        seen.append(record.identities)
        return bar(*arguments)

    monkeypatch.setattr(live_record, "Bar", look_on)
    tracks = CameraTracks(FrameStamp("door", 0, 0.0, 0.0), 0, (7,), torch.tensor([[8.0, 4, 24, 60]]), torch.ones(1))
    record(Told(tracks, received=0.0, identities=(3,)))
    record.close()
    assert (seen, record.identities) == ([set()], {3})


def test_a_run_ends_after_its_seconds(tmp_path):
    results = live_run.run(parsed(tmp_path / "out", "--loop=true", "--seconds=0.5", "--cameras", str(film(tmp_path / "door.mp4", 6))))
    assert results["ended by"] == "--seconds"
    assert 0.5 <= results["seconds"] < 60


def test_a_camera_that_fails_ends_the_run_aloud_and_leaves_what_was_shown(tmp_path):
    (tmp_path / "hall.mp4").write_bytes(b"no video" * 100)
    cfg = parsed(tmp_path / "out", "--cameras", str(film(tmp_path / "door.mp4", 6)), str(tmp_path / "hall.mp4"))
    with pytest.raises(RuntimeError, match="camera 'hall' has failed to decode"):
        live_run.run(cfg)
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    assert told["ended by"].startswith("a failure: camera 'hall' has failed to decode")


def test_a_video_network_embeds_the_clips_and_the_shipped_one_does_the_repair(tmp_path):
    torch.manual_seed(0)
    tiny = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1], "stripes": 4}
    model = VideoReID("stenvan", tiny, num_classes=4).eval()
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "image_size": [64, 32]}
    torch.save(content | {"pytorch-lightning_version": pl.__version__}, tmp_path / "nvan.ckpt")
    networks = load_networks(str(tmp_path / "nvan.ckpt"))
    assert networks[2:] == (16, network_name(model.network), DEFAULT)
    crops = list(torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(normalize_images(torch.stack(crops))[None])[0], dim=0)
    torch.testing.assert_close(networks.embed_clip(crops), expected)
    assert networks.embed(crops).shape == (4, 192)


def test_an_onnx_file_of_images_does_both_and_one_of_clips_the_features(tmp_path):
    crops = list(torch.randint(1, 256, (4, 3, 8, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    networks = load_networks(str(write_onnx(tmp_path / "images.onnx", ["n", 3, 8, 4], ["n", 96])))
    assert (networks.embed_clip, networks.num_features, networks.repaired_by) == (None, 96, "images.onnx")
    expected = torch.nn.functional.normalize(normalize_images(torch.stack(crops)).flatten(1), dim=1)
    torch.testing.assert_close(networks.embed(crops), expected)
    assert re.fullmatch("onnx [0-9a-f]{16}", networks.model)
    clips = {frames: write_onnx(tmp_path / f"{frames}.onnx", ["n", frames, 3, 8, 4], ["n", "d"]) for frames in (4, 3)}
    networks = load_networks(str(clips[4]))
    assert (networks.num_features, networks.repaired_by) == (4 * 96, DEFAULT)
    whole = torch.nn.functional.normalize(normalize_images(torch.stack(crops)).flatten(), dim=0)
    torch.testing.assert_close(networks.embed_clip(crops), whole)
    assert networks.embed(crops).shape == (4, 192)
    (tmp_path / "4.onnx.data").write_bytes(b"weights beside the graph")
    assert load_networks(str(clips[4])).model != networks.model
    with pytest.raises(ValueError, match=r"3\.onnx takes clips of 3 frames, and a feature is made of 4: export it for 4"):
        load_networks(str(clips[3]))
