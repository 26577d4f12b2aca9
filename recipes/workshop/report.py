"""What a finished recipe leaves behind: the rows of its table, ``results.json`` and ``table.md``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_reid.arguments import shown
from lightning_reid.files import read_json, write_atomically, write_json
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.metrics.matching import CAMERA_PROTOCOLS
from lightning_reid.networks import MeasuredScores
from lightning_reid.recipes.workshop.tables import print_table


@dataclass(frozen=True)
class Queries:
    """What was asked, and how much of it counts.

    Attributes:
        asked: Queries of the data set.
        unmatched: Those of them without a match, which are not scored.
        people: Different people among those that are scored.
    """

    asked: int
    unmatched: int
    people: int


@dataclass(frozen=True)
class ResultRow:
    """The scores of one method.

    Attributes:
        name: As in the thesis' tables, e.g. ``"direct transfer"``.
        scores: ``mAP``, ``R1``, ``R5``, ``R10``, ``mINP``, and others if they were measured, as fractions in [0, 1].
        mAP_interval: Bootstrap 95 % interval of mAP over the people who were asked for, fractions; ``None`` where it was only one, over
            whom no interval can be drawn.
        queries: What was asked.
        costs: Further columns by their headings, e.g. ``{"G multiply-adds": 4.1}``; the rows of one table have the same.
    """

    name: str
    scores: dict[str, float]
    mAP_interval: tuple[float, float] | None  # noqa: N815
    queries: Queries
    costs: dict[str, float] = field(default_factory=dict)

    def headings(self) -> list[str]:
        """The headings of the columns that ``cells`` fills."""
        return [*_HEADER, *(f"{name} %" for name in self._further_scores()), *self.costs]

    def cells(self) -> list[str]:
        """The row as printed, scores in per cent."""
        columns = [f"{100 * self.scores[name]:.1f}" for name in (*_COLUMNS, *self._further_scores())]
        return [self.name, columns[0], self._interval(), *columns[1:], *(f"{cost:.4g}" for cost in self.costs.values())]

    def _interval(self) -> str:
        if self.mAP_interval is None:
            return "one person"
        low, high = (100 * end for end in self.mAP_interval)
        return f"{low:.1f} – {high:.1f}"

    def _further_scores(self) -> list[str]:
        return [name for name in self.scores if name not in _COLUMNS]

    def as_json(self) -> dict[str, Any]:
        """Scores and interval as fractions, the counts of queries, costs where there are any; read back by ``read_row``."""
        interval = None if self.mAP_interval is None else list(self.mAP_interval)
        further = {"mAP_interval": interval, "queries": asdict(self.queries)} | ({"costs": self.costs} if self.costs else {})
        return self.scores | further


_COLUMNS = ("mAP", "R1", "R5", "R10", "mINP")
_HEADER = ("method", "mAP %", "95 % interval", "R1 %", "R5 %", "R10 %", "mINP %")
TESTED = "tested"
"""What a row was scored on, in the file of its scores."""
MOST_ROWS = 1000
"""Of a table that is read back."""
_ROUNDING = 1e-6
"""By which a mean of ones may exceed 1."""
_NOT_SCORES = ("mAP_interval", "costs", "queries", TESTED)


def stamp_of_table(rows: Sequence[ResultRow], stamp: ProtocolStamp) -> ProtocolStamp:
    """The stamp with what the intervals of a table were drawn over."""
    people = ", ".join(f"{number:,}" for number in sorted({row.queries.people for row in rows}))
    drawn = any(row.mAP_interval is not None for row in rows)
    told = f"95 % intervals of mAP by bootstrap over {people} people" if drawn else "no interval over the queries of one person"
    return replace(stamp, interval=told)


def unmatched_sentences(rows: Sequence[ResultRow], stamp: ProtocolStamp) -> list[str]:
    """How many queries were asked in vain, once where all rows agree; nothing where every query has a match."""
    where = " in another camera" if stamp.protocol in CAMERA_PROTOCOLS else ""
    sentences = {
        row.name: f"{row.queries.unmatched:,} of {row.queries.asked:,} queries have no match{where} and are not scored"
        for row in rows
        if row.queries.unmatched
    }
    if len({row.queries for row in rows}) == 1:
        return list(sentences.values())[:1]
    return [f"{name}: {sentence}" for name, sentence in sentences.items()]


def print_scores(rows: Sequence[ResultRow], stamp: ProtocolStamp, title: str) -> None:
    """Print the rows with their protocol stamp, and how many queries were not scored, on the terminal."""
    told = "\n".join([str(stamp_of_table(rows, stamp)), *unmatched_sentences(rows, stamp)])
    print_table(title, rows[0].headings(), [row.cells() for row in rows], caption=told)


def report(output: Path, rows: Sequence[ResultRow], stamp: ProtocolStamp, *, title: str, began: float) -> None:
    """Write ``results.json`` and ``table.md`` into ``output``, and print the table; ``began`` is ``time.monotonic()`` at the start."""
    write_report(output, rows, stamp, title=title, seconds=time.monotonic() - began)
    print_scores(rows, stamp, title)
    networks = sorted(output.glob("*/last.ckpt"))
    if networks:
        print(f"networks, for --model of lightning-reid embed, search, export: {', '.join(map(str, networks))}")


def write_report(output: Path, rows: Sequence[ResultRow], stamp: ProtocolStamp, *, title: str, seconds: float) -> None:
    """Write ``results.json`` and ``table.md`` into ``output``."""
    stamp, scores = stamp_of_table(rows, stamp), {row.name: row.as_json() for row in rows}
    write_json(output / "results.json", {"rows": scores, "protocol": str(stamp), "stamp": stamp.as_dict(), "seconds": round(seconds, 1)})
    headings = rows[0].headings()
    lines = [f"## {title}", "", "| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    text = "\n".join([*lines, "", str(stamp), *(line for sentence in unmatched_sentences(rows, stamp) for line in ("", sentence)), ""])
    write_atomically(output / "table.md", lambda file: file.write_text(text, encoding="utf-8"))


def measured(row: ResultRow, stamp: ProtocolStamp) -> MeasuredScores:
    """A row as the card of a network tells it."""
    interval = f"95 % interval of mAP by bootstrap over {row.queries.people:,} people" if row.mAP_interval is not None else ""
    note = " ".join(f"{sentence}." for sentence in unmatched_sentences([row], stamp))
    return MeasuredScores(replace(stamp, interval=interval), row.scores, row.mAP_interval, note)


def read_row(name: str, file: Path) -> ResultRow:
    """A row read back from the file that holds its JSON form.

    Raises:
        ValueError: It was written by a version that drew intervals over single queries, or is damaged; the message names it.
    """
    again = "remove it, and the row is scored again"
    return row_of_json(name, read_json(file, dict.fromkeys(_COLUMNS, (int, float)), way_on=again), file, again)


@dataclass(frozen=True)
class Results:
    """What ``results.json`` tells of a run.

    Attributes:
        rows: Of its table, none where nothing was scored.
        stamp: Of the scores; ``None`` where nothing was scored.
        told: The stamp in words, or why there is none.
        seconds: That the run took, of its last sitting.
    """

    rows: tuple[ResultRow, ...]
    stamp: ProtocolStamp | None
    told: str
    seconds: float


def read_results(output: Path) -> Results:
    """The table of a finished run, read back.

    Raises:
        OSError: There is no ``results.json``: the run is not finished; or it cannot be read.
        ValueError: It is damaged, of an older version, of a recipe whose rows are no scores of retrieval, or has more than ``MOST_ROWS``
            rows; the message names it.
    """
    file, again = output / "results.json", "run the recipe again with --resume, which writes it anew"
    content = read_json(file, {"rows": dict, "protocol": str, "seconds": (int, float)}, way_on=again)
    if len(content["rows"]) > MOST_ROWS:
        raise ValueError(f"{file} has {len(content['rows']):,} rows, more than the {MOST_ROWS:,} that are read: {again}")
    if not 0 <= content["seconds"] < math.inf:
        raise ValueError(f"{file} holds {shown(content['seconds'])} as 'seconds', it was edited: {again}")
    rows = tuple(row_of_json(name, row, file, again) for name, row in content["rows"].items())
    stamp = content.get("stamp")
    try:
        return Results(rows, None if stamp is None else ProtocolStamp(**stamp), content["protocol"], float(content["seconds"]))
    except TypeError as error:
        raise ValueError(f"{file} tells a stamp that is none of this library ({error}): {again}") from error


def row_of_json(name: str, content: Any, file: Path, again: str) -> ResultRow:
    """A row of its JSON form.

    Args:
        name: Of the row.
        content: As ``ResultRow.as_json`` gives it; whatever a file had.
        file: Where it was read, for messages.
        again: What the reader of a message can do.

    Raises:
        ValueError: See ``read_row``.
    """
    told = f"{file}, the scores of {name!r},"
    if not isinstance(content, dict) or not all(isinstance(content.get(score), (int, float)) for score in _COLUMNS):
        raise ValueError(f"{told} lacks {', '.join(_COLUMNS)}, it was edited or is no row of this library: {again}")
    if "queries" not in content:
        raise ValueError(f"{told} is of an older version, whose interval is over single queries: {again}")
    try:
        interval = content["mAP_interval"]
        low, high = (0, 0) if interval is None else interval
        ends = None if interval is None else (float(low), float(high))
        queries = Queries(**{counted: int(number) for counted, number in content["queries"].items()})
        costs = {heading: float(cost) for heading, cost in content.get("costs", {}).items()}
        scores = {key: float(value) for key, value in content.items() if key not in _NOT_SCORES}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{told} was edited or is not of this library ({error!r}): {again}") from error
    _require_fractions(told, scores | dict(zip(("the low end of mAP_interval", "the high end of mAP_interval"), ends or ())), again)
    for name_of, value in {**costs, **asdict(queries)}.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{told} tells {shown(value)} as {name_of!r}, expected a finite number of at least 0, it was edited: {again}")
    return ResultRow(name, scores, ends, queries, costs)


def _require_fractions(told: str, scores: Mapping[str, float], again: str) -> None:
    for name, score in scores.items():
        if not 0 <= score <= 1 + _ROUNDING:  # NaN neither
            raise ValueError(f"{told} tells {shown(score)} as {name!r}, expected a fraction in [0, 1], it was edited: {again}")
