"""Clusters of labeled and unlabeled images while the search for p* goes on, by t-SNE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from lightning_reid.callbacks.embedding_projector import project

PALETTE = ListedColormap([*colormaps["tab20"](range(20)), *colormaps["tab20b"](range(20))])
NUM_LABELED, NUM_UNLABELED, MOST_IMAGES = 3, 5, 20
"""Identities shown of each kind (as in the text), and images of each."""


def draw_search(embeddings: Tensor, pids: Tensor, num_labeled: int, clusterings: Mapping[str, Tensor], *, seed: int = 0) -> Figure | None:
    """Sampled identities in one t-SNE, a panel a clustering: colors are clusters, shapes and outlines true identities (SGC-DPL, Fig. 3.4).

    Labeled images are round and their identities circled, unlabeled ones square in rectangles. A solid outline: one cluster holds this
    identity, and no other of those shown; else it is dotted.

    Args:
        embeddings: ``[N, D]`` float, labeled images first.
        pids: ``[N]`` int64 true identities; 0 or less, unknown, is never shown.
        num_labeled: N_l.
        clusterings: Title to ``[N]`` int64 labels.
        seed: Of the identities shown and of t-SNE.

    Returns:
        ``None`` if fewer than three images could be shown.
    """
    rows = sampled_identity_rows(pids, num_labeled, seed=seed)
    if len(rows) < 3:
        return None
    points, shown, labeled = project(embeddings[rows], seed=seed), pids[rows].numpy(), (rows < num_labeled).numpy()
    figure = Figure(figsize=(5 * len(clusterings), 4.8), layout="constrained")
    for axes, (title, labels) in zip(figure.subplots(1, len(clusterings), squeeze=False)[0], clusterings.items(), strict=True):
        _, colors = np.unique(labels[rows].numpy(), return_inverse=True)
        for kind, marker in ((labeled, "o"), (~labeled, "s")):
            axes.scatter(points[kind, 0], points[kind, 1], c=PALETTE(colors[kind] % PALETTE.N), s=16, marker=marker)
        _outline(axes, points, shown, labeled, colors)
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[], aspect="equal")
    figure.supxlabel("round and circled: labeled; square and boxed: unlabeled; color: cluster; solid: cluster = identity", fontsize=8)
    return figure


def sampled_identity_rows(pids: Tensor, num_labeled: int, *, seed: int) -> Tensor:
    """``[n]`` int64 rows of a few labeled and a few unlabeled identities chosen by ``seed``, at most 20 images of each."""
    generator, rows = torch.Generator().manual_seed(seed), []
    parts = ((0, pids[:num_labeled], NUM_LABELED), (num_labeled, pids[num_labeled:], NUM_UNLABELED))
    for first, theirs, count in parts:
        known = theirs[theirs > 0].unique()
        for pid in known[torch.randperm(len(known), generator=generator)[:count]]:
            rows.append(first + (theirs == pid).nonzero().flatten()[:MOST_IMAGES])
    return torch.cat(rows) if rows else torch.empty(0, dtype=torch.int64)


def _outline(axes: Axes, points: np.ndarray, pids: np.ndarray, labeled: np.ndarray, clusters: np.ndarray) -> None:
    pad = 0.02 * float(np.ptp(points, axis=0).max())
    for pid, is_labeled in {(int(pid), bool(kind)) for pid, kind in zip(pids, labeled)}:
        own = (pids == pid) & (labeled == is_labeled)
        alone = len(np.unique(clusters[own])) == 1 and not np.isin(clusters[~own], clusters[own]).any()
        low, high = points[own].min(0) - pad, points[own].max(0) + pad
        style: dict[str, Any] = {"fill": False, "linestyle": "-" if alone else ":", "edgecolor": "black", "linewidth": 1.0}
        if is_labeled:
            center = (low + high) / 2
            axes.add_patch(Circle(tuple(center), float(np.linalg.norm(points[own] - center, axis=1).max()) + pad, **style))
        else:
            axes.add_patch(Rectangle(tuple(low), *(high - low), **style))
