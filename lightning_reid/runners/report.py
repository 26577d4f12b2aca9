"""What a finished recipe leaves behind: the table, ``results.json`` and the curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lightning_reid.files import write_atomically, write_json
from lightning_reid.metrics import ProtocolStamp


@dataclass(frozen=True)
class ResultRow:
    """The scores of one method.

    Attributes:
        name: As in the thesis' tables, e.g. ``"direct transfer"``.
        scores: ``mAP``, ``R1``, ``R5``, ``R10``, ``mINP`` as fractions in [0, 1].
        mAP_interval: Bootstrap 95 % interval of mAP over the queries, fractions.
    """

    name: str
    scores: dict[str, float]
    mAP_interval: tuple[float, float]  # noqa: N815

    def cells(self) -> list[str]:
        """The row as printed, in per cent."""
        low, high = (100 * end for end in self.mAP_interval)
        columns = [f"{100 * self.scores[name]:.1f}" for name in _COLUMNS]
        return [self.name, columns[0], f"{low:.1f} – {high:.1f}", *columns[1:]]


_COLUMNS = ("mAP", "R1", "R5", "R10", "mINP")
_HEADER = ("method", "mAP %", "95 % interval", "R1 %", "R5 %", "R10 %", "mINP %")


def print_table(rows: Sequence[ResultRow], stamp: ProtocolStamp, title: str) -> None:
    """Print the table with its protocol stamp on the terminal."""
    table = Table(title=title, caption=str(stamp))
    for number, heading in enumerate(_HEADER):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row.cells())
    Console().print(table)


def write_report(output: Path, rows: Sequence[ResultRow], stamp: ProtocolStamp, *, title: str, seconds: float) -> None:
    """Write ``results.json`` and ``table.md`` into ``output``."""
    scores = {row.name: row.scores | {"mAP_interval": list(row.mAP_interval)} for row in rows}
    write_json(output / "results.json", {"rows": scores, "protocol": str(stamp), "stamp": stamp.as_dict(), "seconds": round(seconds, 1)})
    lines = [f"## {title}", "", "| " + " | ".join(_HEADER) + " |", "|---|" + "---:|" * (len(_HEADER) - 1)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    text = "\n".join([*lines, "", str(stamp), ""])
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


def draw_curves(path: Path, curves: Mapping[str, Sequence[Path]], *, levels: Mapping[str, float], stamp: ProtocolStamp) -> None:
    """Draw mAP and V-measure over the epochs, one line a method.

    Args:
        path: PNG to write.
        curves: Method to its CSV logger's files.
        levels: Method to an mAP drawn as a dashed line (what needs no training, such as direct transfer).
        stamp: Printed below.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    score_axes, cluster_axes = figure.subplots(1, 2)
    for name, level in levels.items():
        score_axes.axhline(100 * level, linestyle="--", color="grey", label=name)
    for name, metrics_files in curves.items():
        epochs, values = read_curve(metrics_files, "val/mAP")
        score_axes.plot(epochs, [100 * value for value in values], marker="o", markersize=3, label=name)
        refined = read_curve(metrics_files, "pbh/v_measure")
        epochs, values = refined if refined[0] else read_curve(metrics_files, "cluster/v_measure")
        cluster_axes.plot(epochs, values, label=name)
    for axes, label in ((score_axes, "mAP on the target test set (%)"), (cluster_axes, "V-measure of the pseudo-labels")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.supxlabel(str(stamp), fontsize=6, color="grey")
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))


def row_from_json(name: str, content: Mapping[str, Any]) -> ResultRow:
    """A row read back from its JSON form."""
    low, high = content["mAP_interval"]
    return ResultRow(name, {key: content[key] for key in _COLUMNS}, (low, high))
