"""Bottom-up clustering: every image is a cluster, and a few clusters merge at each step."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks.embedding_pass import target_data
from lightning_reid.callbacks.target_clustering import FoundClusters, TargetClustering
from lightning_reid.clustering import merge_closest_clusters
from lightning_reid.records import LabeledEmbeddings, TargetState


class BottomUpClustering(TargetClustering):
    """BUC (Lin et al. 2019): train with every image a cluster, then merge the closest clusters every n epochs and train on.

    Give the Trainer ``max_epochs = initial_epochs + steps * every_n_epochs``; of ``1 / merge_share - 1`` steps the last leaves about as
    many clusters as one takes away. At least two clusters always stay.

    Logs what :class:`TargetClustering` logs.

    Args:
        every_n_epochs: Epochs after each merging (the public code: 2 for images).
        initial_epochs: Epochs before the first (the public code: 20).
        merge_share: Clusters that go at a step, as a share of the number of images, in (0, 1).
        num_merges: Their number instead, which a client of a federation is given by its profile.
        size_penalty: lambda, see ``merge_closest_clusters``.
        merge_at_start: Merge also at the start of a fit on data that has clusters already: a federation fits once a round.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        every_n_epochs: int = 2,
        initial_epochs: int = 20,
        merge_share: float = 0.05,
        num_merges: int | None = None,
        size_penalty: float = 0.003,
        merge_at_start: bool = False,
    ) -> None:
        super().__init__(every_n_epochs)
        if initial_epochs < 0 or not 0 < merge_share < 1 or size_penalty < 0 or (num_merges is not None and num_merges < 1):
            raise ValueError(
                "need initial_epochs and size_penalty of at least 0, merge_share in (0, 1) and num_merges of at least 1, got"
                f" {initial_epochs}, {size_penalty}, {merge_share} and {num_merges}"
            )
        self.initial_epochs, self.merge_share, self.num_merges = initial_epochs, merge_share, num_merges
        self.size_penalty, self.merge_at_start = size_penalty, merge_at_start

    def merges_a_step(self, num_images: int) -> int:
        """Clusters that go at a step."""
        return self.num_merges if self.num_merges is not None else max(1, int(self.merge_share * num_images))

    @override
    def is_due(self, finished_epochs: int) -> bool:
        return finished_epochs >= max(1, self.initial_epochs) and (finished_epochs - self.initial_epochs) % self.every_n_epochs == 0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        begun = target_data(trainer, self).target_state is not None
        if not begun or (self.merge_at_start and trainer.ckpt_path is None):  # a resumed fit has merged already
            self.cluster(trainer, pl_module)

    @override
    def find_clusters(self, embeddings: Tensor, labeled: LabeledEmbeddings | None, previous: TargetState | None) -> FoundClusters:
        if previous is None:
            return FoundClusters(torch.arange(len(embeddings)))
        merges = min(self.merges_a_step(len(embeddings)), max(0, previous.num_clusters - 2))
        return FoundClusters(merge_closest_clusters(embeddings, previous.labels, merges, size_penalty=self.size_penalty))

    @override
    def settings_text(self) -> str:
        return "bottom-up clustering"

    @override
    def way_on(self, num_clusters: int) -> str:
        return "Give at least two images"
