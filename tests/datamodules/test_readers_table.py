"""The user's own table: what is read, and which line is named when a cell is wrong."""

import os
import sys
from pathlib import Path

import pytest

from lightning_reid.datamodules.readers import read_dataset, read_table
from lightning_reid.datamodules.readers import table as table_reader
from lightning_reid.records import ImageRecord

HEADING = "path,pid,camid,split,frame,domain\n"
ROWS = "a/1.jpg,1,1,train,10,\nb.jpg,2,1,query,,night\nc.jpg,2,2,gallery,7,\na/1.jpg,-1,3,gallery,,\n"


@pytest.fixture
def table(tmp_path):
    for name in ("a/1.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return write(tmp_path / "office.csv", HEADING + ROWS)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_table_is_read_with_paths_that_start_at_its_folder(table):
    folder = table.parent
    dataset = read_table(table)
    assert dataset.name == "office"
    assert dataset.train == (ImageRecord(str(folder / "a/1.jpg"), 1, 1, "office", 10),)
    assert dataset.query == (ImageRecord(str(folder / "b.jpg"), 2, 1, "night", -1),)
    assert dataset.gallery == (
        ImageRecord(str(folder / "c.jpg"), 2, 2, "office", 7),
        ImageRecord(str(folder / "a/1.jpg"), -1, 3, "office", -1),
    )
    assert read_dataset("table", table) == dataset


def test_an_absolute_path_stays_and_the_columns_may_stand_in_any_order(table, tmp_path):
    other = write(tmp_path / "other.csv", f"\ufeffsplit,extra,camid,path,pid\ntrain,x,4,{table.parent / 'b.jpg'},9\n")
    assert read_table(other, "mine", needs_test=False).train == (ImageRecord(str(table.parent / "b.jpg"), 9, 4, "mine", -1),)


@pytest.mark.parametrize("path", ["../b.jpg", "a/../../b.jpg", "{outside}"])
def test_a_path_that_leads_out_of_the_folder_of_the_table_is_refused_unless_that_is_meant(table, tmp_path_factory, path):
    path = path.format(outside=tmp_path_factory.mktemp("elsewhere") / "b.jpg")
    if "/../" not in path:
        (table.parent / path).touch()
    write(table, f"path,pid,camid,split\na/1.jpg,1,1,train\n{path},1,2,train\n")
    message = rf"office.csv, line 3: '{path}' leads out of .*: put the files below it, or links to them; .* say allow_paths_outside=True"
    with pytest.raises(ValueError, match=message):
        read_table(table, needs_test=False)
    _, record = read_table(table, needs_test=False, allow_paths_outside=True).train
    assert record.path == str(table.parent / path)


@pytest.mark.parametrize("path", ["a/../b.jpg", "../{folder}/b.jpg", "{parent}/a/../b.jpg"])
def test_a_path_that_goes_up_and_stays_in_the_folder_is_that_of_the_same_image_without(table, path):
    path = path.format(folder=table.parent.name, parent=table.parent)
    write(table, f"path,pid,camid,split\n{path},1,2,train\n")
    assert read_table(table, needs_test=False).train[0].path == str(table.parent / "b.jpg")
    write(table, f"path,pid,camid,split\n{path},1,2,train\nb.jpg,1,2,train\n")
    with pytest.raises(ValueError, match=r"line 3: .*b.jpg is listed a second time for split 'train'"):
        read_table(table, needs_test=False)


def test_a_path_that_goes_back_from_a_link_is_refused_with_what_it_does(table, tmp_path_factory):
    (table.parent / "linked").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    write(table, "path,pid,camid,split\nlinked/../b.jpg,1,1,train\n")
    with pytest.raises(ValueError, match=r"line 2: 'linked/../b.jpg' goes back by .. from a link, to .* without \.\.; if"):
        read_table(table, needs_test=False)


def test_a_link_below_the_table_may_lead_anywhere_as_its_owner_made_it(table, tmp_path_factory):
    elsewhere = write(tmp_path_factory.mktemp("elsewhere") / "d.jpg", "")
    (table.parent / "linked").symlink_to(elsewhere.parent)
    write(table, "path,pid,camid,split\nlinked/d.jpg,1,1,train\n")
    assert read_table(table, needs_test=False).train[0].path == str(table.parent / "linked" / "d.jpg")


def test_an_absolute_path_below_a_table_that_is_reached_by_a_link_or_a_relative_path_stays(table, tmp_path_factory, monkeypatch):
    linked = tmp_path_factory.mktemp("elsewhere") / "set"
    linked.symlink_to(table.parent)
    write(table, f"path,pid,camid,split\n{table.parent / 'b.jpg'},1,1,train\n")
    monkeypatch.chdir(table.parent)
    for place in (linked / table.name, table.name):
        assert read_table(place, needs_test=False).train[0].path == str(table.parent / "b.jpg")


@pytest.mark.parametrize("make_other", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["office.csv", "b.jpg", "office.parquet"])
def test_a_pipe_or_folder_under_the_name_of_a_file_is_named_and_not_waited_for(table, name, make_other):
    (table.parent / name).unlink(missing_ok=True)
    make_other(table.parent / name)
    with pytest.raises(OSError, match=rf"{name} is a (pipe|folder) where a file was expected: give a file"):
        read_table(table.with_suffix(".parquet") if name.endswith("parquet") else table)


def test_a_link_to_nothing_is_a_missing_image(table):
    (table.parent / "b.jpg").unlink()
    (table.parent / "b.jpg").symlink_to("gone.jpg")
    with pytest.raises(FileNotFoundError, match=r"b.jpg is listed in .*office.csv but not there"):
        read_table(table)


def test_a_parquet_table_gives_what_the_same_csv_gives(table):
    import pyarrow
    from pyarrow import parquet

    columns = {
        "path": ["a/1.jpg", "b.jpg", "c.jpg", "a/1.jpg"],
        "pid": [1, 2, 2, -1],
        "camid": [1.0, 1.0, 2.0, 3.0],  # pandas makes floats of integers where a cell was empty once
        "split": ["train", "query", "gallery", "gallery"],
        "frame": [10, None, 7, None],
        "domain": [None, "night", None, None],
    }
    parquet.write_table(pyarrow.table(columns), table.with_suffix(".parquet"))
    assert read_table(table.with_suffix(".parquet")) == read_table(table)


def test_a_wrong_parquet_cell_is_named_by_its_row(table):
    import pyarrow
    from pyarrow import parquet

    columns = {"path": ["b.jpg", "c.jpg"], "pid": [1, None], "camid": [1, 1], "split": ["train", "train"]}
    parquet.write_table(pyarrow.table(columns), table.with_suffix(".parquet"))
    with pytest.raises(ValueError, match=r"office.parquet, row 2: the column 'pid' must hold text or a whole number, got nothing"):
        read_table(table.with_suffix(".parquet"))


def test_parquet_without_pyarrow_names_the_extra(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    table.with_suffix(".parquet").touch()
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'lightning-reid\[parquet\]', or write the table as CSV"):
        read_table(table.with_suffix(".parquet"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,pid,split\n", r"lacks the columns camid; its first line holds 'path', 'pid', 'split'"),
        ("path|pid|camid|split\n", r"lacks the columns path, pid, camid, split; its first line holds 'path\|pid\|camid\|split'"),
        ("path,pid,PID,camid,split\n", r"has two columns 'pid'"),
        ("", r"its first line holds nothing"),
        (HEADING + ROWS + "b.jpg,,1,train,,\n", r"office.csv, line 6: the column 'pid' is empty"),
        (HEADING + ROWS + "b.jpg,-7,1,train,,\n", r"office.csv, line 6: the column 'pid' must be at least -1, got -7"),
        (HEADING + "b.jpg,1,-1,train,,\n", r"line 2: the column 'camid' must be at least 0, got -1"),
        (HEADING + "b.jpg,1,1,train,1.5,\n", r"line 2: the column 'frame' must be a whole number, got '1.5'"),
        (HEADING + "b.jpg,1,1,train,-7,\n", r"line 2: the column 'frame' must be at least 0, or -1 or empty where there is none, got -7"),
        (HEADING + "b.jpg,1,1,train,1e400,\n", r"line 2: the column 'frame' must be a whole number, got '1e400'"),
        (HEADING + 'b.jpg,1,1,train,"1,\n', r"office.csv, line 2: this is no row of cells \(unexpected end of data\); is a quote missing"),
        (HEADING + "b.jpg,1,1,test,,\n", r"line 2: the column 'split' must be one of train, query, gallery, val, got 'test'"),
        (HEADING + ",1,1,train,,\n", r"line 2: the column 'path' must name a file, got ''"),
        (HEADING + "b.jpg,1\n", r"line 2: expected 6 cells as in the heading, got 2: is one missing or unquoted"),
        (HEADING + "b,1.jpg,1,1,train,,,\n", r"line 2: expected 6 cells as in the heading"),
        (HEADING + ROWS + "c.jpg,2,2,gallery,7,\n", r"line 6: .*c.jpg is listed a second time for split 'gallery'"),
        (HEADING + "b.jpg,1,1,train,,\n", r"office.csv has no row of split 'query'"),
        (HEADING + ROWS + "a/1.jpg,0,1,query,,\n", r"query .*1.jpg has pid 0, as have 0 others"),
    ],
)
def test_a_wrong_table_is_named_by_its_line_and_column(table, text, message):
    write(table, text)
    with pytest.raises(ValueError, match=message):
        read_table(table)


def test_a_missing_image_and_a_missing_table_are_named(table):
    write(table, HEADING + ROWS + "gone/d.jpg,1,1,train,,\nc2.jpg,1,1,train,,\n")
    with pytest.raises(FileNotFoundError, match=r"gone/d.jpg is listed in .*office.csv but not there, nor are 1 others"):
        read_table(table)
    write(table, HEADING + ROWS.replace("a/", "a\\"))
    with pytest.raises(FileNotFoundError, match=r"nor are 1 others: write / between folders"):
        read_table(table)
    with pytest.raises(FileNotFoundError, match=r"there is no table .*none.csv; expected a CSV or Parquet file with the columns path"):
        read_table(table.with_name("none.csv"))


def test_ids_of_any_kind_are_kept_apart_and_what_was_numbered_is_told(table, caplog):
    write(table, "path;PID;camid;split\na/1.jpg;person_2;cam1;train\nb.jpg;person_10;cam1;query\nc.jpg; person_10 ;cam2;gallery\n")
    dataset = read_table(table)
    assert [record.pid for record in (*dataset.train, *dataset.query, *dataset.gallery)] == [2, 1, 1]
    assert [record.camid for record in (*dataset.query, *dataset.gallery)] == [1, 2]
    assert "the column 'pid' is text: numbered from 1 in order, 'person_10' is 1 and 'person_2' is 2" in dataset.notes
    assert "the column 'camid' is text" in caplog.text


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_separator_is_the_one_that_parts_the_columns_however_many_commas_a_name_has(table, separator):
    lines = ("path;PID;camid;split;size, color, age, bag, hat", "b.jpg;1;1;train;x")
    write(table, "\n".join(lines).replace(";", separator))
    assert read_table(table, needs_test=False).train[0].pid == 1


def test_neighboring_clocks_are_two_people_and_not_one(table):
    write(table, "path,pid,camid,split\na/1.jpg,2024112815300000001,1,train\nb.jpg,2024112815300000002,1,train\n")
    assert [record.pid for record in read_table(table, needs_test=False).train] == [2024112815300000001, 2024112815300000002]


def test_a_table_that_numbers_people_from_zero_says_whom_it_loses(table):
    write(table, "path,pid,camid,split\na/1.jpg,0,1,train\nb.jpg,1,1,train\n")
    (note,) = read_table(table, needs_test=False).notes
    assert note == (
        "1 of 2 training records show nobody (pid 0 or -1) and train no identity: if people are numbered from 0, number them from 1"
    )


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"pid": [True, False]}, "row 1: the column 'pid' must hold text or a whole number, got True, a bool"),
        ({"pid": [2.0**60, 1.0]}, "row 1: .* a float, which takes neighboring ids for one: store integers"),
        ({"pid": [1.5, 1.0]}, "row 1: .*1.5, a fraction"),
        ({"camid": [b"a", b"b"]}, "row 1: the column 'camid' must hold text or a whole number, got b'a', a bytes"),
    ],
)
def test_a_parquet_column_that_is_no_id_is_refused(table, column, message):
    import pyarrow
    from pyarrow import parquet

    columns = {"path": ["b.jpg", "c.jpg"], "pid": [1, 2], "camid": [1, 1], "split": ["train", "train"]} | column
    parquet.write_table(pyarrow.table(columns), table.with_suffix(".parquet"))
    with pytest.raises(ValueError, match=message):
        read_table(table.with_suffix(".parquet"))


