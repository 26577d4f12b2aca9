"""People and cameras as their owner named them, to ids that a table can hold and nobody else bears."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightning_reid.datamodules.readers.ids import WHOLE_NUMBER, id_text


def own_ids(what: str, names: Sequence[str]) -> list[str]:
    """Ids as a table takes them: whole numbers without leading zeros, and any text; of numbers below 1, which are nobody there, a text.

    Args:
        what: They are of, ``"person"`` say.
        names: As they are written.

    Raises:
        ValueError: A name is empty or no id, or two different ones would be one: 7 and 007, or two spellings of a letter.

    Example:
        >>> from lightning_reid.datamodules.readers.own_ids import own_ids
        >>> own_ids("person", ["007", "12"]), own_ids("person", ["0", "12"])
        (['7', '12'], ['person 0', 'person 12'])
    """
    written = {name: id_text(what, f"the name {name!r}", name) for name in dict.fromkeys(names)}
    if all(WHOLE_NUMBER.fullmatch(text) for text in written.values()):
        written = {name: str(int(text)) for name, text in written.items()}
    if any(WHOLE_NUMBER.fullmatch(text) and int(text) < 1 for text in written.values()):
        written = {name: f"{what} {text}" for name, text in written.items()}
    first: dict[str, str] = {}
    for name, text in written.items():
        other = first.setdefault(text, name)
        if other != name:
            raise ValueError(f"the {what} {other!r} and the {what} {name!r} would both be {text!r}: rename one, or both alike")
    return [written[name] for name in names]


_HOURS = r"[0-2][0-9][-_:.h]?[0-5][0-9](?:[-_:.m]?[0-5][0-9](?:[-_.]?[0-9]{3,6})?)?"
_DATE = rf"(?:19|20)[0-9]{{2}}[-_.]?[01][0-9][-_.]?[0-3][0-9](?:[-_ T.]{{0,2}}{_HOURS})?"
_TIME = r"[0-2][0-9][-:.h][0-5][0-9][-:.m][0-5][0-9]"
_COUNT = r"1[0-9]{9}|1[0-9]{12}|1[0-9]{15}|1[0-9]{18}|20[0-9]{12,15}"
"""Seconds, milliseconds, microseconds and nanoseconds since 1970; a date and a time to the millisecond."""
_CLOCK = re.compile(f"{_DATE}|{_TIME}|{_COUNT}")
CLOCK_WITHIN = rf"(?<![0-9])(?:{_DATE}|{_TIME}|{_COUNT})(?![0-9])"
"""Of a name that has more parts."""


def looks_like_a_clock(name: str) -> bool:
    """Whether a name is a date, a time, or a clock's count, and so hardly a person or a camera."""
    return _CLOCK.fullmatch(name) is not None
