"""What became of a few clusters from iteration to iteration, as strips of crops."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_path, require_seed
from lightning_reid.callbacks.crop_sheet import NEUTRAL, RIGHT, WRONG, FramedCrop, crops_of, draw_crop_sheet
from lightning_reid.callbacks.embedding_pass import require_before, target_data
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.callbacks.progressive_selection import ProgressiveSelection
from lightning_reid.callbacks.refinement import PartBasedHomogeneity
from lightning_reid.callbacks.target_clustering import TargetClustering
from lightning_reid.clustering.centroids import cluster_medoids
from lightning_reid.files import write_atomically
from lightning_reid.records import TargetState

logger = logging.getLogger(__name__)

FEWEST_MEMBERS = 4
"""Of a cluster that is worth a strip."""


class ClusterStripLogger(pl.Callback):
    """Draws, for a few images, the cluster each is in at every iteration: members by their distance to the exemplar, which comes first.

    Source: SGC-DPL, Fig. 3.6. Green frames show the exemplar's person, red ones somebody else, gray ones nobody knows whom; a dotted line
    ends what ``ProgressiveSelection`` selected. Written as a PNG, and shown in W&B and TensorBoard where those loggers are on.

    Args:
        path: PNG to write, anew after each clustering.
        num_clusters: Images that are followed: exemplars of the first iteration it sees, chosen by ``seed`` among clusters of 4 or more.
        max_images: Members drawn of a cluster, the nearest ones.
        seed: Of the choice.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import AffinityPseudoLabels, ClusterStripLogger
        >>> strips = ClusterStripLogger("strips.png", num_clusters=3)
        >>> trainer = pl.Trainer(accelerator="cpu", callbacks=[AffinityPseudoLabels(), strips], logger=False)  # drawn after what clusters
        >>> [type(callback).__name__ for callback in trainer.callbacks[:2]], strips.num_clusters
        (['AffinityPseudoLabels', 'ClusterStripLogger'], 3)
    """

    def __init__(self, path: str | Path = "strips.png", num_clusters: int = 2, max_images: int = 14, seed: int = 0) -> None:
        require_count("num_clusters", num_clusters)
        require_count("max_images", max_images, low=2)
        require_seed("seed", seed)
        require_path("path", path)
        self.path, self.num_clusters, self.max_images, self.seed = Path(path), num_clusters, max_images, seed
        self.strips: list[dict[str, Any]] = []
        self._seen_iteration = -1

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            require_before(trainer, self, TargetClustering, optional=(PartBasedHomogeneity, ProgressiveSelection))

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        data = target_data(trainer, self)
        state = data.target_state
        if state is None or state.iteration <= self._seen_iteration:
            return
        self._seen_iteration = state.iteration
        if state.embeddings is None:  # added when the run was resumed
            logger.warning(
                "ClusterStripLogger draws from the next clustering on: a checkpoint does not hold the embeddings of iteration %d",
                state.iteration,
            )
            return
        self.strips += cluster_strips(state, self._followed(state), self.max_images)  # on every rank, so that any can resume
        if not trainer.is_global_zero or not self.strips:
            return
        pids, files = data.ground_truth().tolist(), [record.thumbnail for record in data.target_records]
        strips = sorted(self.strips, key=lambda strip: (strip["followed"], strip["iteration"]))
        rows = [[FramedCrop(files[row], _color(pids, row, strip["rows"][0])) for row in strip["rows"]] for strip in strips]
        names = [f"iteration {strip['iteration']}: {strip['selected']} of {strip['size']} selected" for strip in strips]
        cuts = [strip["selected"] for strip in strips]
        picture = draw_crop_sheet(rows, ["exemplar"], cuts=cuts, names=names, height=96, width=48, open_crop=crops_of(trainer))
        write_atomically(self.path, picture.save)
        log_picture(trainer, "cluster/strips", self.path)

    def _followed(self, state: TargetState) -> list[int]:
        if self.strips:
            return sorted({strip["followed"] for strip in self.strips})
        exemplars = _exemplars(state)
        sizes = nearest_exemplar(state.embedded, exemplars).bincount(minlength=len(exemplars))
        large = exemplars[sizes >= FEWEST_MEMBERS]
        order = torch.randperm(len(large), generator=torch.Generator().manual_seed(self.seed))
        return large[order[: self.num_clusters]].tolist()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"strips": self.strips, "seen_iteration": self._seen_iteration}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.strips, self._seen_iteration = state_dict["strips"], state_dict["seen_iteration"]


def cluster_strips(state: TargetState, followed: list[int], max_images: int) -> list[dict[str, Any]]:
    """The cluster of every followed image: ``rows`` of the nearest members, the exemplar first, how many are selected, of how many."""
    embeddings, exemplars = state.embedded, _exemplars(state)
    joined, strips = nearest_exemplar(embeddings, exemplars), []
    for image in followed:
        exemplar = exemplars[joined[image]]
        members = (joined == joined[image]).nonzero().flatten()
        distances = (embeddings[members] - embeddings[exemplar]).square().sum(1)
        distances[members == exemplar] = -1.0
        rows = members[distances.argsort(stable=True)]
        strips.append(
            {
                "iteration": state.iteration,
                "followed": image,
                "rows": rows[:max_images].tolist(),
                "selected": int((state.labels[rows] >= 0).sum()),
                "size": len(rows),
            }
        )
    return strips


def nearest_exemplar(embeddings: Tensor, exemplars: Tensor) -> Tensor:
    """``[N]`` int64, which of ``exemplars [C]`` each of ``[N, D]`` embeddings joins, selected or not."""
    joined = torch.cat([torch.cdist(part, embeddings[exemplars]).argmin(1) for part in embeddings.split(4096)])
    joined[exemplars] = torch.arange(len(exemplars))
    return joined


def _exemplars(state: TargetState) -> Tensor:
    return cluster_medoids(state.embedded, state.labels) if state.exemplars is None else state.exemplars


def _color(pids: list[int], row: int, exemplar: int) -> tuple[int, int, int]:
    if pids[row] <= 0 or pids[exemplar] <= 0:
        return NEUTRAL
    return RIGHT if pids[row] == pids[exemplar] else WRONG
