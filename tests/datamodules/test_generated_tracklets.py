"""Generated tracklets: same seed same bytes, MARS on disk, the noise that was promised, and a detector that looks frames up."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.datamodules.generated import GeneratedBoxDetector, GeneratedTracklets, tracklets
from lightning_reid.datamodules.generated.boxes_table import FrameBoxes, pixel_digest, read_boxes
from lightning_reid.datamodules.generated.tracklet_crossings import Stretch
from lightning_reid.datamodules.generated.tracklet_frame import draw_frame
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers import read_mars_folder
from lightning_reid.detection import PersonDetector
from lightning_reid.detection.detections import checked_detections
from lightning_reid.detection.padding import detect_in_padded
from lightning_reid.metrics import retrieval_scores

SMALL = {"num_train_pids": 5, "num_test_pids": 4, "num_distractors": 6, "frames": (3, 6), "height": 64, "width": 32}
NOISE = {"num_train_pids": 14, "num_test_pids": 1, "num_distractors": 0, "frames": (4, 8), "height": 64, "width": 32}
PRESETS = ("dukev-like", "mars-like")


def all_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return GeneratedTracklets(**SMALL).write(tmp_path_factory.mktemp("generated") / "mars", progress=False)


@pytest.fixture(scope="module")
def noisy_and_clean() -> dict[str, list[tuple[int, tuple]]]:
    """The tracklet's number and the visible people of each training frame, drawn without files."""
    frames = {}
    for preset in PRESETS:
        data = GeneratedTracklets(preset, **NOISE)
        planned = [tracklet for tracklet in data.itinerary.tracklets() if tracklet.folder == "bbox_train"]
        frames[preset] = [
            (number, data.render(one.pid, one.camid, one.number, frame).people)
            for number, one in enumerate(planned)
            for frame in range(one.num_frames)
        ]
    return frames


# --- what is drawn


def test_the_same_seed_writes_the_same_bytes(small, tmp_path):
    again = GeneratedTracklets(**SMALL).write(tmp_path / "again", progress=False)
    assert all_files(again) == all_files(small)


def test_a_frame_does_not_depend_on_what_was_drawn_before_it():
    data = GeneratedTracklets("mars-like", seed=5, **SMALL)
    wanted = [(pid, camid, number, frame) for pid in (1, 2, 0, -1) for camid in (1, 4) for number in (1, 2) for frame in (0, 1, 40)]
    forwards = {key: data.encode(*key) for key in wanted}
    backwards = {key: data.encode(*key) for key in reversed(wanted)}
    assert forwards == backwards
    assert len({picture for picture, _ in forwards.values()}) == len(wanted)


def test_threads_draw_the_same_frames_as_one_after_another():
    data = GeneratedTracklets("dukev-like", seed=77, **SMALL)
    wanted = [(pid, camid, 1, frame) for pid in range(1, 9) for camid in (1, 8) for frame in (0, 15)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda key: data.encode(*key), wanted))
    assert threaded == [data.encode(*key) for key in wanted]


def test_more_people_and_longer_tracklets_leave_a_frame_as_it_was():
    few, many = GeneratedTracklets(**SMALL), GeneratedTracklets(**{**SMALL, "num_train_pids": 60, "frames": (50, 60), "num_distractors": 0})
    assert few.encode(2, 3, 1, 2) == many.encode(2, 3, 1, 2)


def test_another_seed_gives_other_people():
    assert GeneratedTracklets(seed=0, **SMALL).encode(1, 1, 1, 0) != GeneratedTracklets(seed=1, **SMALL).encode(1, 1, 1, 0)


