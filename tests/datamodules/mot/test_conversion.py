"""A sequence of colored rectangles, whose color tells person and frame, becomes re-identification sets; so does PETS 2009."""

import csv
import os
import resource
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat

from lightning_reid.datamodules.decoding import decoded
from lightning_reid.datamodules.mot import sequence as sequence_file
from lightning_reid.datamodules.mot.conversion import convert_mot, main
from lightning_reid.datamodules.mot.crops import Crop, CropRules, Zone, column_zones, require_disjoint, visible_shares
from lightning_reid.datamodules.mot.people import PeopleRules, choose_queries
from lightning_reid.datamodules.mot.sequence import open_sequence, read_annotation, stream_frames
from lightning_reid.datamodules.readers import read_market_folder

WIDTH, HEIGHT, FRAMES, PEOPLE = 320, 200, 24, 3
RULES = CropRules(min_frames=3, every_n_frames=2, max_per_tracklet=3)
EVERYTHING = CropRules(min_frames=1, every_n_frames=1, max_per_tracklet=40)


def box(mot_id: int, frame: int) -> tuple[int, int, int, int]:
    """Each walks in a lane of its own from left to right, 12 pixels a frame, in a box of 20 x 60."""
    return 12 * (frame - 1) + 4 * mot_id, 5 + 65 * (mot_id - 1), 20, 60


def picture(frame: int) -> np.ndarray:
    canvas = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    for mot_id in range(1, PEOPLE + 1):
        x, y, width, height = box(mot_id, frame)
        canvas[y : y + height, x : x + width] = (0, 10 * frame, 80 * mot_id)  # green tells the frame, red the person
    return canvas


def told_by_color(path: str | Path) -> tuple[int, int]:
    """Person and frame of a crop; the rim is left to the codec."""
    _, green, red = cv2.imread(str(path))[10:-10, 4:-4].mean(axis=(0, 1))
    return round(red / 80), round(green / 10)


def annotate(path: Path, ending: str = "1,-1,-1,-1", rows: str = "") -> None:
    lines = [
        f"{frame},{mot_id},{','.join(map(str, box(mot_id, frame)))},{ending}\n" for mot_id in (1, 2, 3) for frame in range(1, FRAMES + 1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines) + rows)


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "WALK-01"
    (folder / "img1").mkdir(parents=True)
    for frame in range(1, FRAMES + 1):
        cv2.imwrite(str(folder / "img1" / f"{frame:06d}.png"), picture(frame))
    annotate(folder / "gt" / "gt.txt")
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nname=WALK-01\nimDir=img1\nimWidth={WIDTH}\nimHeight={HEIGHT}\nimExt=.png\n")
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "film" / "walk.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for frame in range(1, FRAMES + 1):
        writer.write(picture(frame))
    writer.release()
    annotate(path.with_name("gt.txt"))
    return path


def test_every_market_crop_shows_the_person_frame_and_zone_of_its_name(sequence, tmp_path):
    counts = convert_mot(sequence, tmp_path / "set", crops=RULES, jpeg_quality=100)
    dataset = read_market_folder(tmp_path / "set")
    records = [record for _, split in dataset.splits() for record in split]
    for record in records:
        assert told_by_color(record.path) == (record.pid, record.frame)
        foot = box(record.pid, record.frame)[0] + 10
        assert record.camid == (1 if foot < 93.4 else 2 if foot < 206.7 else 3)  # three columns of 93.3 pixels, strips of 20
        assert cv2.imread(record.path).shape == (60, 20, 3)
    assert [len(split) for _, split in dataset.splits()] == [counts.train, counts.query, counts.gallery]
    assert Counter((record.pid, record.camid) for record in records) == {(pid, camid): 3 for pid in (1, 2, 3) for camid in (1, 2, 3)}
    assert len(records) + sum(counts.left_out.values()) == counts.boxes == PEOPLE * FRAMES
    assert not {record.pid for record in dataset.train} & {record.pid for record in dataset.query}


def test_a_video_gives_what_its_pictures_give(sequence, video, tmp_path):
    of_pictures = convert_mot(sequence, tmp_path / "a", crops=RULES)
    of_video = convert_mot(video.parent, tmp_path / "b", crops=RULES)
    assert of_video == of_pictures == convert_mot(video, tmp_path / "c", annotation=sequence / "gt" / "gt.txt", crops=RULES)
    names = [sorted(str(file.relative_to(tmp_path / out)) for file in (tmp_path / out).rglob("*")) for out in "abc"]
    assert names[0] == names[1] == names[2]
    for record in read_market_folder(tmp_path / "b").train:
        assert told_by_color(record.path) == (record.pid, record.frame)


