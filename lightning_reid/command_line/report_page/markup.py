"""HTML of elements, in which no text can become markup: names of files and people come from anywhere."""

from __future__ import annotations

from html import escape

from lightning_reid.command_line.printable import printable

VOID = ("img", "meta", "br")
"""Elements that have no content and no end."""


class Markup(str):
    """Text that is HTML already; any other text is escaped where it is put into an element."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """An element of HTML or SVG.

    Args:
        name: Of the element.
        children: Its content; what is no ``Markup`` is escaped, ``None`` is left out.
        attributes: By their names, ``_`` for ``-`` (``class_`` for ``class``); ``True`` for one without a value, ``None`` and ``False``
            for none.

    Example:
        >>> from lightning_reid.command_line.report_page.markup import tag
        >>> tag("p", "by ", tag("b", "<script>"), class_="name", hidden=False)
        '<p class="name">by <b>&lt;script&gt;</b></p>'
    """
    told = "".join(_attribute(one, value) for one, value in attributes.items())
    return Markup(f"<{name}{told}>" if name in VOID else f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    """Elements and texts one after the other; texts are escaped."""
    return Markup("".join(one if isinstance(one, Markup) else escape(printable(one), quote=False) for one in children if one is not None))


def details(summary: str, *children: str | None) -> Markup:
    """Content that is folded away below a line that opens it."""
    return tag("details", tag("summary", summary), *children)


def table(caption: str, headings: list[str], rows: list[list[str]], *, names: int = 1) -> Markup:
    """A table whose first column names its rows, in a box that scrolls by itself where it is wider than the page.

    Args:
        caption: What it shows.
        headings: Of the columns.
        rows: Cells, texts or ``Markup`` of what is in them.
        names: So many columns are words, set to the left; the others numbers, set to the right.
    """
    head = tag("tr", *(tag("th", one, scope="col", class_=None if place < names else "number") for place, one in enumerate(headings)))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_=None if place < names else "number") for place, cell in enumerate(row[1:], start=1)),
        )
        for row in rows
    ]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex=0, role="group", aria_label=f"table, {caption}")


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    told = f"{value:g}" if isinstance(value, float) else str(value)
    return f' {name}="{told if isinstance(value, Markup) else escape(printable(told))}"'