@given(
    seed=st.integers(0, 10_000), pid=st.integers(-1, 9999), camid=st.integers(1, 6), number=st.integers(1, 500), frame=st.integers(0, 998)
)
@settings(max_examples=40)
def test_any_frame_is_a_full_crop_whose_people_have_boxes_inside_it(seed, pid, camid, number, frame):
    drawn = GeneratedTracklets(seed=seed % 3, **SMALL).render(pid, camid, number, frame)
    assert drawn.image.shape == (64, 32, 3)
    assert drawn.image.dtype == np.uint8
    assert drawn.image.std() > 3
    for seen in drawn.people:
        x0, y0, x1, y1 = seen.box
        assert 0 <= x0 < x1 <= 32
        assert 0 <= y0 < y1 <= 64
    assert sum(seen.role == "person" for seen in drawn.people) <= 1


def test_the_scene_moves_smoothly_within_a_clean_tracklet_and_not_at_all_alike_between_two():
    data = GeneratedTracklets("dukev-like", seed=2, **{**SMALL, "height": 128, "width": 64})
    first, second = ([cv2.blur(data.render(3, 2, number, frame).image, (5, 5)).astype(float) for frame in range(12)] for number in (1, 2))
    steps = [np.abs(one - other).mean() for one, other in pairwise(first)]
    assert max(steps) < 0.7 * np.abs(first[0] - second[0]).mean()
    assert min(steps) > 0.5  # people walk: no two frames are the same


def test_the_legs_go_through_a_whole_step_and_back_within_twenty_frames():
    data = GeneratedTracklets("dukev-like", seed=0, num_test_pids=1)
    for pid in (1, 2, 3):
        seen = [data.render(pid, 5, 1, frame).people for frame in range(20)]  # camera 5 sees people from the side
        widths = [person.box[2] - person.box[0] for people in seen for person in people if person.role == "person"]
        assert max(widths) > 1.25 * min(widths)


def test_the_labeled_persons_box_is_what_changes_when_the_person_is_taken_out():
    for pid in range(1, 7):
        script, site = tracklets._script("dukev-like", 1, pid, 4, 1), tracklets._site("dukev-like", 1, 4, 128, 64)
        empty = draw_frame(np.random.default_rng(0), site, replace(script, nobody=True), (Stretch((), (), (0, 0)),), 0)
        full = draw_frame(np.random.default_rng(0), site, script, (Stretch((), (), (0, 0)),), 0)
        assert [seen.role for seen in full.people if seen.role == "person"] == ["person"]
        assert not any(seen.role == "person" for seen in empty.people)
        x0, y0, x1, y1 = next(seen.box for seen in full.people if seen.role == "person")
        changed = np.abs(full.image.astype(int) - empty.image.astype(int)).max(axis=2) > 25
        above_the_shadow = changed[: round(y1 - 0.2 * (y1 - y0))]
        rows, columns = np.nonzero(above_the_shadow)
        assert abs(rows.min() - y0) <= 4
        assert x0 - 3 <= columns.min()
        assert columns.max() <= x1 + 3
        assert columns.max() - columns.min() > 0.5 * (x1 - x0)  # the widest part may be the stride, which the shadow hides


# --- what stands on disk


@pytest.mark.parametrize("preset", PRESETS)
def test_the_reader_of_mars_finds_the_tracklets_that_were_planned(preset, small, tmp_path):
    data = GeneratedTracklets(preset, **SMALL)
    root = small if preset == "mars-like" else data.write(tmp_path / "set", progress=False)
    found = read_mars_folder(root, preset)
    planned = list(data.itinerary.tracklets())
    for folder, records in (("bbox_train", found.train), ("bbox_test", found.gallery)):
        expected = Counter((one.pid, one.camid, one.num_frames) for one in planned if one.folder == folder)
        assert Counter((record.pid, record.camid, len(record.paths)) for record in records) == expected
    assert [(record.pid, record.camid) for record in found.query] == [(one.pid, one.camid) for one in planned if one.is_query]
    assert len({record.pid for record in found.train}) == 5
    assert len({record.pid for record in found.query}) == 4
    assert not {record.pid for record in found.train} & {record.pid for record in found.gallery}
    assert load_image(found.query[0].paths[0]).shape == (3, 64, 32)


