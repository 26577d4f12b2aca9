"""How right the selected pseudo-labels are, for a report: it takes the true identities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def selection_precision(selected: Tensor, labels: Tensor, exemplars: Tensor, pids: Tensor) -> float:
    """Share of the selected images, exemplars apart, that show the person of their exemplar (SGC-DPL, Fig. 3.6).

    An exemplar is right by definition, and at a small threshold nearly all selected images are exemplars: counting them would call a
    selection of nothing perfect.

    Args:
        selected: ``[N]`` bool.
        labels: ``[N]`` int64 clusters ``0..C-1``; -1 is not counted.
        exemplars: ``[C]`` int64 rows.
        pids: ``[N]`` int64 true identities; images of unknown identity (0 or less) are not counted, nor those of such an exemplar.

    Returns:
        In [0, 1]; NaN where nothing is counted.
    """
    counted, right = _judged(labels, exemplars, pids)
    return right[counted & selected].double().mean().item()


def precision_of_nearest(
    embeddings: Tensor, labels: Tensor, exemplars: Tensor, pids: Tensor, shares: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Thresholds that select given shares of the clustered images, the nearest to their exemplar first, and the precision of each.

    Exemplars do not count, as in ``selection_precision``.

    Args:
        embeddings: ``[N, D]`` float, those that were clustered.
        labels: As for ``selection_precision``.
        exemplars: As for ``selection_precision``.
        pids: As for ``selection_precision``.
        shares: In (0, 1].

    Returns:
        Squared distances, the largest that is selected, and precisions in [0, 1]; NaN where nothing is counted.
    """
    counted, right = _judged(labels, exemplars, pids)
    rows = counted.nonzero().flatten()
    distances, order = (embeddings[rows] - embeddings[exemplars[labels[rows]]]).square().sum(1).sort(stable=True)
    right, counts = right[rows[order]].double(), [round(share * len(rows)) for share in shares]
    return (
        [distances[count - 1].item() if count else float("nan") for count in counts],
        [right[:count].mean().item() for count in counts],
    )


def _judged(labels: Tensor, exemplars: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """``[N]`` bool each: images that count, no exemplars and of known identity as their exemplar is, and which of all show its person."""
    own = pids[exemplars][labels.clamp(min=0)] if len(exemplars) else torch.zeros_like(pids)
    counted = (labels >= 0) & (pids > 0) & (own > 0)
    counted[exemplars] = False
    return counted, pids == own
