"""The rows of a verb that measures: a table on the terminal, a file, and what must not be overwritten."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from lightning_reid.command_line.printable import printable
from lightning_reid.files import write_atomically
from lightning_reid.recipes.workshop.tables import per_cent, print_table

SUFFIXES = (".csv", ".md")
OUT_HELP = "table.csv (fractions, all columns) or table.md (per cent) to write the rows into"
Row = Mapping[str, Any]
"""Plain values by column; scores are fractions, and an interval is a pair of them or ``None``."""


def require_new_table(out: str | None) -> None:
    """Refuse a place where no table can be written, before anything is measured.

    Raises:
        ValueError: It exists, or is no .csv or .md.
    """
    if out is None:
        return
    if os.path.lexists(out):
        raise ValueError(f"{out} exists: give another OUT")
    if Path(out).suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out: {out} must end with {' or '.join(SUFFIXES)}")


def show_rows(title: str, rows: Sequence[Row], shown: Mapping[str, str], *, names: int) -> None:
    """Print rows as a table on the terminal.

    Args:
        title: Above it.
        rows: What was measured.
        shown: Columns to their headings; those whose heading ends with ``%`` are fractions.
        names: So many columns are names, set to the left.
    """
    print_table(title, list(shown.values()), [[escape(cell) for cell in _cells(row, shown)] for row in rows], names=names)


def write_rows(out: str, rows: Sequence[Row], shown: Mapping[str, str], lines: Sequence[str]) -> None:
    """Write a table: of CSV all columns as they are, of Markdown what is shown, and lines below it.

    Raises:
        OSError: It cannot be written.
    """
    text = _csv(rows) if Path(out).suffix.lower() == ".csv" else _markdown(rows, shown, lines)
    write_atomically(Path(out), lambda draft: draft.write_text(text, encoding="utf-8", errors="backslashreplace"))


def tell_lines(lines: Sequence[str], *, loud: bool = False) -> None:
    """Print sentences, on standard error those that must not be missed."""
    console = Console(soft_wrap=True, highlight=False, markup=False, stderr=loud)
    for line in lines:
        console.print(printable(line), style="bold red" if loud else None)


def _cells(row: Row, shown: Mapping[str, str]) -> list[str]:
    return [_cell(row[name], of_hundred=heading.endswith("%")) for name, heading in shown.items()]


def _cell(value: Any, *, of_hundred: bool) -> str:
    if value is None:
        return "-"
    if isinstance(value, (list, tuple)):
        return " to ".join(_cell(end, of_hundred=of_hundred) for end in value)
    if isinstance(value, float):
        return per_cent(value) if of_hundred else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _csv(rows: Sequence[Row]) -> str:
    file = StringIO()
    table = csv.writer(file)
    flat = [_flat(row) for row in rows]
    table.writerow(flat[0])
    table.writerows(row.values() for row in flat)
    return file.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    """With two columns for an interval."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_interval"):
            low, high = value or ("", "")
            found |= {f"{name}_low": low, f"{name}_high": high}
        else:
            found[name] = printable(value) if isinstance(value, str) else "" if value is None else value
    return found


def _markdown(rows: Sequence[Row], shown: Mapping[str, str], lines: Sequence[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    table = [line(list(shown.values())), line(["---"] * len(shown)), *(line(_cells(row, shown)) for row in rows)]
    return "\n".join([*table, "", *(f"- {printable(one)}" for one in lines)]) + "\n"