def test_the_mars_lists_point_at_tracklets_of_one_person_in_one_zone(sequence, tmp_path):
    counts = convert_mot(sequence, tmp_path / "set", layout="mars", crops=CropRules(min_frames=3, max_per_tracklet=5), jpeg_quality=100)
    info = tmp_path / "set" / "info"
    tables = {split: loadmat(info / f"tracks_{split}_info.mat")[f"track_{split}_info"] for split in ("train", "test")}
    for split, table in tables.items():
        names = (info / f"{split}_name.txt").read_text().split()
        assert [row[0] for row in table] == [1, *(row[1] + 1 for row in table[:-1])]  # from 1, without a gap
        assert table[-1][1] == len(names)
        for start, end, pid, camid in table:
            tracklet = names[start - 1 : end]
            assert {name[:6] for name in tracklet} == {f"{pid:04d}C{camid}"}
            assert [int(name[12:15]) for name in tracklet] == list(range(1, len(tracklet) + 1))
            told = [told_by_color(tmp_path / "set" / f"bbox_{split}" / name[:4] / name) for name in tracklet]
            assert {person for person, _ in told} == {pid}
            assert [frame for _, frame in told] == list(range(told[0][1], told[0][1] + len(told)))
            assert len(tracklet) <= 5
    queries = loadmat(info / "query_IDX.mat")["query_IDX"].ravel()
    test = tables["test"]
    assert (len(tables["train"]), len(queries), len(test) - len(queries)) == (counts.train, counts.query, counts.gallery)
    gallery = np.delete(test, queries - 1, axis=0)
    for _, _, pid, camid in test[queries - 1]:
        assert ((gallery[:, 2] == pid) & (gallery[:, 3] != camid)).any()


def test_crops_csv_tells_where_every_file_was_cut(sequence, tmp_path):
    convert_mot(sequence, tmp_path / "set", crops=RULES, people=PeopleRules(pid_map={1: 11, 2: 12, 3: 13}))
    with (tmp_path / "set" / "crops.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(list((tmp_path / "set").rglob("*.jpg")))
    for row in rows:
        x, y, width, height = box(int(row["mot_id"]), int(row["frame"]))
        assert [int(row[edge]) for edge in ("x0", "y0", "x1", "y1")] == [x, y, x + width, y + height]
        assert int(row["pid"]) == int(row["mot_id"]) + 10
        assert (tmp_path / "set" / row["file"]).is_file()


def test_the_columns_of_mot16_tell_class_and_visibility(sequence, tmp_path):
    annotate(sequence / "gt" / "gt.txt", "1,1,0.5")
    rows = [row.rstrip("\n").split(",") for row in (sequence / "gt" / "gt.txt").open()]
    rows[0][6] = "0"  # not considered
    rows[1][7] = "3"  # a car
    rows[2][8] = "0.9"
    (sequence / "gt" / "gt.txt").write_text("\n".join(map(",".join, rows)))
    counts = convert_mot(sequence, tmp_path / "set", crops=EVERYTHING, zones=1, people=PeopleRules(test_fraction=0))
    assert counts.left_out == {"not considered": 2, "hidden": PEOPLE * FRAMES - 3}
    assert [file.name for file in (tmp_path / "set").rglob("*.jpg")] == ["0001_c1s1_000003_01.jpg"]


def test_the_visible_share_is_what_boxes_of_nearer_people_leave_uncovered():
    corners = np.array([[0, 0, 10, 10], [5, 0, 15, 20], [0, 8, 4, 30], [7, 7, 7, 9]])
    # of the first box's 100 pixels the second hides 50 and the third 4 x 2; nobody stands before the second but the third, apart from it
    np.testing.assert_allclose(visible_shares(corners), [0.42, 1.0, 1.0, 0.0])


def test_joined_tracks_are_one_person_unless_they_meet_in_a_frame(sequence, tmp_path):
    halves = [f"{frame},{9 if frame > 12 else 1},{','.join(map(str, box(1, frame)))},1,-1,-1,-1\n" for frame in range(1, FRAMES + 1)]
    (sequence / "gt" / "gt.txt").write_text("".join(halves))
    people = PeopleRules(pid_map={1: 5, 9: 5}, test_fraction=1.0)
    counts = convert_mot(sequence, tmp_path / "set", crops=RULES, people=people)
    assert (counts.people, counts.cameras, counts.train) == (1, 3, 0)
    annotate(sequence / "gt" / "gt.txt")
    with pytest.raises(ValueError, match="tracks 1 and 2 are both person 5, but both in frame 1"):
        convert_mot(sequence, tmp_path / "other", people=PeopleRules(pid_map={1: 5, 2: 5, 3: 6}))


def test_a_test_fraction_of_zero_makes_a_training_set_only(sequence, tmp_path):
    counts = convert_mot(sequence, tmp_path / "set", crops=RULES, people=PeopleRules(test_fraction=0))
    assert (counts.query, counts.gallery) == (0, 0)
    assert len(read_market_folder(tmp_path / "set", needs_test=False).train) == counts.train == 27


def test_given_test_people_are_taken(sequence, tmp_path):
    convert_mot(sequence, tmp_path / "set", crops=RULES, people=PeopleRules(test_pids=[2]))
    dataset = read_market_folder(tmp_path / "set")
    assert {record.pid for record in dataset.train} == {1, 3}
    assert {record.pid for record in dataset.query + dataset.gallery} == {2}


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.floats(0, 1)), max_size=12),
    st.sampled_from(["most-visible", "tallest", "first"]),
)
def test_every_query_keeps_a_match_in_another_zone(items, rule):
    crops = [Crop(frame, 1, pid, camid, 0, 0, 10, 20 + frame, visible) for frame, (pid, camid, visible) in enumerate(items)]
    queries = choose_queries([(crop,) for crop in crops], rule)
    asked = [(crops[index].pid, crops[index].camid) for index in queries]
    assert len(asked) == len(set(asked))
    for index in queries:
        assert any(
            crop.pid == crops[index].pid and crop.camid != crops[index].camid for other, crop in enumerate(crops) if other not in queries
        )
    for pid in {crop.pid for crop in crops}:
        if len({crop.camid for crop in crops if crop.pid == pid}) > 1:
            assert pid in {person for person, _ in asked}


