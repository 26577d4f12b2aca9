"""How right the selected pseudo-labels are, for a report: it takes the true identities."""

from __future__ import annotations

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
    own = pids[exemplars][labels.clamp(min=0)] if len(exemplars) else torch.zeros_like(pids)
    counted = selected & (labels >= 0) & (pids > 0) & (own > 0)
    counted[exemplars] = False
    return (pids[counted] == own[counted]).double().mean().item()
