"""Text from outside: every table, list and annotation is read here, so that whatever cannot be read is one error of one kind."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lightning_reid.regular_files import read_regular

SEPARATORS = ",;\t"
"""Of cells: a comma, or what Excel writes instead, where the comma is the decimal sign or as "text"."""
_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16, as Excel's 'Unicode text' is",
    codecs.BOM_UTF16_BE: "UTF-16, as Excel's 'Unicode text' is",
}
"""Encodings by the marks of their beginnings; that of UTF-32 begins as that of UTF-16 does."""
_EXCELS_LINE = re.compile(r'"?sep=([^"\w\s]|\t)"?[,;\s]*', re.IGNORECASE)
_SAVE = "save it as UTF-8 (in Excel: 'CSV UTF-8')"


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: It cannot be read.
        ValueError: It is text in another encoding, or no text; the message names the file, the first byte that is wrong, and the remedy.
    """
    content = read_regular(path)
    other = next((encoding for mark, encoding in _OTHERS.items() if content.startswith(mark)), None)
    if other is not None:
        raise ValueError(f"{path} is text in {other}, and UTF-8 was expected: {_SAVE}")
    if b"\0" in content:
        raise ValueError(f"{path} is no text: there is a zero at byte {content.index(0)}. Give a text file, or {_SAVE}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: the byte {content[error.start]:#04x} is no UTF-8, the text has another encoding, latin-1 say: {_SAVE}"
        ) from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Numbers, from 1, and text of all lines that are not blank.

    Raises:
        OSError: See ``read_text``.
        ValueError: See ``read_text``.
    """
    return [(number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]


def read_cells(
    path: Path, separator: str | None = None, comment: str | None = None, columns: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Number of the line, from 1, and the cells, without spaces around them, of every row of a CSV file; blank lines are passed over.

    Args:
        path: The file.
        separator: Of cells; ``None`` takes the one of ``SEPARATORS`` that the first line holds most often. A first line ``sep=;``, as
            Excel has it, tells it too, and is no row.
        comment: Lines that begin so are passed over as blank ones are; ``None``: there are none.
        columns: Names that the first line must hold, lower case: a separator that parts them goes before one that is there more often.

    Raises:
        OSError: See ``read_text``.
        ValueError: See ``read_text``; or a row is no CSV, with a quote that never ends, say. The message names the line.
    """
    lines = read_text(path).splitlines(keepends=True)
    told = _EXCELS_LINE.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    if told:
        separator, lines[0] = separator or told[1], "\n"
    if comment is not None:
        lines = ["\n" if line.startswith(comment) else line for line in lines]
    if separator is None:
        heading = next((line for line in lines if line.strip()), "")
        separator = max(SEPARATORS, key=lambda mark: ({*columns} <= _names(heading, mark), heading.count(mark)))
    rows = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                yield rows.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {rows.line_num}: this is no row of cells ({error}); is a quote missing, or one too many?"
        ) from error


def _names(heading: str, separator: str) -> set[str]:
    return {cell.strip(' \t\r\n"').lower() for cell in heading.split(separator)}


def heading_of(
    path: Path, found: Sequence[str], required: Sequence[str], optional: Sequence[str], remedies: Mapping[str, str] | None = None
) -> list[str]:
    """Names of the columns, lower case.

    Args:
        path: The table, for the message.
        found: Cells of the first row.
        required: Columns that must be there.
        optional: Columns that may be there, for the message.
        remedies: What to do where the first column that is missing is that one, for the message.

    Raises:
        ValueError: A column is missing, or one that is read is there twice.
    """
    names = [name.strip().lower() for name in found]
    missing = [column for column in required if column not in names]
    if missing:
        way_on = f". {remedies[missing[0]]}" if remedies and missing[0] in remedies else ""
        named = f"Expected a heading with {', '.join(required)} and optionally {', '.join(optional)}"
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}; its first line holds {', '.join(map(repr, found[:12])) or 'nothing'}."
            f" {named}, between commas, semicolons or tabs"
            + ("; where cameras are not known, write 0 in a column camid" if missing == ["camid"] else way_on)
        )
    twice = [column for column in (*required, *optional) if names.count(column) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}: leave one out, or give it another name")
    return names
