"""Text from outside: what is read, and what is said of what is not."""

import pytest

from lightning_reid.datamodules.readers.text import read_cells, read_lines, read_text

TEXT = "path,pid\nstra\u00dfe.jpg,1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_is_read_with_and_without_a_mark(tmp_path, encoding):
    (tmp_path / "t.csv").write_text(TEXT, encoding=encoding)
    assert read_text(tmp_path / "t.csv") == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("latin-1"), r"t.csv, line 2: the byte 0xdf is no UTF-8, .* save it as UTF-8 \(in Excel: 'CSV UTF-8'\)"),
        (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), r"t.csv is text in UTF-32, and UTF-8 was expected: save it as UTF-8"),
        (b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), r"t.csv is text in UTF-32, and UTF-8 was expected: save it as UTF-8"),
        (TEXT.encode("utf-16"), r"t.csv is text in UTF-16, as Excel's 'Unicode text' is"),
        (TEXT.encode("utf-16-le"), r"t.csv is no text: there is a zero at byte 1"),
        (b"PK\x03\x04\x00", r"t.csv is no text: there is a zero at byte 4"),
        (b"\xff\xd8\xff\xe0", r"t.csv, line 1: the byte 0xff is no UTF-8"),
    ],
)
def test_any_other_encoding_is_one_error_with_file_place_and_remedy(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path / "t.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_are_told_apart_by_what_excel_writes_and_told_by_their_lines(tmp_path, separator):
    rows = (["a", "b c", "x"], ["1", "2", "3"], ["4", "5", "6"])
    lines = [separator.join(row) for row in rows]
    (tmp_path / "t.csv").write_text(f"{lines[0]}\r\n\r\n{lines[1]} \r\n{separator * 2}\r\n{lines[2]}\r\n")
    assert list(read_cells(tmp_path / "t.csv")) == [(1, rows[0]), (3, rows[1]), (5, rows[2])]


@pytest.mark.parametrize("told", ["sep=;", "SEP=;\r", '"sep=;"', "\ufeffsep=;", "sep=;;;"])
def test_excels_own_line_tells_the_separator_and_is_no_row(tmp_path, told):
    (tmp_path / "t.csv").write_text(told + "\na;b,c,d\n")
    assert list(read_cells(tmp_path / "t.csv")) == [(2, ["a", "b,c,d"])]


def test_excels_own_line_may_tell_a_tab(tmp_path):
    (tmp_path / "t.csv").write_text("sep=\t\na,b,c\td\n")
    assert list(read_cells(tmp_path / "t.csv")) == [(2, ["a,b,c", "d"])]


def test_the_separator_is_looked_for_where_the_first_cells_are(tmp_path):
    (tmp_path / "t.csv").write_text("# a, b\n\na;b\n# x;y\n1;2\n")
    assert list(read_cells(tmp_path / "t.csv", comment="#")) == [(3, ["a", "b"]), (5, ["1", "2"])]


@pytest.mark.parametrize(
    ("text", "message"), [('a,b\n"1,2\n', "t.csv, line 2: .*is a quote missing"), ("a" * 140_000, "line 1: .*field larger")]
)
def test_what_is_no_csv_is_named_by_its_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_cells(tmp_path / "t.csv"))


def test_lines_are_counted_with_the_blank_ones_between_them(tmp_path):
    (tmp_path / "t.txt").write_text("one\n\n  \ntwo\n")
    assert read_lines(tmp_path / "t.txt") == [(1, "one"), (4, "two")]
    (tmp_path / "t.txt").write_text("")
    assert read_lines(tmp_path / "t.txt") == list(read_cells(tmp_path / "t.txt")) == []