def test_the_query_rule_says_which_crop_is_asked_for():
    crops = [
        Crop(1, 1, 1, 1, 0, 0, 9, 30, 0.7),
        Crop(2, 1, 1, 1, 0, 0, 9, 20, 1.0),
        Crop(3, 1, 1, 1, 0, 0, 9, 40, 0.8),
        Crop(4, 1, 1, 2, 0, 0, 9, 9, 0.1),
    ]
    chosen = {rule: choose_queries([(crop,) for crop in crops], rule) for rule in ("first", "most-visible", "tallest")}
    assert chosen == {"first": {0}, "most-visible": {1}, "tallest": {2}}


@given(st.integers(20, 4000), st.integers(1, 6))
def test_column_zones_are_disjoint_and_cover_the_picture_but_for_the_strips(width, number):
    zones = column_zones(width, 100, number)
    require_disjoint(zones)
    assert zones[0].x0 == 0
    assert zones[-1].x1 == pytest.approx(width)
    assert sum(zone.x1 - zone.x0 for zone in zones) == pytest.approx(width - (number - 1) * width / 16)


def test_frames_are_read_one_at_a_time_and_only_the_wanted_ones(sequence, monkeypatch):
    read = []
    monkeypatch.setattr(sequence_file, "decoded", lambda path, *how: read.append(Path(path).stem) or decoded(path, *how))
    frames = stream_frames(sequence / "img1", {3, 20, 7})
    assert next(frames)[0] == 3
    assert read == ["000003"]
    assert [number for number, _ in frames] == [7, 20]


def test_a_filled_output_is_refused_and_an_empty_one_is_taken(sequence, tmp_path):
    (tmp_path / "set").mkdir()
    convert_mot(sequence, tmp_path / "set", crops=RULES)
    before = sorted((tmp_path / "set").rglob("*"))
    with pytest.raises(FileExistsError, match="set is there and not an empty folder: give another output, or remove it first"):
        convert_mot(sequence, tmp_path / "set", crops=RULES)
    assert sorted((tmp_path / "set").rglob("*")) == before


def test_a_conversion_that_fails_half_way_leaves_nothing_behind(video, tmp_path):
    annotate(video.with_name("gt.txt"), rows=f"{FRAMES + 1},1,0,5,20,60,1,-1,-1,-1\n")
    with pytest.raises(ValueError, match=f"walk.avi ends after {FRAMES} frames, but frame {FRAMES + 1} is needed"):
        convert_mot(video, tmp_path / "set", crops=EVERYTHING)
    assert [entry.name for entry in tmp_path.iterdir()] == ["film"]


