"""Seconds as an option tells them: a number, and no time of day, which YAML would take for a number too."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,2})?", re.IGNORECASE)


def seconds(told: str | float) -> float:
    """A finite number of seconds.

    Raises:
        ArgumentTypeError: It is something else.

    Example:
        >>> from lightning_reid.command_line.seconds import seconds
        >>> seconds("1714550400.5")
        1714550400.5
    """
    if isinstance(told, str) and not _NUMBER.fullmatch(told):
        raise ArgumentTypeError(f"expected a number of seconds, as in 12.5 or 1714550400, got {told}")
    return float(told)
