"""A look into the clusters: t-SNE of the embeddings of sampled pseudo-identities."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_path, require_seed
from lightning_reid.callbacks.embedding_pass import require_before, target_data
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.callbacks.refinement import StateRefinement
from lightning_reid.callbacks.target_clustering import TargetClustering
from lightning_reid.files import write_atomically
from lightning_reid.metrics.projection import embedding_map
from lightning_reid.records import TargetState

logger = logging.getLogger(__name__)


class EmbeddingProjector(pl.Callback):
    """Every n iterations, and for the last one, draw sampled clusters by t-SNE: colored by pseudo-label, and by true identity if known.

    A checkpoint carries no embeddings: an iteration that a run was resumed in, and that was not drawn before, is left out with a warning.

    Source: HSR, Fig. 4.4. The clusters drawn are the ones with the lowest pseudo-label numbers after a seeded shuffle.

    Args:
        path: PNG to write, anew each time.
        every_n_iterations: Clusterings between two pictures.
        num_clusters: Clusters drawn.
        max_points: Images drawn at most; t-SNE takes about a second for 300.
        seed: Seed of the choice of clusters and of t-SNE.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import EmbeddingProjector, PseudoLabelClustering
        >>> projector = EmbeddingProjector("clusters.png", every_n_iterations=5)
        >>> trainer = pl.Trainer(accelerator="cpu", callbacks=[PseudoLabelClustering(), projector], logger=False)  # after what clusters
        >>> [type(callback).__name__ for callback in trainer.callbacks[:2]], projector.every_n_iterations
        (['PseudoLabelClustering', 'EmbeddingProjector'], 5)
    """

    def __init__(
        self, path: str | Path = "clusters.png", every_n_iterations: int = 10, num_clusters: int = 12, max_points: int = 400, seed: int = 0
    ) -> None:
        require_count("every_n_iterations", every_n_iterations)
        require_count("num_clusters", num_clusters)
        require_count("max_points", max_points, low=3)
        require_seed("seed", seed)
        require_path("path", path)
        self.path, self.every_n_iterations, self.num_clusters, self.max_points, self.seed = (
            Path(path),
            every_n_iterations,
            num_clusters,
            max_points,
            seed,
        )
        self._drawn_iteration = -1

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            require_before(trainer, self, TargetClustering, optional=(StateRefinement,))

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = target_data(trainer, self).target_state
        if state is not None and state.iteration % self.every_n_iterations == 0:
            self._draw(trainer, state)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = target_data(trainer, self).target_state
        if state is not None:
            self._draw(trainer, state)

    def _draw(self, trainer: pl.Trainer, state: TargetState) -> None:
        if state.iteration == self._drawn_iteration:
            return
        self._drawn_iteration = state.iteration  # on every rank, so that any can resume
        if not trainer.is_global_zero:
            return
        if state.embeddings is None:
            logger.warning(
                "EmbeddingProjector cannot draw iteration %d: the checkpoint that the run went on from does not hold its embeddings",
                state.iteration,
            )
            return
        pids = target_data(trainer, self).ground_truth()
        rows = sampled_cluster_rows(state.labels, self.num_clusters, self.max_points, seed=self.seed)
        if len(rows) < 3:  # t-SNE places at least three points
            return
        colorings = {"pseudo-label": state.labels[rows]} | ({"true identity": pids[rows]} if (pids > 0).any() else {})
        figure = draw_projection(project(state.embeddings[rows], seed=self.seed), colorings, title=f"iteration {state.iteration}")
        write_atomically(self.path, lambda file: figure.savefig(file, dpi=120))
        log_picture(trainer, "cluster/projection", self.path)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"drawn_iteration": self._drawn_iteration}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn_iteration = state_dict["drawn_iteration"]


def sampled_cluster_rows(labels: Tensor, num_clusters: int, max_points: int, *, seed: int) -> Tensor:
    """Rows ``[n <= max_points]`` int64 of the members of ``num_clusters`` clusters chosen by ``seed``; noise is never chosen."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(max(0, int(labels.max()) + 1), generator=generator)[:num_clusters]
    return torch.isin(labels, chosen).nonzero().flatten()[:max_points]


def project(embeddings: Tensor, *, seed: int) -> np.ndarray:
    """t-SNE of ``[n, D]`` embeddings, n at least 3, to ``[n, 2]`` float32."""
    points: np.ndarray = embedding_map(embeddings, method="tsne", seed=seed).numpy()
    return points


def draw_projection(points: np.ndarray, colorings: dict[str, Tensor], *, title: str) -> Figure:
    """Scatter plots of the same ``[n, 2]`` points, one a coloring ``[n]`` int64."""
    figure = Figure(figsize=(5 * len(colorings), 4.6), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(colorings), squeeze=False)[0], colorings.items(), strict=True):
        _, colors = np.unique(values.numpy(), return_inverse=True)
        axes.scatter(points[:, 0], points[:, 1], c=colors, cmap="tab20", s=18)
        axes.set_title(f"{title}: {colors.max() + 1} {name}{'s' if name.endswith('l') else ' groups'}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