def test_files_are_named_as_in_mars(small):
    for path in small.rglob("*.jpg"):
        assert re.fullmatch(r"(\d{4}|00-1)C[1-6]T\d{4}F\d{3}\.jpg", path.name)
        assert path.parent.name == path.name[:4]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_query_can_be_answered_by_another_camera(preset):
    planned = list(GeneratedTracklets(preset).itinerary.tracklets())
    gallery = {(one.pid, one.camid) for one in planned if one.folder == "bbox_test"}
    queries = [one for one in planned if one.is_query]
    assert all(any(pid == one.pid and camid != one.camid for pid, camid in gallery) for one in queries)
    assert len({(one.pid, one.camid) for one in queries}) == len(queries)
    assert {one.camid for one in planned} == set(range(1, 7 if preset == "mars-like" else 9))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_person_has_one_to_three_tracklets_in_a_camera_and_at_least_three_to_train_on(preset):
    planned = [one for one in GeneratedTracklets(preset).itinerary.tracklets() if one.folder == "bbox_train"]
    per_camera, per_person = Counter((one.pid, one.camid) for one in planned), Counter(one.pid for one in planned)
    assert set(per_camera.values()) == {1, 2, 3}
    assert min(per_person.values()) >= 3
    assert np.mean(list(per_person.values())) > 5
    assert {one.num_frames for one in planned} == set(range(8, 21))


def test_the_mars_like_gallery_holds_distractors_and_junk_and_the_dukev_like_one_people_whom_nobody_queries():
    mars, dukev = (list(GeneratedTracklets(preset, **SMALL).itinerary.tracklets()) for preset in ("mars-like", "dukev-like"))
    assert Counter(one.pid for one in mars if one.pid <= 0) == {0: 6, -1: 3}
    assert {one.folder for one in mars if one.pid <= 0} == {"bbox_test"}
    queried = {one.pid for one in dukev if one.is_query}
    others = {one.pid: set() for one in dukev if one.folder == "bbox_test" and one.pid not in queried}
    for one in dukev:
        if one.pid in others:
            others[one.pid].add(one.camid)
    assert len(others) == 6
    assert {len(cameras) for cameras in others.values()} == {1}


