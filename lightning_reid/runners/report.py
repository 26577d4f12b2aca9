"""What a finished recipe leaves behind: the table, ``results.json`` and the curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from lightning_reid.files import read_json, write_atomically, write_json
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.metrics.matching import CAMERA_PROTOCOLS


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
        """What stands above ``cells``."""
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


WIDTH_OF_LOGS = 160
"""Columns of a table that is printed into a file or a pipe."""
_COLUMNS = ("mAP", "R1", "R5", "R10", "mINP")
_HEADER = ("method", "mAP %", "95 % interval", "R1 %", "R5 %", "R10 %", "mINP %")
_NOT_SCORES = ("mAP_interval", "costs", "queries")


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


def print_table(rows: Sequence[ResultRow], stamp: ProtocolStamp, title: str) -> None:
    """Print the table with its protocol stamp, and how many queries were not scored, on the terminal."""
    table = Table(title=title, caption="\n".join([str(stamp_of_table(rows, stamp)), *unmatched_sentences(rows, stamp)]))
    for number, heading in enumerate(rows[0].headings()):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row.cells())
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_LOGS)
    console.print(table)


def write_report(output: Path, rows: Sequence[ResultRow], stamp: ProtocolStamp, *, title: str, seconds: float) -> None:
    """Write ``results.json`` and ``table.md`` into ``output``."""
    stamp, scores = stamp_of_table(rows, stamp), {row.name: row.as_json() for row in rows}
    write_json(output / "results.json", {"rows": scores, "protocol": str(stamp), "stamp": stamp.as_dict(), "seconds": round(seconds, 1)})
    headings = rows[0].headings()
    lines = [f"## {title}", "", "| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    text = "\n".join([*lines, "", str(stamp), *(line for sentence in unmatched_sentences(rows, stamp) for line in ("", sentence)), ""])
    write_atomically(output / "table.md", lambda file: file.write_text(text, encoding="utf-8"))


def read_curve(metrics_files: Sequence[Path], name: str) -> tuple[list[float], list[float]]:
    """Epochs (counted from 1) and values of one metric in a CSV logger's files; empty lists where it was never logged.

    An epoch that a resumed run trained again counts once, as in the later file.
    """
    points: dict[float, float] = {}
    for metrics_file in metrics_files:
        with metrics_file.open(newline="", encoding="utf-8") as file:
            points |= {float(line["epoch"]) + 1: float(line[name]) for line in csv.DictReader(file) if line.get(name)}
    epochs = sorted(points)
    return epochs, [points[epoch] for epoch in epochs]


@dataclass(frozen=True)
class Panel:
    """One of the diagrams that ``draw_curves`` draws side by side.

    Attributes:
        metrics: Names of the logged value, the first that a run has logged; its last value in each epoch counts.
        label: Of the vertical axis; ``{validated}`` stands for whom validation was on.
        factor: What values are multiplied by, 100 for per cent.
    """

    metrics: tuple[str, ...]
    label: str
    factor: float = 1.0


SCORE = Panel(("val/mAP",), "mAP on {validated} (%)", 100)
RANK1 = Panel(("val/R1",), "rank-1 on {validated} (%)", 100)
CLUSTERS = Panel(("pbh/v_measure", "cluster/v_measure"), "V-measure of the pseudo-labels")
LOSS = Panel(("train/loss",), "training loss")


def draw_curves(
    path: Path,
    curves: Mapping[str, Sequence[Path]],
    *,
    panels: Sequence[Panel],
    stamp: ProtocolStamp,
    levels: Mapping[str, float] | None = None,
    epochs_per_iteration: int | None = None,
) -> None:
    """Draw logged values over the epochs or iterations, one line a method.

    Args:
        path: PNG to write.
        curves: Method to its CSV logger's files.
        panels: What to draw, side by side.
        stamp: Printed below.
        levels: Method to a score, a fraction, drawn as a broken line in the first panel (what needs no training, such as direct transfer).
        epochs_per_iteration: Count in iterations of so many epochs; ``None`` counts epochs.
    """
    figure = Figure(figsize=(4.5 * len(panels), 3.8), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for (name, level), style in zip((levels or {}).items(), cycle(("--", ":", "-."))):
        all_axes[0].axhline(panels[0].factor * level, linestyle=style, color="grey", label=name)
    for axes, panel in zip(all_axes, panels):
        for name, metrics_files in curves.items():
            logged = (read_curve(metrics_files, metric) for metric in panel.metrics)
            epochs, values = next((curve for curve in logged if curve[0]), ([], []))
            axes.plot(
                [epoch / (epochs_per_iteration or 1) for epoch in epochs],
                [panel.factor * value for value in values],
                marker="o",
                markersize=3,
                label=name,
            )
        axes.set_xlabel("iteration" if epochs_per_iteration else "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(panel.label.format(validated="people held out of training" if stamp.num_val_ids else "the test set"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.supxlabel(str(stamp), fontsize=6, color="grey")
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))


def draw_heat_map(
    path: Path, values: Mapping[tuple[float, float], float], *, labels: tuple[str, str, str], factor: float, stamp: ProtocolStamp
) -> None:
    """Draw a value over two settings, the number in each cell.

    Args:
        path: PNG to write.
        values: By the settings (down, across), every combination of those that occur.
        labels: Of the settings down and across, and of the value.
        factor: What values are multiplied by, 100 for per cent.
        stamp: Printed below.

    Raises:
        KeyError: A combination is missing.
    """
    down, across = (sorted({cell[axis] for cell in values}) for axis in (0, 1))
    rows = [[factor * values[row, column] for column in across] for row in down]
    figure = Figure(figsize=(1.6 + 1.1 * len(across), 1.4 + 0.8 * len(down)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rows, cmap="viridis", aspect="auto")
    middle = (min(map(min, rows)) + max(map(max, rows))) / 2
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", color="white" if value < middle else "black")
    axes.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    axes.set_yticks(range(len(down)), [f"{value:g}" for value in down])
    axes.set(ylabel=labels[0], xlabel=labels[1])
    figure.colorbar(image, label=labels[2])
    figure.supxlabel(str(stamp), fontsize=5, color="grey")
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))


def read_row(name: str, file: Path) -> ResultRow:
    """A row read back from the file that holds its JSON form.

    Raises:
        ValueError: It was written by a version that drew intervals over single queries, or is damaged; the message names it.
    """
    again = "remove it, and the row is scored again"
    content = read_json(file, dict.fromkeys(_COLUMNS, (int, float)), way_on=again)
    if "queries" not in content:
        raise ValueError(f"{file}, the scores of {name!r}, is of an older version, whose interval is over single queries: {again}")
    try:
        interval = content["mAP_interval"]
        low, high = (0, 0) if interval is None else interval
        ends = None if interval is None else (float(low), float(high))
        queries = Queries(**{counted: int(number) for counted, number in content["queries"].items()})
        costs = {heading: float(cost) for heading, cost in content.get("costs", {}).items()}
        scores = {key: float(value) for key, value in content.items() if key not in _NOT_SCORES}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}, the scores of {name!r}, was edited or is not of this library ({error!r}): {again}") from error
    return ResultRow(name, scores, ends, queries, costs)
