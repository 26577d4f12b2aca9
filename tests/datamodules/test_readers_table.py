"""The user's own table: what is read, and which line is named when a cell is wrong."""

import sys
from pathlib import Path

import pytest

from lightning_reid.datamodules.readers import read_dataset, read_table
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
    with pytest.raises(ValueError, match=r"office.parquet, row 2: the column 'pid' must be a whole number, got None"):
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
        ("path;pid;camid;split\n", r"lacks the columns path, pid, camid, split; its first line holds 'path;pid;camid;split'"),
        ("", r"its first line holds nothing"),
        (HEADING + ROWS + "b.jpg,x,1,train,,\n", r"office.csv, line 6: the column 'pid' must be a whole number, got 'x'"),
        (HEADING + "b.jpg,1,1.5,train,,\n", r"line 2: the column 'camid' must be a whole number, got '1.5'"),
        (HEADING + "b.jpg,1,inf,train,,\n", r"line 2: the column 'camid' must be a whole number, got 'inf'"),
        (HEADING + "b.jpg,1,1,test,,\n", r"line 2: the column 'split' must be one of train, query, gallery, got 'test'"),
        (HEADING + ",1,1,train,,\n", r"line 2: the column 'path' is empty"),
        (HEADING + "b.jpg,1\n", r"line 2: expected 6 cells as in the heading; is a comma missing or unquoted"),
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
    with pytest.raises(FileNotFoundError, match=r"there is no table .*none.csv; expected a CSV or Parquet file with the columns path"):
        read_table(table.with_name("none.csv"))
