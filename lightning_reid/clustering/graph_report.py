"""What a graph of memories came to: by itself, and by the true people."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.clustering.camera_graph import mutual_top1
from lightning_reid.clustering.camera_labels import contradictions


@dataclass(frozen=True)
class GraphReport:
    """What a graph came to; the first four need no true label.

    Attributes:
        labels: How many there are.
        isolated: Memories that share a label with none.
        contradictions: Memories too many for their camera, see ``contradictions``.
        edges: Mutual neighbors, before triangles are asked for.
        right_edges: Share of them that join one person; NaN without edges. From the true labels, for reports only.
        people: True people.
        precision: Of pairs that share a label, how many are one person.
        recall: Of pairs of one person, how many share a label.
    """

    labels: int
    isolated: int
    contradictions: int
    edges: int
    right_edges: float
    people: int
    precision: float
    recall: float

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall of pairs, 0 where both are."""
        return 2 * self.precision * self.recall / (self.precision + self.recall) if self.precision + self.recall else 0.0


def graph_report(memories: Tensor, camids: Tensor, labels: Tensor, pids: Tensor) -> GraphReport:
    """Judge labels across cameras, by themselves and by the true people.

    Args:
        memories: ``[N, D]`` float.
        camids: ``[N]`` int64.
        labels: ``[N]`` int64.
        pids: ``[N]`` int64, true.
    """
    edges = mutual_top1(memories, camids)
    right = (pids[edges[:, 0]] == pids[edges[:, 1]]).double().mean() if len(edges) else torch.tensor(float("nan"))
    sizes = labels.unique(return_counts=True)[1]
    both = torch.stack([labels, pids]).unique(dim=1, return_counts=True)[1]
    shared, true, hits = (_pairs(counts) for counts in (sizes, pids.unique(return_counts=True)[1], both))
    return GraphReport(
        labels=len(sizes),
        isolated=int((sizes == 1).sum()),
        contradictions=contradictions(labels, camids),
        edges=len(edges),
        right_edges=float(right),
        people=len(pids.unique()),
        precision=hits / shared if shared else float("nan"),
        recall=hits / true if true else float("nan"),
    )


def _pairs(counts: Tensor) -> float:
    return float((counts * (counts - 1)).sum() / 2)
