"""The histograms of labeled pairs, and the threshold read off them."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from lightning_reid.selection.distance_threshold import DistanceThreshold

BARS = 100
"""Bins drawn; the threshold is found in finer ones."""


def draw_threshold(found: DistanceThreshold, *, tau: float) -> Figure:
    """Shares of positive and negative pairs by their squared distance, with tau_l and the tau of this iteration (SGC-DPL, Fig. 3.3).

    Args:
        found: tau_l and its histograms.
        tau: Threshold of the selection; drawn where it lies within the histograms.
    """
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    merged = max(1, len(found.positives) // BARS)
    width = float(found.edges[1] - found.edges[0]) * merged
    for counts, color, name in ((found.positives, "tab:blue", "same identity"), (found.negatives, "tab:red", "different identities")):
        bars = torch.stack([part.sum() for part in counts.split(merged)]).double()
        centers = (torch.arange(len(bars)) + 0.5) * width
        axes.plot(centers, bars / bars.sum(), color=color, label=f"{name} ({int(bars.sum()):,} pairs)")
        axes.fill_between(centers, bars / bars.sum(), color=color, alpha=0.2)
    axes.axvline(found.value, color="black", linestyle="--", label=rf"$\tau_l$ = {found.value:.3g} ({found.error:.1%} of pairs wrong)")
    if tau != found.value and tau <= float(found.edges[-1]):
        axes.axvline(tau, color="gray", linestyle=":", label=rf"$\tau$ = {tau:.3g}")
    axes.set(xlabel="squared distance of two labeled images", ylabel="share of the pairs", xlim=(0, None), ylim=(0, None))
    axes.legend(fontsize=8)
    return figure
