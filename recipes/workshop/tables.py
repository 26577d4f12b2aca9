"""The one table that recipes print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

WIDTH_OF_LOGS = 160
"""Columns of a table that is printed into a file or a pipe."""


def print_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str] | None], *, caption: str | None = None, names: int = 1
) -> None:
    """Print a table on the terminal.

    Args:
        title: Above it.
        headings: Of its columns.
        rows: Cells, as many as there are headings; ``None`` draws a line.
        caption: Below it.
        names: Of the columns, the first so many are names, set to the left; the others are numbers, set to the right.
    """
    table = Table(title=title, caption=caption)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < names else "right")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_LOGS)
    console.print(table)


def per_cent(value: float) -> str:
    """A fraction as it stands in tables: in per cent, with one decimal."""
    return f"{100 * value:.1f}"