def test_a_damaged_parquet_file_is_named(table):
    table.with_suffix(".parquet").write_bytes(b"PAR1 garbage PAR1")
    with pytest.raises(ValueError, match=r"office.parquet is damaged, or no Parquet file"):
        read_table(table.with_suffix(".parquet"))


def write_parquet(table: Path, **columns) -> Path:
    import pyarrow
    from pyarrow import parquet

    plain = {"path": ["b.jpg", "c.jpg"], "pid": [1, 2], "camid": [1, 1], "split": ["train", "train"]}
    parquet.write_table(pyarrow.table(plain | columns), table.with_suffix(".parquet"))
    return table.with_suffix(".parquet")


def test_a_parquet_table_of_more_rows_than_any_set_has_is_refused_before_they_are_read(table):
    import pyarrow

    cells = {"path": "b.jpg", "pid": 1, "camid": 1, "split": "train"}
    path = write_parquet(table, **{name: pyarrow.repeat(pyarrow.scalar(cell), 5_000_001) for name, cell in cells.items()})
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"office.parquet has 20,000,004 cells and .* up to 20,000,000 cells and .* are read: split it"):
        read_table(path)


def test_a_parquet_table_that_unfolds_to_more_than_is_read_is_refused_and_columns_left_alone_do_not_count(table, monkeypatch):
    monkeypatch.setattr(table_reader, "MOST_BYTES", 5_000)
    assert len(read_table(write_parquet(table, note=["x" * 10_000, ""]), needs_test=False).train) == 2
    with pytest.raises(ValueError, match=r"office.parquet has 8 cells and 1\d,\d* bytes in the columns path, pid, camid, split, of which"):
        read_table(write_parquet(table, path=["x" * 10_000, ""]), needs_test=False)