def test_the_table_of_boxes_has_a_row_for_every_frame_and_the_digest_of_its_pixels(small):
    with (small / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    roles = defaultdict(list)
    for row in rows:
        roles[row["image"]].append(row["role"])
    pictures = {path.name: path for path in small.rglob("*.jpg")}
    assert set(roles) == set(pictures)
    assert all(named == ["nobody"] or set(named) <= {"person", "other"} for named in roles.values())
    for row in rows[::7]:
        decoded = cv2.imdecode(np.fromfile(pictures[row["image"]], np.uint8), cv2.IMREAD_COLOR)
        assert row["digest"] == pixel_digest(decoded[:, :, ::-1])


def test_the_table_of_boxes_says_what_was_drawn(small):
    data, planned = GeneratedTracklets(**SMALL), next(iter(GeneratedTracklets(**SMALL).itinerary.tracklets()))
    table = {frame.image: frame for frame in read_boxes(small).values()}
    for number, name in enumerate(planned.names()):
        drawn = data.render(planned.pid, planned.camid, planned.number, number).people
        assert table[name].roles == tuple(seen.role for seen in drawn)
        np.testing.assert_allclose(table[name].boxes, np.array([seen.box for seen in drawn]).reshape(-1, 4))


def test_a_second_write_reuses_the_folder(small):
    times = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    GeneratedTracklets(**SMALL).write(small, progress=False)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == times


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    encode, calls = GeneratedTracklets.encode, []

    def interrupted(self, *key):
        calls.append(key)
        assert not (tmp_path / "set").exists()  # a kill -9 now would leave only the hidden draft
        if len(calls) == 20:
            raise KeyboardInterrupt
        return encode(self, *key)

    monkeypatch.setattr(GeneratedTracklets, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        GeneratedTracklets(**SMALL).write(tmp_path / "set", progress=False)
    assert len(calls) == 20
    assert list(tmp_path.iterdir()) == []


def test_a_folder_generated_with_other_arguments_is_refused_with_both_values(small):
    with pytest.raises(FileExistsError, match=r"mars was generated with seed=0 \(asked: 5\)"):
        GeneratedTracklets(seed=5, **SMALL).write(small, progress=False)


def test_a_folder_that_was_not_generated_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"was not generated .*name another folder"):
        GeneratedTracklets(**SMALL).write(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_generated_folder_with_missing_files_is_reported_with_counts(tmp_path):
    tiny = GeneratedTracklets(**{**SMALL, "num_train_pids": 1, "num_test_pids": 1, "num_distractors": 0})
    root = tiny.write(tmp_path / "set", progress=False)
    count = len(list(root.glob("bbox_train/*/*.jpg")))
    next(root.glob("bbox_train/*/*.jpg")).unlink()
    with pytest.raises(RuntimeError, match=rf"bbox_train should hold {count} crops .* found {count - 1}: delete"):
        tiny.write(root, progress=False)


# --- the noise


def person_centers(frames: list[tuple[int, tuple]]) -> np.ndarray:
    """Distance of the visible labeled person's middle from the frame's, in frame widths."""
    boxes = np.array([seen.box for _, people in frames for seen in people if seen.role == "person"])
    return np.abs((boxes[:, 0] + boxes[:, 2]) / 2 / 32 - 0.5)


def person_heights(frames: list[tuple[int, tuple]]) -> np.ndarray:
    boxes = np.array([seen.box for _, people in frames for seen in people if seen.role == "person"])
    return (boxes[:, 3] - boxes[:, 1]) / 64


def test_mars_like_boxes_sit_beside_the_person_and_dukev_like_ones_do_not(noisy_and_clean):
    noisy, clean = (person_centers(noisy_and_clean[preset]) for preset in ("mars-like", "dukev-like"))
    assert 0.25 < (noisy > 0.15).mean() < 0.5
    assert (clean > 0.15).mean() < 0.01


def test_mars_like_boxes_are_often_too_large_or_cut_the_person_and_dukev_like_ones_are_not(noisy_and_clean):
    noisy, clean = (person_heights(noisy_and_clean[preset]) for preset in ("mars-like", "dukev-like"))
    assert (noisy < 0.75).mean() > 0.1
    assert (noisy > 0.98).mean() > 0.1
    assert ((clean > 0.75) & (clean < 0.98)).mean() > 0.98


def test_half_of_the_mars_like_tracklets_show_a_second_person_and_few_of_the_dukev_like_ones(noisy_and_clean):
    shares = {}
    for preset, frames in noisy_and_clean.items():
        shared = defaultdict(bool)
        for number, people in frames:
            shared[number] |= any(seen.role == "other" for seen in people)
        shares[preset] = np.mean(list(shared.values()))
    assert 0.4 < shares["mars-like"] < 0.7
    assert shares["dukev-like"] < 0.2


def test_in_some_mars_like_frames_the_box_is_on_somebody_else_and_in_no_dukev_like_one(noisy_and_clean):
    def on_another(people: tuple) -> bool:
        """Whether the one in the middle is not the labeled person, who stands aside or is gone."""
        near = min(people, key=lambda seen: abs((seen.box[0] + seen.box[2]) / 64 - 0.5), default=None)
        aside = all(abs((seen.box[0] + seen.box[2]) / 64 - 0.5) > 0.2 for seen in people if seen.role == "person")
        return near is not None and near.role == "other" and aside

    shares = {preset: np.mean([on_another(people) for _, people in frames]) for preset, frames in noisy_and_clean.items()}
    assert 0.02 < shares["mars-like"] < 0.2
    assert shares["dukev-like"] < 0.01


def test_a_wrong_box_stays_on_the_other_person_for_a_run_of_frames():
    runs = [passer.followed for pid in range(1, 60) for passer in tracklets._stretch("mars-like", 0, pid, 1, 1, 0).passing]
    lengths = {end - begin for begin, end in runs}
    assert lengths <= {0, *range(3, 9)}
    assert {0, 3, 8} <= lengths


def test_color_histograms_alone_do_not_find_people_again():
    data = GeneratedTracklets(num_train_pids=1, num_test_pids=16, num_distractors=0, frames=(3, 4), height=64, width=32)
    planned = [one for one in data.itinerary.tracklets() if one.folder == "bbox_test"]
    rows = []
    for one in planned:
        counts = np.zeros(6 * 256)
        for frame in range(one.num_frames):
            hsv = cv2.cvtColor(data.render(one.pid, one.camid, one.number, frame).image, cv2.COLOR_RGB2HSV)
            parts = [cv2.calcHist([part], [0, 1, 2], None, [8, 8, 4], [0, 180, 0, 256, 0, 256]).ravel() for part in np.array_split(hsv, 6)]
            counts += np.concatenate(parts)
        rows.append(np.sqrt(counts / counts.sum()))
    gallery = torch.from_numpy(np.stack(rows))
    pids, camids = (torch.tensor([getattr(one, name) for one in planned]) for name in ("pid", "camid"))
    asked = torch.tensor([one.is_query for one in planned])
    scores = retrieval_scores(gallery[asked], gallery, pids[asked], pids, camids[asked], camids, protocol="mars")
    assert 0.0 < scores.mAP < 0.40


# --- the stand-in for a detector


def frames_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.jpg"))


def truth_of(root: Path) -> dict[str, FrameBoxes]:
    return {frame.image: frame for frame in read_boxes(root).values()}


def test_the_detector_finds_the_people_of_a_frame_by_its_pixels(small):
    detector, truth = GeneratedBoxDetector(small, jitter=0.0, miss=0.0), truth_of(small)
    assert isinstance(detector, PersonDetector)
    for path in frames_of(small)[::5]:
        (found,) = detector([load_image(str(path))])
        expected = torch.from_numpy(truth[path.name].boxes).float()
        assert sorted(found.boxes.tolist()) == sorted(expected.tolist())
        assert bool(((found.scores >= 0.3) & (found.scores < 1)).all())
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_jitter_and_misses_are_as_large_as_asked_for_and_the_boxes_pass_the_check(small):
    images = [load_image(str(path)) for path in frames_of(small)]
    exact = GeneratedBoxDetector(small, jitter=0.0, miss=0.0)(images)
    shaken = checked_detections(GeneratedBoxDetector(small, jitter=0.05, miss=0.0, seed=1), images)
    missing = checked_detections(GeneratedBoxDetector(small, jitter=0.0, miss=0.3, seed=1), images)
    people = sum(len(found.boxes) for found in exact)
    assert 0.2 < 1 - sum(len(found.boxes) for found in missing) / people < 0.4
    shifts = []
    for found, true in zip(shaken, exact):
        if len(true.boxes) == 1:
            (x0, y0, x1, y1), box = true.boxes[0].tolist(), found.boxes[0].tolist()
            shifts += [(box[0] - x0) / (x1 - x0)] if x0 > 3 else []
            shifts += [(box[1] - y0) / (y1 - y0)] if y0 > 3 else []
    assert 0.035 < np.std(shifts) < 0.065


def test_a_detectors_answer_depends_on_the_seed_and_the_frame_alone(small):
    images = [load_image(str(path)) for path in frames_of(small)[:12]]
    together = GeneratedBoxDetector(small, seed=3)(images)
    alone = [GeneratedBoxDetector(small, seed=3)([image])[0] for image in reversed(images)][::-1]
    other = GeneratedBoxDetector(small, seed=4)(images)
    for one, same in zip(together, alone):
        torch.testing.assert_close(one.boxes, same.boxes, rtol=0, atol=0)
        torch.testing.assert_close(one.scores, same.scores, rtol=0, atol=0)
    assert any(one.scores.tolist() != another.scores.tolist() for one, another in zip(together, other))


def test_frames_in_a_border_are_known_and_their_boxes_come_back_without_it(small):
    images, detector = [load_image(str(path)) for path in frames_of(small)[:20]], GeneratedBoxDetector(small)
    for padded, plain in zip(detect_in_padded(detector, images, padding=0.25), detect_in_padded(detector, images, padding=0.0)):
        torch.testing.assert_close(padded.boxes, plain.boxes)
        torch.testing.assert_close(padded.scores, plain.scores)


@pytest.mark.parametrize("shape", [(3, 64, 32), (3, 128, 64), (3, 10, 10)])
def test_an_unknown_image_is_an_error_that_says_what_the_detector_is_for(small, shape):
    with pytest.raises(ValueError, match=r"image 0 of the batch, .* is no frame of .*mars.* only stands in .* use a real detector"):
        GeneratedBoxDetector(small)([torch.zeros(shape, dtype=torch.uint8)])


def test_detectors_that_answer_differently_have_different_names(small):
    names = {GeneratedBoxDetector(small, **settings).name for settings in ({}, {"jitter": 0.1}, {"miss": 0.1}, {"seed": 1})}
    assert len(names) == 4
    assert GeneratedBoxDetector(small).name in names


@pytest.mark.parametrize("settings", [{"jitter": -0.1}, {"jitter": 0.5}, {"miss": 1.0}, {"seed": -1}])
def test_detector_settings_out_of_range_are_refused(small, settings):
    with pytest.raises(ValueError, match=r"need 0 <= jitter <= 0\.3, 0 <= miss < 1 and seed >= 0, got"):
        GeneratedBoxDetector(small, **settings)


def test_a_folder_without_boxes_is_no_place_for_the_detector(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no boxes\.csv: only folders that GeneratedTracklets wrote do"):
        GeneratedBoxDetector(tmp_path)


def test_a_table_with_other_columns_is_refused(tmp_path):
    (tmp_path / "boxes.csv").write_text("image,x,y\n")
    with pytest.raises(ValueError, match=r"should have the columns image, x0, .* got image, x, y"):
        read_boxes(tmp_path)


# --- bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "market-like"}, r"preset must be one of 'dukev-like', 'mars-like', got 'market-like'"),
        ({"seed": -1}, r"seed must be at least 0, got -1"),
        ({"num_test_pids": 0}, r"num_test_pids must be at least 1, got 0"),
        ({"height": 8}, r"height must be at least 32, got 8"),
        ({"frames": (0, 4)}, r"frames must be the least and the greatest length of a tracklet, 1 to 999, got \(0, 4\)"),
        ({"frames": (5, 4)}, r"frames must be .* got \(5, 4\)"),
        ({"frames": (5, 1000)}, r"frames must be .* got \(5, 1000\)"),
        ({"frames": (5,)}, r"frames must be .* got \(5,\)"),
        ({"num_train_pids": 9950}, r"four digits, got 10050 people and distractors"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneratedTracklets(**arguments)


@pytest.mark.parametrize("key", [(-2, 1, 1, 0), (1, 0, 1, 0), (1, 7, 1, 0), (1, 1, 0, 0), (1, 1, 1, -1)])
def test_a_frame_outside_the_domain_is_refused(key):
    with pytest.raises(ValueError, match=r"need pid >= -1, camid in 1\.\.6, number >= 1 and frame >= 0, got pid="):
        GeneratedTracklets(**SMALL).render(*key)


def test_frames_given_as_a_list_are_the_same_as_a_tuple():
    assert GeneratedTracklets(frames=[3, 5]) == GeneratedTracklets(frames=(3, 5))
    assert hash(GeneratedTracklets(frames=[3, 5])) == hash(GeneratedTracklets(frames=(3, 5)))
