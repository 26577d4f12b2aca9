"""Tracklets that are missing, empty, mixed or wrongly listed end in one sentence that names them and says the way on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from another_user import as_another_user
from scipy.io import savemat

from lightning_reid.datamodules.readers.dukemtmc_video import read_dukemtmc_video
from lightning_reid.datamodules.readers.ilids_vid import read_ilids_vid
from lightning_reid.datamodules.readers.mars import read_mars, read_mars_folder
from lightning_reid.datamodules.readers.prid2011_video import read_prid2011_video
from lightning_reid.datamodules.readers.tracklet_table import read_tracklet_table

READERS = (read_mars, read_mars_folder, read_dukemtmc_video, read_ilids_vid, read_prid2011_video)
INFO = ("train_name.txt", "test_name.txt", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat")


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_a_missing_folder_and_the_layout_expected_in_it(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; expected a folder with \w+"):
        reader(tmp_path / "nowhere")


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_says_what_it_found_in_a_folder_of_another_layout(tmp_path, reader):
    make(tmp_path, "holiday/beach.jpg", "work/desk.jpg")
    with pytest.raises(FileNotFoundError, match=r"has another layout; expected a folder with .*, found holiday, work$"):
        reader(tmp_path)


@pytest.fixture
def mars(tmp_path) -> Path:
    """Two training tracklets of two frames and two test tracklets of one, both queries."""
    train = [f"0001C{camid}T0001F00{frame}.jpg" for camid in (1, 2) for frame in (1, 2)]
    test = ["0002C1T0001F001.jpg", "0002C2T0001F001.jpg"]
    for split, images in (("train", train), ("test", test)):
        make(tmp_path, *(f"bbox_{split}/{image[:4]}/{image}" for image in images))
        (tmp_path / "info").mkdir(exist_ok=True)
        (tmp_path / "info" / f"{split}_name.txt").write_text("\n".join(images))
    save_tracks(tmp_path, "train", [[1, 2, 1, 1], [3, 4, 1, 2]])
    save_tracks(tmp_path, "test", [[1, 1, 2, 1], [2, 2, 2, 2]])
    save_queries(tmp_path, [1, 2])
    return tmp_path


def save_tracks(root: Path, split: str, rows, variable: str | None = None) -> None:
    savemat(root / "info" / f"tracks_{split}_info.mat", {variable or f"track_{split}_info": np.array(rows)})


def save_queries(root: Path, queries) -> None:
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([queries])})


def test_the_mars_fixture_itself_is_sound(mars):
    assert [len(records) for _, records in read_mars_folder(mars).splits()] == [2, 2, 2]


@pytest.mark.parametrize("lacking", INFO)
def test_a_missing_info_file_is_named_with_where_it_comes_from(mars, lacking):
    (mars / "info" / lacking).unlink()
    with pytest.raises(FileNotFoundError, match=rf"info lacks {lacking}; .*MARS-evaluation code: put it beside bbox_train"):
        read_mars_folder(mars)


def test_a_mars_folder_without_info_is_told_all_it_needs(mars):
    for name in INFO:
        (mars / "info" / name).unlink()
    (mars / "info").rmdir()
    with pytest.raises(FileNotFoundError, match=r"lacks train_name.txt, test_name.txt, tracks_train_info.mat, .*query_IDX.mat"):
        read_mars(mars)


def test_a_half_extracted_mars_is_told_by_the_part_that_is_missing(mars):
    (mars / "bbox_test").rename(mars / "moved")
    with pytest.raises(FileNotFoundError, match="lacks bbox_test; was the archive extracted to its end"):
        read_mars(mars)


def test_a_row_that_points_past_the_list_of_frames_is_named(mars):
    save_tracks(mars, "train", [[1, 2, 1, 1], [3, 5, 1, 2], [6, 9, 1, 2]])
    with pytest.raises(ValueError, match=r"tracks_train_info.mat, row 2: frames 3 to 5 .* train_name.txt .* has 4, .*\(1 more such rows\)"):
        read_mars_folder(mars)


def test_rows_that_count_frames_from_zero_are_named(mars):
    save_tracks(mars, "test", [[0, 0, 2, 1], [1, 1, 2, 2]])
    with pytest.raises(ValueError, match=r"tracks_test_info.mat, row 1: frames 0 to 0 are frames that test_name.txt does not name"):
        read_mars_folder(mars)


def test_an_empty_tracklet_of_mars_is_named(mars):
    save_tracks(mars, "train", [[1, 2, 1, 1], [3, 2, 1, 2]])
    with pytest.raises(ValueError, match=r"row 2: frames 3 to 2 are an empty tracklet"):
        read_mars_folder(mars)


@pytest.mark.parametrize("row", [[3, 4, 2, 2], [3, 4, 1, 1], [2, 4, 1, 2]])  # another person, another camera, one frame of its neighbor
def test_a_row_whose_person_or_camera_is_not_that_of_its_frames_is_named(mars, row):
    save_tracks(mars, "train", [[1, 2, 1, 1], row])
    with pytest.raises(
        ValueError, match=rf"row 2: frames {row[0]} to 4 .* should show person {row[2]} in camera {row[3]}.*but one of them is"
    ):
        read_mars_folder(mars)


def test_frames_with_names_of_another_form_are_named(mars):
    make(mars, "bbox_test/beac/beach.jpg")
    (mars / "info" / "test_name.txt").write_text("0002C1T0001F001.jpg\nbeach.jpg")
    with pytest.raises(ValueError, match=r"row 2: .*as 0001C1T0001F001.jpg shows person 1 in camera 1, but one of them is beach.jpg"):
        read_mars_folder(mars)


@pytest.mark.parametrize("stranger", ["0002C1T0001F001.jpg", "0001C2T0001F001.jpg"])
def test_a_stranger_in_the_middle_of_a_tracklet_is_named(mars, stranger):
    frames = ["0001C1T0001F001.jpg", stranger, "0001C1T0001F003.jpg"]
    for frame in frames:
        make(mars, f"bbox_train/{frame[:4]}/{frame}")
    (mars / "info" / "train_name.txt").write_text("\n".join(frames))
    save_tracks(mars, "train", [[1, 3, 1, 1]])
    with pytest.raises(ValueError, match=rf"one of them is {stranger}"):
        read_mars_folder(mars)


def test_a_list_of_frames_that_leads_out_of_its_folder_is_refused(mars):
    (mars / "info" / "train_name.txt").write_text("0001C1T0001F001.jpg\n../../../../etc/passwd")
    with pytest.raises(ValueError, match=r"train_name.txt names \.\./\.\./\.\./\.\./etc/passwd, which leads into another folder"):
        read_mars_folder(mars)


@pytest.mark.parametrize("make_other", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["bbox_train/0001/0001C2T0001F002.jpg", "info/train_name.txt", "info/query_IDX.mat"])
def test_a_pipe_or_folder_under_the_name_of_a_file_is_named_and_not_waited_for(mars, name, make_other):
    (mars / name).unlink()
    make_other(mars / name)
    with pytest.raises(OSError, match=rf"{name} is a (pipe|folder) where a file was expected"):
        read_mars_folder(mars)


def test_a_listed_frame_that_is_not_there_is_named(mars):
    (mars / "bbox_train/0001/0001C2T0001F002.jpg").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"0001C2T0001F002.jpg is listed in .*train_name.txt but not there: put it there, or take it out of the list$",
    ):
        read_mars_folder(mars)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([1, 3], r"query_IDX.mat: query 3 is none of the 2 test tracklets, counted from 1, nor are 0 more"),
        ([0, 1], r"query 0 is none of the 2 test tracklets, counted from 1"),
        ([2, 1, 2], r"test tracklet 2 is listed as a query more than once"),
    ],
)
def test_a_query_that_is_no_test_tracklet_or_comes_twice_is_named(mars, queries, message):
    save_queries(mars, queries)
    with pytest.raises(ValueError, match=message):
        read_mars_folder(mars)


def test_a_query_that_is_a_distractor_is_named(mars):
    make(mars, "bbox_test/0000/0000C1T0001F001.jpg")
    (mars / "info" / "test_name.txt").write_text("0000C1T0001F001.jpg\n0002C2T0001F001.jpg")
    save_tracks(mars, "test", [[1, 1, 0, 1], [2, 2, 2, 2]])
    with pytest.raises(ValueError, match=r"query tracklet that begins with .*0000C1T0001F001.jpg has pid 0.*Number people from 1"):
        read_mars_folder(mars)


def test_a_matlab_file_without_its_variable_is_named_with_those_it_has(mars):
    save_tracks(mars, "train", [[1, 2, 1, 1]], variable="tracks")
    with pytest.raises(ValueError, match=r"tracks_train_info.mat has no variable track_train_info, only tracks"):
        read_mars_folder(mars)


@pytest.mark.parametrize("rows", [[[1, 2, 1]], np.empty((0, 4)), np.ones((2, 4, 2))])
def test_a_matrix_of_another_shape_is_named(mars, rows):
    save_tracks(mars, "test", rows)
    with pytest.raises(ValueError, match=r"track_test_info must have rows of first frame, last frame, pid and camera, got shape"):
        read_mars_folder(mars)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 1.5, 2, 1]],
        [["a", "b", "c", "d"]],
        [[1, np.nan, 2, 1]],
        [[1, 2 + 1j, 2, 1]],
        [[1, np.inf, 2, 1]],
        [[1, 2.0**53, 2, 1]],
        [[1, 1e300, 2, 1]],
        np.array([[1, 2**64 - 1, 2, 1]], dtype=np.uint64),
    ],
)
def test_a_matrix_of_anything_but_whole_numbers_is_named(mars, rows):
    save_tracks(mars, "test", rows)
    with pytest.raises(ValueError, match=r"tracks_test_info.mat: track_test_info must be a matrix of whole numbers"):
        read_mars_folder(mars)


@pytest.mark.parametrize(
    "content", [b"", b"<html>404: Not Found</html>", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF" * 9]
)
def test_a_damaged_matlab_file_is_named(mars, content):
    (mars / "info" / "query_IDX.mat").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"query_IDX.mat is no whole MATLAB file of version 5 to 7.2 .*fetch it again, or save it with -v7"
    ):
        read_mars_folder(mars)


@pytest.mark.parametrize("size", [60, 150, 180])
def test_a_matlab_file_cut_short_is_named(mars, size):
    path = mars / "info" / "query_IDX.mat"
    savemat(path, {"query_IDX": np.arange(1, 500)}, do_compression=True)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"query_IDX.mat"):
        read_mars_folder(mars)


DUKE = ("train/0001/0001/0001_C6_F0001_X30830.jpg", "query/0002/0007/0002_C1_F0001_X500.jpg", "gallery/0002/0008/0002_C8_F0001_X900.jpg")


def test_an_empty_tracklet_folder_is_named(tmp_path):
    make(tmp_path, *DUKE, "train/0001/0002/Thumbs.db")
    with pytest.raises(
        FileNotFoundError, match=r"train/0001/0002 is an empty tracklet, it holds no image .*; delete it or extract it again"
    ):
        read_dukemtmc_video(tmp_path)


@pytest.mark.parametrize(("name", "what"), [("0002_C6_F0002_X30831.jpg", "pid 1"), ("0001_C7_F0002_X30831.jpg", "camid 6")])
def test_a_frame_of_another_person_or_camera_in_a_tracklet_folder_is_named(tmp_path, name, what):
    make(tmp_path, *DUKE, f"train/0001/0001/{name}")
    with pytest.raises(ValueError, match=rf"{name} is not of {what}, as the tracklet is; a folder holds one person in one camera"):
        read_dukemtmc_video(tmp_path)


def test_a_frame_whose_name_does_not_parse_is_named(tmp_path):
    make(tmp_path, *DUKE, "query/0002/0007/beach.jpg")
    with pytest.raises(ValueError, match=r"beach.jpg does not parse; expected names like 0001_C6_F0099_X30823.jpg"):
        read_dukemtmc_video(tmp_path)


def test_a_folder_that_is_no_person_is_named(tmp_path):
    make(tmp_path, *DUKE, "gallery/holiday/0001/0001_C6_F0001_X30830.jpg")
    with pytest.raises(ValueError, match=r"gallery/holiday: expected folders named by the number of a person, like 0001"):
        read_dukemtmc_video(tmp_path)


def test_a_split_without_folders_is_named(tmp_path):
    make(tmp_path, *DUKE[:2], "gallery/readme.txt")
    with pytest.raises(FileNotFoundError, match="gallery holds no folder; was the archive extracted to its end"):
        read_dukemtmc_video(tmp_path)


def test_a_query_folder_of_distractors_is_named(tmp_path):
    make(tmp_path, *DUKE, "query/0000/0001/0000_C1_F0001_X1.jpg")
    with pytest.raises(ValueError, match=r"0000_C1_F0001_X1.jpg has pid 0, as have 0 others"):
        read_dukemtmc_video(tmp_path)


def make_ilids_vid(root: Path, cam1=(1, 2, 3, 4), cam2=(1, 2, 3, 4)) -> Path:
    names = [
        f"sequences/cam{camid}/person{pid:03d}/cam{camid}_person{pid:03d}_00001.png"
        for camid, pids in ((1, cam1), (2, cam2))
        for pid in pids
    ]
    return make(root, *names)


@pytest.mark.parametrize("split", [-1, 10])
@pytest.mark.parametrize("reader", [read_ilids_vid, read_prid2011_video])
def test_a_split_out_of_range_is_named(tmp_path, reader, split):
    make_ilids_vid(tmp_path)
    make(tmp_path, *(f"multi_shot/cam_{camera}/person_{pid:04d}/0001.png" for camera in "ab" for pid in (1, 2)))
    with pytest.raises(ValueError, match=rf"has splits 0 to 9, got {split}"):
        reader(tmp_path, split)


def test_a_person_in_one_camera_only_is_named(tmp_path):
    make_ilids_vid(tmp_path, cam2=(1, 2, 4))
    with pytest.raises(ValueError, match=r"ilids-vid: person 3 is in one camera only, as are 0 others; was the archive extracted"):
        read_ilids_vid(tmp_path)


def test_one_person_cannot_be_split_in_halves(tmp_path):
    with pytest.raises(ValueError, match="a split in halves needs at least two people, found 1"):
        read_ilids_vid(make_ilids_vid(tmp_path, (7,), (7,)))


def test_a_person_folder_of_another_name_is_named(tmp_path):
    make(make_ilids_vid(tmp_path), "sequences/cam1/holiday/1.png")
    with pytest.raises(ValueError, match=r"cam1/holiday does not parse; expected folders like person001"):
        read_ilids_vid(tmp_path)


def test_a_frame_in_the_folder_of_another_person_is_named(tmp_path):
    make(make_ilids_vid(tmp_path), "sequences/cam2/person001/cam2_person009_00002.png")
    with pytest.raises(ValueError, match=r"cam2_person009_00002.png is not of pid 1"):
        read_ilids_vid(tmp_path)


@pytest.mark.parametrize("orders", [np.tile(np.arange(1, 301), (10, 1)), np.tile([1, 2, 3, 5], (10, 1)), np.tile([1, 2, 3, 4], (9, 1))])
def test_published_splits_of_other_people_are_named(tmp_path, orders):
    savemat(make_ilids_vid(tmp_path) / "train_test_splits_ilidsvid.mat", {"ls_set": orders})
    with pytest.raises(ValueError, match=r"ls_set to hold 10 orders of the 4 people found, got shape \(\d+, \d+\); complete the data set"):
        read_ilids_vid(tmp_path)


HEADING = "path,pid,camid,tracklet,split,frame,domain\n"


def write_table(root: Path, rows: str, heading: str = HEADING) -> Path:
    make(root, "1.jpg", "2.jpg", "3.jpg")
    (root / "office.csv").write_text(heading + rows)
    return root / "office.csv"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1.jpg,1,1,a,train,,\n2.jpg,2,1,a,train,,\n", r"line 3: tracklet 'a' of split 'train' began with pid 1, .* this row has 2, 1"),
        ("1.jpg,1,1,a,train,,\n2.jpg,1,2,a,train,,\n", r"this row has 1, 2, 'office'; give each tracklet of a split its own name"),
        ("1.jpg,1,1,a,train,,\n2.jpg,1,1,a,train,,night\n", r"domain 'office', this row has 1, 1, 'night'"),
        ("1.jpg,1,1,a,train,4,\n2.jpg,1,1,a,train,,\n", r"tracklet 'a' of split 'train' tells 'frame' in 1 of its 2 rows"),
        ("1.jpg,1,1,a,train,4,\n2.jpg,1,1,a,train,4,\n", r"tracklet 'a' of split 'train' has frame 4 more than once"),
        ("1.jpg,1,1,a,train,,\n1.jpg,1,1,b,train,,\n", r"line 3: .*1.jpg is listed a second time for split 'train'"),
        ("1.jpg,1,1,,train,,\n", r"line 2: there is no cell of column 'tracklet'"),
        ("1.jpg,,1,a,train,,\n", r"line 2: the column 'pid' is empty"),
        ("1.jpg,1,1,a,test,,\n", r"line 2: the column 'split' must be one of train, query, gallery, val, got 'test'"),
        ("", r"office.csv has no row of split 'train'"),
        ("1.jpg,1,1,a,train,,\n", r"office.csv has no row of split 'query'"),
        ("1.jpg,1,1,a,train,,\n2.jpg,0,1,a,query,,\n3.jpg,2,2,a,gallery,,\n", r"query tracklet that begins with .*2.jpg has pid 0"),
    ],
)
def test_a_wrong_row_of_a_tracklet_table_is_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_tracklet_table(write_table(tmp_path, rows))


def test_a_tracklet_table_without_a_column_is_told_which(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: there is no cell of column 'tracklet'"):
        read_tracklet_table(write_table(tmp_path, "1.jpg,1,1,train\n", heading="path,pid,camid,split\n"))
    with pytest.raises(ValueError, match=r"lacks the columns camid"):
        read_tracklet_table(write_table(tmp_path, "1.jpg,1,a,train\n", heading="path,pid,tracklet,split\n"))


def test_a_tracklet_table_or_image_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no table .*office.csv; .* path, pid, camid, split, tracklet"):
        read_tracklet_table(tmp_path / "office.csv")
    with pytest.raises(
        FileNotFoundError, match=r"9.jpg is listed in .*office.csv but not there: put it there, or take it out of the list$"
    ):
        read_tracklet_table(write_table(tmp_path, "9.jpg,1,1,a,train,,\n"), needs_test=False)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    make(tmp_path, "office.parquet")
    with pytest.raises(ImportError, match=r"pip install 'lightning-reid\[parquet\]', or write the table as CSV"):
        read_tracklet_table(tmp_path / "office.parquet")


def test_a_parquet_tracklet_table_names_a_missing_column_and_a_wrong_row(tmp_path):
    import pyarrow
    from pyarrow import parquet

    columns = {"path": ["1.jpg", "2.jpg"], "pid": [1, 1], "camid": [1, 1], "split": ["train", "train"]}
    path = make(tmp_path, "1.jpg", "2.jpg") / "office.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(ValueError, match=r"office.parquet, row 1: there is no cell of column 'tracklet'"):
        read_tracklet_table(path)
    parquet.write_table(pyarrow.table(columns | {"tracklet": [4, None]}), path)
    with pytest.raises(ValueError, match=r"office.parquet, row 2: there is no cell of column 'tracklet'"):
        read_tracklet_table(path)


def test_a_folder_that_may_not_be_listed_is_an_error_of_permission():
    def read(folder):
        make(folder, *DUKE)
        (folder / "train" / "0001").chmod(0)
        with pytest.raises(PermissionError):
            read_dukemtmc_video(folder)
        (folder / "train" / "0001").chmod(0o700)

    as_another_user(read)
