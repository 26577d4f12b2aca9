"""Bottom-up clustering: every image is a cluster, and a few clusters merge at each step."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_number, require_switch
from lightning_reid.callbacks.embedding_pass import target_data
from lightning_reid.callbacks.target_clustering import FoundClusters, TargetClustering
from lightning_reid.clustering import dbscan, jaccard_distance, merge_closest_clusters
from lightning_reid.clustering.bottom_up import merges_to_reach
from lightning_reid.clustering.jaccard import require_neighborhood
from lightning_reid.records import LabeledEmbeddings, TargetState

logger = logging.getLogger(__name__)

GIANT_SHARE, GIANT_SIZE = 0.1, 10
"""A cluster is giant that holds more than this share of the images, and more than so many times the mean size."""


class BottomUpClustering(TargetClustering):
    """BUC (Lin et al. 2019): train with every image a cluster, then merge the closest clusters every n epochs and train on.

    Give the Trainer ``max_epochs = initial_epochs + steps * every_n_epochs``; of ``1 / merge_share - 1`` steps the last leaves about as
    many clusters as one takes away. At least two clusters always stay.

    Logs ``cluster/merges`` (clusters that a step takes away) and ``cluster/largest_share`` (of the images, in the largest cluster) beside
    what :class:`TargetClustering` logs. A cluster that holds more than a tenth of the images and ten times the mean is warned of: by
    single linkage one pair of near images joins two people, and whoever is near to either joins them too.

    Args:
        every_n_epochs: Epochs after each merging (the public code: 2 for images).
        initial_epochs: Epochs before the first (the public code: 20).
        merge_share: Clusters that go at a step, as a share of the number of images, in (0, 1).
        num_merges: Their number instead, which a client of a federation is given by its profile.
        profile_steps: Personalized clustering (FedUReID): at the first merging, choose the number so that after so many mergings there are
            as many clusters as DBSCAN finds in the embeddings of that moment; where it finds none or one, ``merge_share`` decides.
        size_penalty: lambda, see ``merge_closest_clusters``.
        eps: DBSCAN radius in Jaccard distance for the profile, in (0, 1).
        min_samples: Smallest neighborhood, the point included, that makes a core point in the profile.
        k1: Length of the profile's neighbor lists; more than a person has images makes people one cluster.
        k2: Neighbors that the profile averages in query expansion, at most k1.
        merge_at_start: Merge at the start of every fit on data that has clusters already, and after no epoch: a federation fits once a
            round.
        portions: Merge in so many portions a step, with the sizes of clusters counted anew before each (ours). With 1, the text's and the
            public code's, sizes are those before the step, so that a chain that grows within a step is not held back by its size.
        size_penalty_images: Number of images for which ``size_penalty`` was chosen (ours): with N images lambda is ``size_penalty *
            size_penalty_images / N``, as a cluster of a set ten times smaller is ten times smaller; the text's 0.003 is for 12,936.
            ``None`` takes lambda as it is.

    Raises:
        ValueError: An argument is out of range (here); a fit goes on from another clustering, which left images out (when it begins).

    Example:
        >>> from lightning_reid.callbacks import BottomUpClustering
        >>> merging = BottomUpClustering(every_n_epochs=2, initial_epochs=4, merge_share=0.05)
        >>> [epoch for epoch in range(1, 11) if merging.is_due(epoch)]  # after which epochs clusters are merged
        [4, 6, 8, 10]
        >>> merging.merges_a_step(num_images=200)
        10
    """

    def __init__(
        self,
        every_n_epochs: int = 2,
        initial_epochs: int = 20,
        merge_share: float = 0.05,
        num_merges: int | None = None,
        profile_steps: int | None = None,
        size_penalty: float = 0.003,
        eps: float = 0.6,
        min_samples: int = 4,
        k1: int = 30,
        k2: int = 6,
        merge_at_start: bool = False,
        portions: int = 1,
        size_penalty_images: int | None = None,
    ) -> None:
        super().__init__(every_n_epochs)
        require_count("initial_epochs", initial_epochs, low=0)
        require_number("merge_share", merge_share, above=0, below=1)
        require_count("num_merges", num_merges, optional=True)
        require_count("profile_steps", profile_steps, optional=True)
        if profile_steps is not None and num_merges is not None:
            raise ValueError(f"give profile_steps or num_merges, got {profile_steps} and {num_merges}: the profile says how many to merge")
        require_number("size_penalty", size_penalty, low=0)
        require_count("portions", portions)
        require_count("size_penalty_images", size_penalty_images, optional=True)
        self.portions, self.size_penalty_images = portions, size_penalty_images
        require_number("eps", eps, above=0, below=1)
        require_count("min_samples", min_samples)
        require_neighborhood(k1, k2)
        require_switch("merge_at_start", merge_at_start)
        self.initial_epochs, self.merge_share, self.num_merges = initial_epochs, merge_share, num_merges
        self.size_penalty, self.merge_at_start = size_penalty, merge_at_start
        self.profile_steps, self.eps, self.min_samples, self.k1, self.k2 = profile_steps, eps, min_samples, k1, k2

    def merges_a_step(self, num_images: int) -> int:
        """How many clusters a step takes away, of so many images."""
        return self.num_merges if self.num_merges is not None else max(1, int(self.merge_share * num_images))

    @override
    def is_due(self, finished_epochs: int) -> bool:
        if self.merge_at_start:
            return False
        return finished_epochs >= max(1, self.initial_epochs) and (finished_epochs - self.initial_epochs) % self.every_n_epochs == 0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin_anew(trainer)
        state = target_data(trainer, self).target_state
        if state is not None and bool((state.labels < 0).any()):
            raise ValueError(
                f"BottomUpClustering merges clusters, and {int((state.labels < 0).sum())} of {len(state.labels)} images are in none of"
                f" iteration {state.iteration}, which another clustering made: resume with that one, or begin a new run from the weights"
            )
        starts_round = self.merge_at_start and trainer.ckpt_path is None  # a resumed fit has merged already
        if state is None or starts_round or (self._left_out and self._goes_on):
            self.cluster(trainer, pl_module)
        self._left_out = False

    @override
    def find_clusters(self, embeddings: Tensor, labeled: LabeledEmbeddings | None, previous: TargetState | None) -> FoundClusters:
        if previous is None:
            return FoundClusters(torch.arange(len(embeddings)))
        profiled = self.profile_steps is not None and self.num_merges is None
        planned = self._profile(embeddings, previous.num_clusters) if profiled else self.merges_a_step(len(embeddings))
        merges = min(planned, max(0, previous.num_clusters - 2))
        labels = self._merged(embeddings, previous.labels, merges)
        return FoundClusters(labels, metrics={"cluster/merges": float(merges), "cluster/largest_share": self._largest_share(labels)})

    def _merged(self, embeddings: Tensor, labels: Tensor, merges: int) -> Tensor:
        """So many fewer clusters, in as many portions as there are merges for."""
        images = self.size_penalty_images
        penalty = self.size_penalty if images is None else self.size_penalty * images / len(embeddings)
        done = 0
        for portion in range(1, self.portions + 1):
            until = merges * portion // self.portions
            if until > done:
                labels, done = merge_closest_clusters(embeddings, labels, until - done, size_penalty=penalty), until
        return labels

    def _largest_share(self, labels: Tensor) -> float:
        """Share of the images in the largest cluster; a giant one is told."""
        sizes = torch.bincount(labels)
        largest, mean = int(sizes.max()), len(labels) / len(sizes)
        if largest > GIANT_SHARE * len(labels) and largest > GIANT_SIZE * mean:
            logger.warning(
                "one cluster of %d holds %d of %d images, the mean is %.1f: merging chains people together. Fewer merges a step"
                " (merge_share), more portions, a larger size_penalty, or size_penalty_images=12936 hold it back",
                len(sizes),
                largest,
                len(labels),
                mean,
            )
        return largest / len(labels)

    def _profile(self, embeddings: Tensor, num_clusters: int) -> int:
        distance = jaccard_distance(embeddings, k1=self.k1, k2=self.k2, max_distance=self.eps)
        expected = int(dbscan(distance, eps=self.eps, min_samples=self.min_samples).max()) + 1
        assert self.profile_steps is not None  # else there is no profile
        if expected < 2:
            logger.warning(
                "the profile finds %d clusters among %d images, which says nothing of how many people there are: merge_share decides;"
                " a smaller k1 or another eps may help",
                expected,
                len(embeddings),
            )
            return self.merges_a_step(len(embeddings))
        return merges_to_reach(num_clusters, expected, self.profile_steps)

    @override
    def settle(self, found: FoundClusters) -> None:
        if self.profile_steps is not None and "cluster/merges" in found.metrics:
            self.num_merges = int(found.metrics["cluster/merges"])

    @override
    def settings_text(self) -> str:
        return "bottom-up clustering"

    @override
    def way_on(self, num_clusters: int) -> str:
        return "Give at least two images"

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"num_merges": self.num_merges}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.num_merges = state_dict["num_merges"]
