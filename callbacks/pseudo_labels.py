"""Clustering the target images by density into pseudo-identities."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_number
from lightning_reid.callbacks.target_clustering import FoundClusters, TargetClustering
from lightning_reid.clustering import dbscan, jaccard_distance
from lightning_reid.clustering.density import eps_from_share
from lightning_reid.clustering.jaccard import require_neighborhood
from lightning_reid.records import LabeledEmbeddings, TargetState


class PseudoLabelClustering(TargetClustering):
    """Every n epochs: one embedding pass over the target images, k-reciprocal Jaccard distance, DBSCAN, publish a ``TargetState``.

    Source: HSR, section 4.3.1, and its specification. With it alone the module trains the DBSCAN baseline.

    Logs ``cluster/eps`` beside what :class:`TargetClustering` logs.

    Args:
        every_n_epochs: Length of an iteration in epochs (section 4.4.2: 10).
        eps: DBSCAN radius in Jaccard distance, in (0, 1); ``None`` computes it at the first iteration as the mean of the smallest share
            ``rho`` of all pairwise distances and keeps it (SSG's rule, tuned to Market's size).
        rho: That share, in (0, 1).
        min_samples: Smallest neighborhood, the point included, that makes a core point.
        k1: Length of the neighbor lists.
        k2: Neighbors averaged in query expansion.

    Raises:
        ValueError: An argument is out of range (here).
        RuntimeError: The first clustering finds fewer than two clusters (``on_fit_start``).

    Example:
        >>> import torch
        >>> from lightning_reid.callbacks import PseudoLabelClustering
        >>> embeddings = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 1, 1])).float()  # two people, three images each
        >>> clustering = PseudoLabelClustering(every_n_epochs=5, eps=0.5, min_samples=2, k1=3, k2=1)
        >>> clustering.find_clusters(embeddings, None, None).labels.tolist()
        [0, 0, 0, 1, 1, 1]
        >>> [epoch for epoch in range(1, 16) if clustering.is_due(epoch)]  # after which epochs it clusters anew
        [5, 10, 15]
    """

    def __init__(
        self, every_n_epochs: int = 10, eps: float | None = 0.6, rho: float = 1.6e-3, min_samples: int = 4, k1: int = 30, k2: int = 6
    ) -> None:
        super().__init__(every_n_epochs)
        require_number("eps", eps, above=0, below=1, optional=True)
        require_number("rho", rho, above=0, below=1)
        require_count("min_samples", min_samples)
        require_neighborhood(k1, k2)
        self.eps, self.rho, self.min_samples, self.k1, self.k2 = eps, rho, min_samples, k1, k2

    @override
    def find_clusters(self, embeddings: Tensor, labeled: LabeledEmbeddings | None, previous: TargetState | None) -> FoundClusters:
        if self.eps is None:
            distance = jaccard_distance(embeddings, k1=self.k1, k2=self.k2)
            eps = eps_from_share(distance, rho=self.rho)
        else:  # what lies farther than a known eps need not be stored
            distance, eps = jaccard_distance(embeddings, k1=self.k1, k2=self.k2, max_distance=self.eps), self.eps
        return FoundClusters(dbscan(distance, eps=eps, min_samples=self.min_samples), metrics={"cluster/eps": eps})

    @override
    def settle(self, found: FoundClusters) -> None:
        self.eps = found.metrics["cluster/eps"]

    @override
    def settings_text(self) -> str:
        return f"DBSCAN at eps={self.eps:.3f}, min_samples={self.min_samples}"

    @override
    def way_on(self, num_clusters: int) -> str:
        return f"{'Raise' if num_clusters == 0 else 'Lower'} eps, or start from a better source model"

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"eps": self.eps}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.eps = state_dict["eps"]
