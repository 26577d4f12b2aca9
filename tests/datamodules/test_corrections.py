from __future__ import annotations

import pytest

from lightning_reid.datamodules.readers.corrections import SAMPLE, Correction, corrected, read_corrections
from lightning_reid.records import TrackletDataset, TrackletRecord


def tracklet(name: str, pid: int, camid: int = 1, folder: str = "test") -> TrackletRecord:
    return TrackletRecord((f"{folder}/{name}", f"{folder}/second-{name}"), pid, camid)


TRAIN = (tracklet("t.jpg", 9),)
QUERY = (tracklet("a.jpg", 1), tracklet("b.jpg", 2))
GALLERY = (*QUERY, tracklet("c.jpg", 0, 2), tracklet("d.jpg", 3, 2))
DATA = TrackletDataset("mars", TRAIN, QUERY, GALLERY, ("a note",))


def written(folder, text: str):
    (folder / "fixes.csv").write_text(text)
    return folder / "fixes.csv"


def test_corrections_are_read_with_the_separators_of_tables_and_a_quote_that_never_ends_is_named(tmp_path):
    table = written(tmp_path, "# why, say\ntracklet;pid;second_pid\na.jpg;3;\n")
    assert read_corrections(table) == {"a.jpg": Correction(3)}
    written(tmp_path, 'tracklet,pid,second_pid\n"a.jpg,3,\n')
    with pytest.raises(ValueError, match=r"line 2: this is no row of cells"):
        read_corrections(table)


def test_labels_and_second_identities_apply_to_query_and_gallery_alike():
    fixes = {"b.jpg": Correction(3), "a.jpg": Correction(None, 2), "c.jpg": Correction(-1)}
    result = corrected(DATA, fixes, "fixes.csv")
    assert [(record.pid, record.second_pid) for record in result.query] == [(1, 2), (3, -1)]
    assert [(record.pid, record.second_pid) for record in result.gallery] == [(1, 2), (3, -1), (-1, -1), (3, -1)]
    assert result.train == DATA.train
    assert result.notes == ("a note", "fixes.csv corrects the identity of 2 test tracklets and gives 1 a second one")
    assert DATA.query[1].pid == 2


def test_a_query_and_its_copy_in_another_folder_are_one_tracklet():
    copies = TrackletDataset("duke", (), (tracklet("a.jpg", 1, folder="query"),), (tracklet("a.jpg", 1, folder="gallery"),))
    result = corrected(copies, {"a.jpg": Correction(5)}, "fixes.csv")
    assert (result.query[0].pid, result.gallery[0].pid) == (5, 5)


def test_comments_and_empty_lines_are_left_out_and_columns_may_come_in_any_order(tmp_path):
    table = written(tmp_path, "# why\n\npid, tracklet, second_pid\n3, a.jpg,\n# and this\n, b.jpg, 4\n")
    assert read_corrections(table) == {"a.jpg": Correction(3, -1), "b.jpg": Correction(None, 4)}


def test_the_sample_that_ships_is_readable_and_shows_every_kind():
    sample = read_corrections(SAMPLE)
    assert any(fix.pid is None and fix.second_pid > 0 for fix in sample.values())
    assert any(fix.pid is not None and fix.pid > 0 for fix in sample.values())
    assert any(fix.pid == -1 for fix in sample.values())
    told = SAMPLE.read_text()
    assert all(f"#   {column}" in told for column in ("tracklet", "pid", "second_pid"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracklet,pid\na.jpg,1\n", "expected the heading tracklet,pid,second_pid"),
        ("", "found nothing"),
        ("tracklet,pid,second_pid\na.jpg,1\n", "line 2: expected 3 cells"),
        ("# x\ntracklet,pid,second_pid\na.jpg,one,\n", "line 3: the column 'pid' must be a whole number, got 'one'"),
        ("tracklet,pid,second_pid\na.jpg,,2.5\n", "line 2: the column 'second_pid' must be a whole number"),
        ("tracklet,pid,second_pid\na.jpg,,\n", "line 2: there is neither a pid nor a second_pid"),
        ("tracklet,pid,second_pid\na.jpg,-2,\n", "line 2: the column 'pid' must be at least -1"),
        ("tracklet,pid,second_pid\na.jpg,1,0\n", "line 2: the column 'second_pid' must be a person"),
        ("tracklet,pid,second_pid\nx/a.jpg,1,\n", "line 2: the column 'tracklet' must hold the file name"),
        ("tracklet,pid,second_pid\na.jpg,1,\n#\na.jpg,2,\n", "line 4: tracklet a.jpg was corrected in line 2 already"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_corrections(written(tmp_path, text))


def test_a_missing_file_points_to_the_sample(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of corrections .*mars_corrections_sample\.csv"):
        read_corrections(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "fix", "message"),
    [
        ("x.jpg", Correction(1), r"no query or gallery tracklet of mars begins with x\.jpg"),
        ("t.jpg", Correction(1), r"begins with t\.jpg"),  # a training tracklet
        ("a.jpg", Correction(0), "query tracklet that begins with test/a.jpg has pid 0"),
        ("a.jpg", Correction(None, 1), r"tracklet a\.jpg has pid 1 and the same second_pid"),
    ],
)
def test_a_correction_that_fits_no_test_tracklet_is_an_error(name, fix, message):
    with pytest.raises(ValueError, match=message):
        corrected(DATA, {name: fix}, "fixes.csv")


def test_a_name_that_begins_two_tracklets_is_ambiguous():
    twins = TrackletDataset("prid", (), (tracklet("0001.png", 1, folder="p1"),), (tracklet("0001.png", 2, folder="p2"),))
    with pytest.raises(ValueError, match=r"2 tracklets of prid begin with an image named 0001\.png"):
        corrected(twins, {"0001.png": Correction(3)}, "fixes.csv")