def test_what_a_killed_conversion_left_goes(sequence, tmp_path, draft_of_a_dead_process):
    draft = draft_of_a_dead_process(tmp_path / "set")
    (draft / "query").mkdir(parents=True)
    convert_mot(sequence, tmp_path / "set", crops=RULES)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["WALK-01", "set"]


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(sequence, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # no file may grow above 100 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            convert_mot(sequence, tmp_path / "set", crops=RULES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["WALK-01"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "duke"}, "layout must be 'market' or 'mars', got 'duke'"),
        ({"jpeg_quality": 0}, r"jpeg_quality must lie in 1..100, got 0"),
        ({"crops": CropRules(every_n_frames=0)}, "every_n_frames and max_per_tracklet must be at least 1"),
        ({"crops": CropRules(min_visibility=60)}, r"min_visibility must lie in \[0, 1\], got 60"),
        ({"crops": CropRules(min_height=100)}, r"no crop is left of the 72 boxes .*'too low': 24}"),
        ({"zones": 0}, "0 columns with strips of 20.0 pixels do not fit into a width of 320"),
        ({"zones": []}, "at least one zone is needed"),
        ({"zones": [Zone(0, 0, 0, 9, 9)]}, "a zone needs x0 < x1, y0 < y1 and a camid from 1"),
        ({"zones": [Zone(1, 0, 0, 200, 200), Zone(2, 199, 0, 320, 200)]}, "zones must not overlap: Zone.camid=1"),
        ({"zones": 1}, "none of 3 people is seen in two zones, so there is nothing to test on"),
        ({"people": PeopleRules(test_pids=[2, 8])}, r"test_pids \[8\] have no crop; there are crops of people \[1, 2, 3\]"),
        ({"people": PeopleRules(test_fraction=2)}, r"test_fraction must lie in \[0, 1\], got 2"),
        ({"people": PeopleRules(pid_map={1: 1})}, r"pid_map lacks track 2; .* here it knows \[1\]"),
        ({"people": PeopleRules(pid_map={1: 0})}, "track 1 is person 0, but people count from 1"),
        ({"people": PeopleRules(query_rule="last")}, "query_rule must be 'most-visible', 'tallest' or 'first', got 'last'"),
        (
            {"layout": "mars", "people": PeopleRules(pid_map={1: 10_000, 2: 2, 3: 3})},
            "person 10000, camera 1, tracklet 1 .* not fit into a MARS name",
        ),
    ],
)
def test_an_option_out_of_range_is_an_error_that_names_it(sequence, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert_mot(sequence, tmp_path / "set", **{"crops": RULES, **options})
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "1,9,0,0\n",
            r"gt.txt, line 73: expected frame,id,x,y,width,height,flag\[,class.* as numbers, as many in every row, got '1,9,0,0'",
        ),
        ("1,9,x,0,1,1,1,-1,-1,-1\n", "line 73: expected frame,id"),
        ("1,9,0,0,1,1,1\n", "line 73: expected frame,id"),
        ("0,9,0,0,1,1,1,-1,-1,-1\n", "line 73: frames count from 1, got 0"),
        ("1.5,9,0,0,1,1,1,-1,-1,-1\n", "line 73: the column 'frame' must be a whole number, got '1.5'"),
        ("1,9.7,0,0,1,1,1,-1,-1,-1\n", "line 73: the column 'id' must be a whole number, got '9.7'"),
        ("1,1e30,0,0,1,1,1,-1,-1,-1\n", "line 73: the column 'id' must be a whole number, got '1e30'"),
        ("1,9,0,0,1,1e400,1,-1,-1,-1\n", "line 73: expected finite numbers"),
        ("1,9,0,0,-50,1,1,-1,-1,-1\n", r"line 73: the column 'width' must be a number in \[0, 1e\+09\], got -50"),
        ("1,9,0,0,1,-0.5,1,-1,-1,-1\n", r"line 73: the column 'height' must be a number in \[0, 1e\+09\], got -0.5"),
        ("1,9,0,0,1e300,1,1,-1,-1,-1\n", r"line 73: the column 'width' must be a number in \[0, 1e\+09\], got 1e\+300"),
        ("1,9,-1e10,0,1,1,1,-1,-1,-1\n", r"line 73: the column 'x' must be a number in \[-1e\+09, 1e\+09\], got -1"),
        ("1,1_0,0,0,1,1,1,-1,-1,-1\n", "line 73: expected frame,id"),
        ("1,1,0,0,1,1,1,-1,-1,-1\n", "line 73: track 1 has a second box in frame 1"),
    ],
)
def test_an_annotation_row_that_does_not_parse_is_named_by_its_line(sequence, row, message):
    annotate(sequence / "gt" / "gt.txt", rows=row)
    with pytest.raises(ValueError, match=message):
        read_annotation(sequence / "gt" / "gt.txt")