def arrow(values: list, kind: str):
    import pyarrow

    words = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
    return pyarrow.array(values, words if kind == "words" else pyarrow.type_for_alias(kind))


@pytest.mark.parametrize(
    ("values", "kind", "domains"),
    [
        (["night", "day"], "string", ["night", "day"]),
        (["night", "day"], "large_string", ["night", "day"]),
        (["night", None], "words", ["night", "office"]),
        ([0, 5], "int8", ["0", "5"]),
        ([7.0, None], "float64", ["7", "office"]),
        ([None, None], "null", ["office", "office"]),
        (["", "caf\u0065\u0301"], "string", ["office", "caf\u00e9"]),
    ],
)
def test_a_domain_is_text_whatever_its_column_is(table, values, kind, domains):
    dataset = read_table(write_parquet(table, domain=arrow(values, kind)), needs_test=False)
    assert [record.domain for record in dataset.train] == domains


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"domain": [True, False]}, "row 1: the column 'domain' must hold text or a whole number, got True, a bool"),
        ({"domain": [1.5, 1.0]}, "row 1: the column 'domain' .*1.5, a fraction"),
        ({"domain": [["a"], ["b"]]}, r"row 1: the column 'domain' .* got \['a'\], a list"),
        ({"pid": [["a"], ["b"]]}, r"row 1: the column 'pid' .* got \['a'\], a list"),
        ({"path": [1, 2]}, "row 1: the column 'path' must name a file, got 1"),
        ({"split": [1, 2]}, "row 1: the column 'split' must be one of train, query, gallery, val, got 1"),
        ({"pid": [None, None]}, "row 1: the column 'pid' must hold text or a whole number, got nothing"),
    ],
)
def test_a_parquet_cell_of_another_kind_is_named_by_its_row_and_column(table, column, message):
    with pytest.raises(ValueError, match=rf"office.parquet, {message}"):
        read_table(write_parquet(table, **column), needs_test=False)


@pytest.mark.parametrize("column", ["pid", "camid", "frame", "domain"])
@pytest.mark.parametrize("kind", ["date32", "date64", "timestamp[ns]", "timestamp[s]", "time64[us]", "duration[ms]"])
def test_a_time_is_no_id_and_its_column_is_named(table, column, kind):
    with pytest.raises(ValueError, match=rf"office.parquet: the column '{column}' must hold text or whole numbers, got times"):
        read_table(write_parquet(table, **{column: arrow([2**31 - 1, None], kind)}), needs_test=False)
