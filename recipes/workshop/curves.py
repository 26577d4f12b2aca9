"""Curves of what was logged, and heat maps, as pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_reid.files import write_atomically
from lightning_reid.metrics import ProtocolStamp


def read_curve(metrics_files: Sequence[Path], name: str) -> tuple[list[float], list[float]]:
    """Epochs (counted from 1) and values of one metric in a CSV logger's files; empty lists where it was never logged.

    An epoch that a resumed run trained again counts once, as in the later file. What was logged of a step in no epoch, as pruning does,
    is left out.
    """
    points: dict[float, float] = {}
    for metrics_file in metrics_files:
        with metrics_file.open(newline="", encoding="utf-8") as file:
            points |= {float(line["epoch"]) + 1: float(line[name]) for line in csv.DictReader(file) if line.get(name) and line["epoch"]}
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
FOUND = Panel(("cluster/num_clusters",), "clusters")
NOT_SCORED = "nothing is scored: the data have no labels"


def draw_curves(
    path: Path,
    curves: Mapping[str, Sequence[Path]],
    *,
    panels: Sequence[Panel],
    stamp: ProtocolStamp | None,
    levels: Mapping[str, float] | None = None,
    epochs_per_iteration: int | None = None,
) -> None:
    """Draw logged values over the epochs or iterations, one line a method.

    Args:
        path: PNG to write.
        curves: Method to its CSV logger's files.
        panels: What to draw, side by side.
        stamp: Printed below; ``None`` where nothing is scored.
        levels: Method to a score, a fraction, drawn as a broken line in the first panel (what needs no training, such as direct transfer).
        epochs_per_iteration: Count in iterations of so many epochs; ``None`` counts epochs.
    """
    figure = Figure(figsize=(4.5 * len(panels), 3.8), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for (name, level), style in zip((levels or {}).items(), cycle(("--", ":", "-."))):
        all_axes[0].axhline(panels[0].factor * level, linestyle=style, color="gray", label=name)
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
        axes.set_ylabel(panel.label.format(validated="people held out of training" if stamp and stamp.num_val_ids else "the test set"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.supxlabel(NOT_SCORED if stamp is None else str(stamp), fontsize=6, color="gray")
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
    figure.supxlabel(str(stamp), fontsize=5, color="gray")
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))
