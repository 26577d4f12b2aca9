"""Generated pedestrians: same seed same bytes, the official layouts, all or nothing on disk, and hard for color alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from forked import FORKED, forked
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.datamodules.generated import GeneratedPedestrians, GeneratedTracklets
from lightning_reid.datamodules.generated.writer import write_dataset
from lightning_reid.datamodules.readers import read_market_folder
from lightning_reid.metrics import retrieval_scores

GOLDENS = Path(__file__).parents[1] / "goldens"
SMALL = {"num_train_pids": 6, "num_test_pids": 4, "images_per_camera": 3, "num_distractors": 8, "height": 64, "width": 32}
PRESETS = ("duke-like", "market-like")
OFFICIAL = {"market-like": r"(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}\.jpg", "duke-like": r"(\d{4})_c([1-8])_f\d{7}\.jpg"}


def all_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_seed_writes_the_same_bytes(preset, tmp_path):
    first = GeneratedPedestrians(preset, seed=3, **SMALL).write(tmp_path / "a", progress=False)
    second = GeneratedPedestrians(preset, seed=3, **SMALL).write(tmp_path / "b", progress=False)
    assert all_files(first) == all_files(second)


def test_a_picture_does_not_depend_on_what_was_drawn_before_it():
    people = GeneratedPedestrians(**SMALL)
    wanted = [(pid, camid, k) for pid in (1, 2, 0, -1) for camid in (1, 4) for k in (0, 1)]
    forwards = {key: people.encode(*key) for key in wanted}
    backwards = {key: people.encode(*key) for key in reversed(wanted)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(wanted)


def test_threads_draw_the_same_pictures_as_one_after_another():
    people = GeneratedPedestrians("duke-like", seed=77, **SMALL)
    wanted = [(pid, camid, k) for pid in range(1, 9) for camid in (1, 8) for k in (0, 1)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda key: people.encode(*key), wanted))
    assert threaded == [people.encode(*key) for key in wanted]


def test_the_file_holds_the_rendered_colors():
    people = GeneratedPedestrians("market-like")
    for camid in range(1, 7):
        rendered = people.render(5, camid, 0).astype(int)
        decoded = cv2.imdecode(np.frombuffer(people.encode(5, camid, 0), np.uint8), cv2.IMREAD_COLOR).astype(int)
        assert np.abs(decoded[:, :, ::-1] - rendered).mean() < min(8.0, np.abs(decoded - rendered).mean())


def test_more_people_leave_the_pictures_of_a_person_as_they_were():
    few, many = GeneratedPedestrians(**SMALL), GeneratedPedestrians(**{**SMALL, "num_train_pids": 60})
    assert few.encode(2, 3, 1) == many.encode(2, 3, 1)


@given(seed=st.integers(0, 10_000), pid=st.integers(-1, 9999), camid=st.integers(1, 6), k=st.integers(0, 500))
@settings(max_examples=40)
def test_any_picture_is_a_full_crop_with_something_in_it(seed, pid, camid, k):
    crop = GeneratedPedestrians(seed=seed % 3, **SMALL).render(pid, camid, k)
    assert crop.shape == (64, 32, 3)
    assert crop.dtype == np.uint8
    assert crop.std() > 4


@pytest.mark.parametrize("preset", ["duke-like", "market-like", "mars-like", "dukev-like"])
def test_the_presets_of_published_comparisons_are_drawn_as_ever(preset):
    seen = ((1, 1), (2, 4), (3, 6), (4, 2), (5, 3), (6, 5))
    if preset in PRESETS:
        people = GeneratedPedestrians(preset, height=32, width=16)
        drawn = np.stack([people.render(pid, camid, 0) for pid, camid in seen])
    else:
        walks = GeneratedTracklets(preset, height=32, width=16)
        drawn = np.stack([walks.render(pid, camid, 1, 2).image for pid, camid in seen])
    apart = np.abs(drawn.astype(int) - np.load(GOLDENS / "generated_presets.npz")[preset].astype(int))
    assert apart.max() <= 1  # another OpenCV, or another processor, may round otherwise
    assert (apart > 0).mean() < 0.001


def test_another_seed_gives_other_people():
    assert GeneratedPedestrians(seed=0, **SMALL).encode(1, 1, 0) != GeneratedPedestrians(seed=1, **SMALL).encode(1, 1, 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_files_are_named_and_counted_as_the_itinerary_says(preset, tmp_path):
    people = GeneratedPedestrians(preset, **SMALL)
    root = people.write(tmp_path / "set", progress=False)
    planned = list(people.itinerary.crops())
    assert set(all_files(root)) == {f"{crop.folder}/{crop.name}" for crop in planned}
    assert len({crop.name for crop in planned}) == len(planned)
    for crop in planned:
        match = re.fullmatch(OFFICIAL[preset], crop.name)
        assert match, crop.name
        assert (int(match[1]), int(match[2])) == (crop.pid, crop.camid)
    assert json.loads((root / "generated.json").read_text())["counts"] == Counter(crop.folder for crop in planned)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_reader_of_the_layout_finds_the_identities_that_were_asked_for(preset, tmp_path):
    data = read_market_folder(GeneratedPedestrians(preset, **SMALL).write(tmp_path / "set", progress=False))
    train, query, gallery = ({record.pid for record in records} for _, records in data.splits())
    assert (len(train), len(query)) == (6, 4)
    assert query <= gallery
    assert not train & (query | gallery)
    assert cv2.imread(data.query[0].path).shape == (64, 32, 3)


def test_the_market_like_gallery_holds_distractors_and_junk(tmp_path):
    crops = list(GeneratedPedestrians("market-like", **SMALL).itinerary.crops())
    folders = {pid: Counter(crop.folder for crop in crops if crop.pid == pid) for pid in (0, -1)}
    assert folders == {0: {"bounding_box_test": 8}, -1: {"bounding_box_test": 6}}


def test_the_duke_like_gallery_holds_people_of_one_camera_whom_nobody_queries():
    crops = list(GeneratedPedestrians("duke-like", **SMALL).itinerary.crops())
    cameras = {pid: {crop.camid for crop in crops if crop.pid == pid} for pid in {crop.pid for crop in crops}}
    queried = {crop.pid for crop in crops if crop.folder == "query"}
    nobody = {crop.pid for crop in crops if crop.folder == "bounding_box_test"} - queried
    assert len(nobody) == 8
    assert {len(cameras[pid]) for pid in nobody} == {1}
    assert min(cameras) == 1


@pytest.mark.parametrize(("preset", "num_cameras"), [("duke-like", 8), ("market-like", 6)])
def test_every_camera_is_used_and_every_query_can_be_answered_by_another_camera(preset, num_cameras):
    crops = list(GeneratedPedestrians(preset).itinerary.crops())
    assert {crop.camid for crop in crops} == set(range(1, num_cameras + 1))
    gallery = {(crop.pid, crop.camid) for crop in crops if crop.folder == "bounding_box_test"}
    for crop in crops:
        if crop.folder == "query":
            assert any(pid == crop.pid and camid != crop.camid for pid, camid in gallery)
    assert 2000 <= len(crops) <= 2800


def test_a_second_write_reuses_the_folder(tmp_path):
    people = GeneratedPedestrians(**SMALL)
    times = {path: path.stat().st_mtime_ns for path in people.write(tmp_path / "set", progress=False).rglob("*")}
    people.write(tmp_path / "set", progress=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == times


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    people, calls = GeneratedPedestrians(**SMALL), []
    encode = GeneratedPedestrians.encode

    def interrupted(self, pid, camid, k):
        calls.append(pid)
        assert not (tmp_path / "set").exists()  # a kill -9 now would leave only the hidden draft
        if len(calls) == 20:
            raise KeyboardInterrupt
        return encode(self, pid, camid, k)

    monkeypatch.setattr(GeneratedPedestrians, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        people.write(tmp_path / "set", progress=False)
    assert len(calls) == 20
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_comes_second_takes_what_the_first_wrote(tmp_path, monkeypatch):
    people, encode = GeneratedPedestrians(**SMALL), GeneratedPedestrians.encode

    def overtaken(self, pid, camid, k):
        monkeypatch.setattr(GeneratedPedestrians, "encode", encode)
        self.write(tmp_path / "set", progress=False)
        return encode(self, pid, camid, k)

    monkeypatch.setattr(GeneratedPedestrians, "encode", overtaken)
    people.write(tmp_path / "set", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def write_until_told(path, pipe):
    def fill(draft):
        (draft / "query").mkdir()
        (draft / "query" / "1.jpg").write_text("half")
        pipe.send("writing")
        pipe.recv()

    write_dataset(path, {}, {"query": 1}, fill)


def test_the_next_run_removes_what_a_killed_one_left_and_not_what_a_live_one_is_writing(tmp_path):
    pipes = [FORKED.Pipe() for _ in range(2)]
    killed, living = (forked(write_until_told, tmp_path / "set", there) for _, there in pipes)
    try:
        for here, _ in pipes:
            assert here.poll(60)
            assert here.recv() == "writing"
        killed.kill()
        killed.join()
        assert len(list(tmp_path.iterdir())) == 2
        write_dataset(tmp_path / "set", {}, {"query": 1}, lambda draft: (draft / "query").mkdir() or (draft / "query" / "1.jpg").touch())
        assert [f"_{living.pid}_" in path.name for path in sorted(tmp_path.iterdir())] == [True, False]
        pipes[1][0].send("go on")
        living.join()
        assert living.exitcode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["set"]
    finally:
        for one in (killed, living):
            one.kill()
            one.join()


def test_a_folder_generated_with_other_arguments_is_refused_with_both_values(tmp_path):
    GeneratedPedestrians(seed=0, **SMALL).write(tmp_path / "set", progress=False)
    with pytest.raises(FileExistsError, match=r"set was generated with seed=0 \(asked: 5\)"):
        GeneratedPedestrians(seed=5, **SMALL).write(tmp_path / "set", progress=False)


def test_a_folder_that_was_not_generated_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"was not generated .*name another folder"):
        GeneratedPedestrians(**SMALL).write(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_generated_folder_with_missing_files_is_reported_with_counts(tmp_path):
    people = GeneratedPedestrians(**SMALL)
    root = people.write(tmp_path / "set", progress=False)
    count = len(list((root / "query").iterdir()))
    next((root / "query").iterdir()).unlink()
    with pytest.raises(RuntimeError, match=rf"query should hold {count} crops .* found {count - 1}: delete"):
        people.write(root, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "msmt-like"}, r"preset must be one of 'duke-like', 'market-like', got 'msmt-like'"),
        ({"seed": -1}, r"seed must be at least 0, got -1"),
        ({"images_per_camera": 1}, r"images_per_camera must be at least 2, got 1"),
        ({"num_test_pids": 0}, r"num_test_pids must be at least 1, got 0"),
        ({"height": 8}, r"height must be at least 32, got 8"),
        ({"num_train_pids": 9950}, r"four digits of identity, got 10040 people"),
        ({"preset": "duke-like", "num_distractors": 9900}, r"got 10140 people: ask for at most 9999"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneratedPedestrians(**arguments)


@pytest.mark.parametrize(("pid", "camid", "k"), [(-2, 1, 0), (1, 0, 0), (1, 7, 0), (1, 1, -1)])
def test_a_picture_outside_the_domain_is_refused(pid, camid, k):
    with pytest.raises(ValueError, match=rf"camid in 1..6 and k >= 0, got pid={pid}, camid={camid}, k={k}"):
        GeneratedPedestrians(**SMALL).render(pid, camid, k)


def color_histogram(image: np.ndarray, stripes: int) -> np.ndarray:
    """Square roots of joint HSV histograms (8 x 8 x 4) of horizontal stripes: their dot product is the Bhattacharyya coefficient."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    bins = [cv2.calcHist([stripe], [0, 1, 2], None, [8, 8, 4], [0, 180, 0, 256, 0, 256]) for stripe in np.array_split(hsv, stripes)]
    return np.sqrt(np.concatenate([counts.ravel() for counts in bins]))


@pytest.mark.parametrize("preset", PRESETS)
def test_color_histograms_alone_do_not_find_people_again(preset):
    people = GeneratedPedestrians(preset, num_train_pids=1, num_test_pids=50)
    rows = {"query": [], "bounding_box_test": []}
    for crop in people.itinerary.crops():
        if crop.folder in rows:
            image = cv2.imdecode(np.frombuffer(people.encode(crop.pid, crop.camid, crop.k), np.uint8), cv2.IMREAD_COLOR)
            rows[crop.folder].append((crop.pid, crop.camid, color_histogram(image, 1), color_histogram(image, 6)))
    (query_pids, query_camids, *queries), (gallery_pids, gallery_camids, *galleries) = (
        [torch.from_numpy(np.stack(column)) for column in zip(*table)] for table in rows.values()
    )
    for query, gallery in zip(queries, galleries):
        scores = retrieval_scores(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids)
        assert 0.0 < scores.mAP < 0.40