@pytest.mark.parametrize("visibility", ["55", "-1"])
def test_a_visible_share_that_is_none_is_named_by_its_line(tmp_path, visibility):
    (tmp_path / "gt.txt").write_text(f"1,1,0,0,9,9,1,1,1\n1,2,0,0,9,9,1,1,{visibility}\n")
    with pytest.raises(ValueError, match=rf"gt.txt, line 2: the column 'visibility' must be a number in \[0, 1\], got {visibility}"):
        read_annotation(tmp_path / "gt.txt")


def test_a_sequence_that_lacks_a_part_or_has_one_too_many_is_named(sequence, video, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no sequence .*nowhere; expected a MOTChallenge folder"):
        open_sequence(tmp_path / "nowhere")
    (sequence / "img1" / "000005.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"img1 lacks frame 5 .*; it holds 23 numbered pictures"):
        list(stream_frames(sequence / "img1", {5}))
    (sequence / "img1" / "000006.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"000006.png does not decode as a picture"):
        list(stream_frames(sequence / "img1", {6}))
    (sequence / "seqinfo.ini").write_text("[Sequence]\nimWidth=640\nimHeight=480\n")
    with pytest.raises(ValueError, match=r"seqinfo.ini tells pictures of 640x480, but .*img1 has 320x200"):
        open_sequence(sequence)
    (sequence / "gt" / "gt.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no annotation .*gt/gt.txt or .*gt.txt; give it with annotation="):
        open_sequence(sequence)
    video.with_name("second.mp4").touch()
    with pytest.raises(ValueError, match=r"holds 2 videos .second.mp4, walk.avi.: give the one meant as sequence"):
        open_sequence(video.parent)
    with pytest.raises(ValueError, match=r"second.mp4 does not open as a video"):
        open_sequence(video.with_name("second.mp4"))


def test_an_empty_annotation_is_an_error(tmp_path):
    (tmp_path / "gt.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"gt.txt holds no box"):
        read_annotation(tmp_path / "gt.txt")


def test_the_command_line_takes_every_option_and_shows_the_counts(sequence, tmp_path, capsys):
    zones = '[{"camid": 1, "x0": 0, "y0": 0, "x1": 150, "y1": 210}, {"camid": 2, "x0": 170, "y0": 0, "x1": 320, "y1": 210}]'
    main([str(sequence), str(tmp_path / "set"), "--zones", zones, "--people.test_pids", "[2]", "--crops.min_frames", "3"])
    dataset = read_market_folder(tmp_path / "set")
    assert {record.camid for record in dataset.gallery + dataset.query} == {1, 2}
    assert "'query': 2" in capsys.readouterr().out


def test_the_help_tells_units_and_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Lower boxes are left out, in pixels. (type: int, default: 40)" in text
    assert "1 to 100, of the crops. (type: int, default: 90)" in text


@pytest.mark.slow
def test_pets_2009_becomes_sets_of_sane_size(tmp_path):
    if "REID_TEST_DATA" not in os.environ:
        pytest.skip("set REID_TEST_DATA to the folder that holds pets-video")
    people = {9: 1, 5: 1, 15: 2, 14: 2, 18: 2, 8: 2, 19: 3, 1: 3, 11: 4, 3: 4, 12: 5, 4: 5, 13: 6, 2: 6, 16: 7, 17: 8, 10: 9, 6: 9, 7: 10}
    rules = PeopleRules(pid_map=people, test_pids=[1, 3, 5, 9, 10])
    zones = [Zone(1, 0, 0, 275, 320), Zone(2, 325, 0, 475, 320), Zone(3, 525, 0, 768, 320), Zone(4, 0, 345, 768, 577)]
    source = Path(os.environ["REID_TEST_DATA"]) / "pets-video"
    counts = convert_mot(source, tmp_path / "market", zones=zones, people=rules)
    assert (counts.boxes, counts.people, counts.cameras) == (4650, 10, 4)
    assert counts.left_out["not considered"] == 174
    # the hand-made set, of almost the same zones, has 18 queries, 292 training and 290 gallery images, and 17 queries in the MARS layout
    assert 17 <= counts.query <= 19
    assert 270 < counts.train < 330
    assert 270 < counts.gallery < 330
    dataset = read_market_folder(tmp_path / "market")
    assert [len(split) for _, split in dataset.splits()] == [counts.train, counts.query, counts.gallery]
    mars = convert_mot(source, tmp_path / "mars", layout="mars", zones=zones, people=rules)
    assert 16 <= mars.query <= 19
    images = len(list((tmp_path / "mars").rglob("*.jpg")))
    assert images == mars.boxes - sum(mars.left_out.values())
    assert 2800 < images < 3463
