"""Cameras in threads: what is told in which order, what is dropped and counted, what ends all and what does not."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
import torch
from filmed import film

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.detection import Detections
from lightning_reid.live import CameraParts, LiveCameras, MatchingThread, PictureSource, VideoSource, detect_with
from lightning_reid.recipes.workshop.camera_recording import name_of, record_world
from lightning_reid.tracking import (
    CameraNode,
    CameraTracker,
    CameraTracks,
    ClipCollector,
    MatchingRules,
    OnlineMatcher,
    StageHealth,
    TrackEnded,
    TrackFeature,
)

SIZE = (96, 128)
NOBODY = Detections(torch.zeros(0, 4), torch.zeros(0))
TWO = Detections(torch.tensor([[8.0, 8, 32, 80], [72, 8, 100, 80]]), torch.full((2,), 0.9))


def mean_color(crops) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.stack([crop.float().mean((1, 2)) + 1 for crop in crops]), dim=1)


def pictures(count: int, size: tuple[int, int] = SIZE):
    return lambda: (np.full((*size, 3), number % 250, np.uint8) for number in range(count))


def node(camera: str, *, embed_clip=None, **options) -> CameraNode:
    tracker = CameraTracker(high_score=0.5, new_score=0.55, max_distance=0, lost_seconds=0.1)
    clips = ClipCollector(num_frames=2, spread=0.0)
    return CameraNode(camera, tracker, mean_color, model="mean color", embed_clip=embed_clip, **{"clips": clips} | options)


def camera(name: str, frames=None, *, detect=lambda stamp, picture: TWO, fps: float = 20, realtime: bool = True, **options) -> CameraParts:
    source = PictureSource(name, frames or pictures(16), fps=fps, realtime=realtime)
    return CameraParts(source, detect, node(name, **options))


class InStep:
    """Cameras whose next frame comes when the last one has been tracked: no machine is too slow for them."""

    def __init__(self) -> None:
        self.tracked: dict[str, threading.Semaphore] = {}
        self.seen: list = []

    def camera(self, name: str, count: int = 16, **options) -> CameraParts:
        tracked = self.tracked[name] = threading.Semaphore(1)

        def frames():
            for picture in pictures(count)():
                tracked.acquire(timeout=30)
                yield picture

        return camera(name, frames, fps=100, **options)

    def on_picture(self, stamp, picture, tracks) -> None:
        self.seen.append((stamp, tuple(picture.shape), tracks.stamp))
        if stamp.camera in self.tracked:
            self.tracked[stamp.camera].release()


def run(*cameras: CameraParts, **options) -> tuple[LiveCameras, list]:
    told = []
    with LiveCameras(cameras, told.append, **options) as live:
        assert live.wait(30)
    return live, told


def of(kind: type, told: list) -> list:
    return [one for one in told if isinstance(one, kind)]


def counts(live: LiveCameras, name: str = "door") -> dict[str, tuple[int, int]]:
    """What each stage has done, and what was dropped before it."""
    return {stage: (meter.processed, meter.dropped) for stage, meter in live.pipelines[name].meters.items()}


def test_every_frame_is_tracked_where_the_stages_are_fast_enough():
    step = InStep()
    live, told = run(step.camera("door"), step.camera("hall"), on_picture=step.on_picture)
    for name in ("door", "hall"):
        frames = [one for one in of(CameraTracks, told) if one.stamp.camera == name]
        assert [one.stamp.number for one in frames] == list(range(16))
        assert [one.track_ids for one in frames[1:]] == [(0, 1)] * 15
        assert counts(live, name)["track"] == (16, 0)
        assert counts(live, name)["embed"] == (14, 0)


def test_a_detector_that_lags_drops_the_oldest_frames_counts_them_and_its_latency_is_bounded():
    def slow(stamp, picture):
        time.sleep(0.04)
        return TWO

    live, told = run(camera("door", pictures(100), fps=100, detect=slow))  # a queue without bounds would make it 3 s late
    tracked, dropped = counts(live)["track"]
    numbers = [one.stamp.number for one in of(CameraTracks, told)]
    assert dropped > 5
    assert len(numbers) == tracked == 100 - dropped
    assert numbers == sorted(numbers)
    assert numbers[-1] == 99  # the latest is never what is dropped
    (health,) = [one for one in live.pipelines["door"].health() if one.stage == "track"]
    assert (health.processed, health.dropped) == (tracked, dropped)
    assert 0.04 <= health.latency < 1.5  # 0.12 where the machine has nothing else to do: two that wait, and one in work


def test_an_embedding_that_lags_drops_clips_and_neither_frames_nor_ends():
    queue = torch.tensor([[12.0 * place, 8, 12.0 * place + 10, 60] for place in range(6)])
    step, embedded, last = InStep(), [], threading.Event()

    def slow(crops):
        assert last.wait(30)  # the first clip takes until the last frame was tracked
        embedded.append(len(crops))
        return mean_color(crops).mean(0)

    def leave(stamp, picture):
        left = max(6 - max(stamp.number - 1, 0), 1)  # one after another
        return Detections(queue[:left], torch.full((left,), 0.9))

    def on_picture(stamp, picture, tracks):
        step.on_picture(stamp, picture, tracks)
        if stamp.number == 23:
            last.set()

    door = step.camera("door", 24, detect=leave, embed_clip=slow, clips=ClipCollector(num_frames=1, spread=0.0))
    live, told = run(door, on_picture=on_picture)
    assert counts(live)["track"] == (24, 0)
    done, dropped = counts(live)["embed"]
    assert dropped > 5
    assert done + dropped == 6 + sum(range(1, 6)) + 17  # each box from the second frame on: they all have a track
    assert len(of(TrackFeature, told)) == len(embedded) == done
    assert sorted(one.track_id for one in of(TrackEnded, told)) == list(range(6))


def test_the_end_of_a_track_is_told_after_its_last_feature_and_an_epoch_after_all_of_the_one_before():
    def slow(crops):
        time.sleep(0.1)
        return mean_color(crops).mean(0)

    def grows():
        yield from pictures(8)()
        yield from pictures(8, size=(120, 160))()

    _, told = run(camera("door", grows, embed_clip=slow))
    told = [one for one in told if not isinstance(one, StageHealth)]
    epochs = [one.epoch for one in told]
    assert epochs == sorted(epochs)
    assert set(epochs) == {0, 1}
    over = set()
    for one in told:
        if isinstance(one, TrackEnded):
            over.add(one.key)
        elif isinstance(one, TrackFeature):
            assert one.key not in over
    assert over == {key for one in of(CameraTracks, told) for key in one.keys}
    assert {key.epoch for key in over} == {0, 1}


def test_where_frames_wait_the_messages_are_those_of_a_recording_bit_for_bit():
    world = GeneratedWorld(3, num_cameras=2, num_people=6, seconds=12, fps=5, image_size=(64, 96), encounters=1, crossings=0)

    def of_world(camid: int) -> CameraNode:
        return CameraNode(name_of(camid), CameraTracker(high_score=0.5, new_score=0.55), mean_color, model="mean color")

    recorded = record_world(world, WorldDetector(world), {camid: of_world(camid) for camid in (1, 2)}, progress=False)
    detector = WorldDetector(world)

    def parts(camid: int) -> CameraParts:
        frames = lambda: (world.frame(camid, number) for number in range(world.num_frames))  # noqa: E731

        def detect(stamp, picture):
            time.sleep(0.005 * (stamp.number % 3 == camid))  # now one camera is ahead, now the other
            return detector(camid, stamp.number)

        return CameraParts(PictureSource(name_of(camid), frames, fps=world.fps, realtime=False), detect, of_world(camid))

    _, told = run(parts(1), parts(2))
    assert {type(one) for one in recorded} == {CameraTracks, TrackFeature, TrackEnded}
    assert [one for one in told if not isinstance(one, StageHealth)] == recorded


def test_videos_of_different_lengths_are_told_in_the_order_of_capture():
    _, told = run(camera("door", pictures(10), realtime=False, fps=50), camera("hall", pictures(30), realtime=False, fps=25))
    frames = [(one.stamp.captured_utc, one.stamp.camera) for one in of(CameraTracks, told)]
    assert frames == sorted(frames)
    assert len(frames) == 40
    ends = [place for place, one in enumerate(told) if isinstance(one, TrackEnded) and one.camera == "door"]
    after = [one.stamp.captured_utc for one in told[max(ends) :] if isinstance(one, CameraTracks)]
    assert min(after) == pytest.approx(0.2)  # the frames after the last of the door, at 0.18 s


def test_a_camera_that_is_absent_dies_and_comes_back_with_another_size_is_watched_and_others_lose_no_frame(tmp_path):
    path, other = tmp_path / "door.mp4", film(tmp_path / "larger.mp4", 20, size=(96, 128))
    seen, told = [], []
    came, back = threading.Event(), threading.Event()

    def detect(stamp, picture):
        seen.append((tuple(picture.shape[1:]), time.monotonic()))
        (came if picture.shape[1] == 48 else back).set()
        return TWO if picture.shape[1] == 96 else NOBODY

    door = CameraParts(VideoSource("door", path, live=True), detect, node("door"))
    step = InStep()
    with LiveCameras([door, step.camera("hall", 10_000)], told.append, on_picture=step.on_picture) as live:
        assert not came.wait(0.3)
        assert {one.state for one in live.pipelines["door"].health()} == {"gone"}
        film(path)
        assert came.wait(10)
        path.unlink()
        time.sleep(0.3)
        other.rename(path)
        returned = time.monotonic()
        assert back.wait(10)
        assert "gone" not in {one.state for one in live.pipelines["hall"].health()}
    assert next(at for size, at in seen if size == (96, 128)) - returned < 3  # it is tried again after a second at the latest
    assert live.pipelines["door"].num_losses >= 1
    epochs = [(one.epoch, one.stamp.number) for one in of(CameraTracks, told) if one.stamp.camera == "door"]
    assert epochs == sorted(epochs)
    assert max(epochs)[0] >= 1
    assert counts(live, "hall")["track"][1] == 0
    numbers = [one.stamp.number for one in of(CameraTracks, told) if one.stamp.camera == "hall"]
    assert numbers == list(range(len(numbers)))


def test_a_camera_that_is_lost_has_its_tracks_ended_at_once(tmp_path):
    path, told, gone = film(tmp_path / "door.mp4", 10, size=SIZE), [], threading.Event()

    def put(message):
        told.append(message)
        if isinstance(message, TrackEnded):
            gone.set()

    def detect(stamp, picture):
        path.unlink(missing_ok=True)  # it will not come back
        return TWO

    with LiveCameras([CameraParts(VideoSource("door", path, live=True), detect, node("door"))], put) as live:
        assert gone.wait(10)
        assert live.pipelines["door"].num_losses == 1
        assert {one.state for one in live.pipelines["door"].health()} == {"gone"}
    assert {one.epoch for one in of(TrackEnded, told)} == {0}


class Broken:
    """A detector whose tenth answer holds NaN."""

    name = "broken"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images):
        self.asked += 1
        return [Detections(TWO.boxes * (float("nan") if self.asked == 10 else 1), TWO.scores)]


@pytest.mark.parametrize("realtime", [True, False])
def failure_of(*cameras: CameraParts, put=print) -> RuntimeError:
    """What the watching of cameras raises that do not end by themselves in time."""
    with pytest.raises(RuntimeError) as failed, LiveCameras(cameras, put) as live:
        live.wait(30)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("door", "hall", "health"))]
    return failed.value


@pytest.mark.parametrize("realtime", [True, False])
def test_a_detector_with_a_fault_ends_all_cameras_aloud(realtime):
    told = []
    door, hall = camera("door", realtime=realtime, detect=detect_with(Broken())), camera("hall", pictures(100_000), realtime=realtime)
    failure = failure_of(door, hall, put=told.append)
    assert "camera 'door' has failed to track: the detector broken on frame 9 of camera 'door': the box [nan," in str(failure)
    assert isinstance(failure.__cause__, ValueError)
    assert len([one for one in of(CameraTracks, told) if one.stamp.camera == "door"]) <= 9


def test_a_video_that_cannot_be_read_ends_all_cameras_aloud(tmp_path):
    (tmp_path / "door.mp4").write_bytes(b"no video" * 100)
    door = CameraParts(VideoSource("door", tmp_path / "door.mp4"), lambda stamp, picture: TWO, node("door"))
    failure = failure_of(door, camera("hall", pictures(100_000)))
    assert "camera 'door' has failed to decode: camera 'door': " in str(failure)
    assert "cannot be read" in str(failure)


@pytest.mark.parametrize("realtime", [True, False])
def test_a_matching_that_has_stopped_ends_all_cameras_aloud(realtime):
    def fail(told):
        raise OSError("no space left")

    matching = MatchingThread(OnlineMatcher(MatchingRules(0.5), feature_size=3, model="mean color"), [fail], clock=None)
    failure = failure_of(camera("door", pictures(1000), realtime=realtime), put=matching.put)
    assert "a listener failed" in str(failure)
    assert "no space left" in str(failure.__cause__.__cause__)


def test_a_failure_of_the_embedding_ends_the_camera_even_while_it_begins_an_epoch():
    begins = threading.Event()

    def fail(crops):
        assert begins.wait(10)
        time.sleep(0.1)
        raise ValueError("the weights are of a diverged training")

    def grows():
        yield from pictures(6)()
        yield from pictures(200, size=(120, 160))()

    def detect(stamp, picture):
        if picture.shape[1] == 120:
            begins.set()
        return TWO

    failure = failure_of(camera("door", grows, detect=detect, embed_clip=fail))
    assert "camera 'door' has failed to embed: the weights are of a diverged training" in str(failure)


def test_two_hundred_people_at_once_are_all_tracked_and_embedded():
    grid = torch.tensor([[6.0 * column, 9.0 * row, 6.0 * column + 5, 9.0 * row + 8] for row in range(10) for column in range(20)])
    crowd = Detections(grid, torch.full((200,), 0.9))
    _, told = run(camera("door", pictures(4), detect=lambda stamp, picture: crowd, realtime=False))
    assert [len(one.track_ids) for one in of(CameraTracks, told)] == [0, 200, 200, 200]
    assert len({one.key for one in of(TrackFeature, told)}) == 200
    assert len(of(TrackEnded, told)) == 200


def test_where_nobody_comes_for_long_each_frame_is_told_and_nothing_else():
    live, told = run(camera("door", pictures(500, size=(8, 8)), detect=lambda stamp, picture: NOBODY, realtime=False))
    assert [type(one) for one in told if not isinstance(one, StageHealth)] == [CameraTracks] * 500
    assert counts(live)["embed"] == (0, 0)


def test_who_watches_gets_each_picture_with_its_tracks():
    step = InStep()
    run(step.camera("door", 5), on_picture=step.on_picture)
    assert [(stamp.number, shape) for stamp, shape, _ in step.seen] == [(number, (3, *SIZE)) for number in range(5)]
    assert all(stamp == of_tracks for stamp, _, of_tracks in step.seen)


def test_torch_and_opencv_work_with_one_thread_a_stage_and_as_before_afterwards():
    cv2.setNumThreads(3)
    before, used = torch.get_num_threads(), set()

    def detect(stamp, picture):
        used.add(("detect", torch.get_num_threads(), cv2.getNumThreads()))
        return TWO

    def embed(crops):
        used.add(("embed", torch.get_num_threads(), cv2.getNumThreads()))
        return mean_color(crops).mean(0)

    try:
        torch.set_num_threads(2)
        run(camera("door", pictures(6), detect=detect, embed_clip=embed, realtime=False))
        assert used == {("detect", 1, 1), ("embed", 1, 1)}
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 3)
    finally:
        torch.set_num_threads(before)


def test_the_health_of_every_stage_is_told_once_a_second():
    _, told = run(camera("door", pictures(26), fps=20), camera("hall", pictures(26), fps=20))
    health = of(StageHealth, told)
    stages = [(one.camera, one.stage) for one in health]
    assert {*stages} == {(name, stage) for name in ("door", "hall") for stage in ("decode", "track", "embed")}
    of_embed = [one for one in health if (one.camera, one.stage) == ("hall", "embed")]
    assert len(of_embed) >= 2  # at 0 and at 1 s, and a machine that is slow may take longer
    assert of_embed[1].at - of_embed[0].at > 0.9
    assert of_embed[1].state == "live"
    assert of_embed[1].processed > of_embed[0].processed
    assert all(0 <= one.latency < 5 for one in health)


def test_a_stage_that_works_at_nothing_is_stalled(monkeypatch):
    monkeypatch.setattr("lightning_reid.live.stage_meter.STALLED_AFTER", 0.3)
    go_on, begun = threading.Event(), time.monotonic()
    expected = {"decode": "live", "track": "stalled", "embed": "live"}

    def hang(stamp, picture):
        go_on.wait(60)
        return TWO

    def states() -> dict[str, str]:
        return {one.stage: one.state for one in live.pipelines["door"].health()}

    with LiveCameras([camera("door", pictures(10_000), detect=hang)], print) as live:
        try:
            while states() != expected:
                assert time.monotonic() - begun < 30, states()
                time.sleep(0.02)
        finally:
            go_on.set()


def test_cameras_that_are_stopped_tell_the_ends_of_their_tracks():
    told, begun = [], threading.Event()

    def put(message):
        told.append(message)
        if isinstance(message, TrackFeature):
            begun.set()

    with LiveCameras([camera("door", pictures(100_000)), camera("hall", pictures(100_000))], put) as live:
        assert begun.wait(10)
        live.stop()
        assert live.wait(5)
    assert {(one.camera, one.track_id) for one in of(TrackEnded, told)} == {(name, track) for name in ("door", "hall") for track in (0, 1)}


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (lambda: [], "there is no camera to watch"),
        (lambda: [camera("door"), camera("door")], "two cameras bear the name 'door'"),
        (lambda: [camera("door"), camera("hall", realtime=False)], "the frames of 'hall' and 'door' would not keep step"),
        (lambda: [camera("door")._replace(node=node("hall"))], "the node of camera 'hall' would get the frames of 'door'"),
    ],
)
def test_cameras_that_cannot_be_watched_together_are_refused(cameras, message):
    with pytest.raises(ValueError, match=message):
        LiveCameras(cameras(), print)
