"""The picture of a calibration: whether its probabilities are right, and what they are made of."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_reid.metrics import Calibration, probability_of

_LINE = {"match": "tab:green", "non-match": "tab:red"}


def draw_calibration(calibration: Calibration) -> Figure:
    """On the left how often pairs of one probability are of one person; on the right the probability of each cosine, and the thresholds."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_reliability(left, calibration)
    _draw_curve(right, calibration)
    figure.suptitle(f"{calibration.model}, calibrated on {calibration.people[0]} people of {calibration.data}", fontsize=9)
    return figure


def _draw_reliability(axes: Axes, calibration: Calibration) -> None:
    filled = [one for one in calibration.bins if one.share > 0]
    axes.bar([one.low for one in filled], [one.share for one in filled], width=1 / len(calibration.bins), align="edge", color="lightgray")
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="as it should be")
    error = f"{calibration.people[1]} other people, error {calibration.calibration_error:.3f}"
    axes.plot([one.predicted for one in filled], [one.observed for one in filled], color="tab:blue", marker="o", label=error)
    axes.set(xlabel="probability given", ylabel="share of one person (gray: of all pairs)", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8, loc="upper left")


def _draw_curve(axes: Axes, calibration: Calibration) -> None:
    low, high = calibration.similarities[0], calibration.similarities[-1]
    cosines = torch.from_numpy(np.linspace(low, high, 400))
    axes.plot(cosines, probability_of(cosines, calibration), color="tab:blue", label="probability, prior 0.5")
    for kind, thresholds, name in (
        ("match", calibration.match, "false matches"),
        ("non-match", calibration.non_match, "false non-matches"),
    ):
        for number, one in enumerate(thresholds):
            axes.axvspan(*one.similarity_interval, color=_LINE[kind], alpha=0.15, linewidth=0)
            style = ("-", "--", ":")[number % 3]
            axes.axvline(one.similarity, color=_LINE[kind], linestyle=style, linewidth=1, label=f"{one.rate:g} of {name}")
    axes.set(xlabel="cosine of two pictures", ylabel="probability of the same person", ylim=(0, 1))
    axes.legend(fontsize=7, loc="lower right")
