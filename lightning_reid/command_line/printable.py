"""Names of files, which may hold anything, as a line on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""A text in which what is no character to print, a line's end, an escape or a byte that is no text, is written as in Python.

    Example:
        >>> from lightning_reid.command_line.printable import printable
        >>> print(printable("a\nnext: b"))
        a\nnext: b
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode("ascii") for one in text)
