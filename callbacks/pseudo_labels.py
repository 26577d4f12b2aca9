"""Clustering the target images into pseudo-identities between epochs."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks.across_ranks import once_for_all_ranks
from lightning_reid.callbacks.embedding_pass import embed_target, target_data
from lightning_reid.clustering import clustering_agreement, dbscan, eps_from_share, jaccard_distance
from lightning_reid.records import TargetState

logger = logging.getLogger(__name__)


class PseudoLabelClustering(pl.Callback):
    """Every n epochs: one embedding pass over the target images, k-reciprocal Jaccard distance, DBSCAN, publish a ``TargetState``.

    Source: HSR, section 4.3.1, and its specification. With it alone the module trains the DBSCAN baseline. The first clustering happens
    in ``on_fit_start``, before the first batch is drawn; a resumed run keeps the labels it had. An iteration that finds fewer than two
    clusters keeps the previous labels and says so.

    Logs, an epoch, the values of the current iteration: ``cluster/iteration``, ``cluster/num_clusters``, ``cluster/noise_fraction``,
    ``cluster/eps``; where true identities are known also ``cluster/v_measure``, ``cluster/homogeneity``, ``cluster/completeness``.

    Args:
        every_n_epochs: Length of an iteration in epochs (section 4.4.2: 10).
        eps: DBSCAN radius in Jaccard distance, in (0, 1); ``None`` computes it at the first iteration as the mean of the smallest share
            ``rho`` of all pairwise distances and keeps it (SSG's rule, tuned to Market's size).
        rho: That share, in (0, 1).
        min_samples: Smallest neighbourhood, the point included, that makes a core point.
        k1: Length of the neighbour lists.
        k2: Neighbours averaged in query expansion.

    Raises:
        ValueError: An argument is out of range (here).
        RuntimeError: The first clustering finds fewer than two clusters (``on_fit_start``).
    """

    def __init__(
        self, every_n_epochs: int = 10, eps: float | None = 0.6, rho: float = 1.6e-3, min_samples: int = 4, k1: int = 30, k2: int = 6
    ) -> None:
        if every_n_epochs < 1 or min_samples < 1 or k1 < 1 or k2 < 1:
            raise ValueError(
                f"every_n_epochs, min_samples, k1 and k2 must be at least 1, got {every_n_epochs}, {min_samples}, {k1} and {k2}"
            )
        if k2 > k1:
            raise ValueError(f"query expansion averages the first k2 of k1 neighbours, got k1={k1} and k2={k2}")
        if (eps is not None and not 0 < eps < 1) or not 0 < rho < 1:
            raise ValueError(f"eps (or None) and rho must lie between 0 and 1, got {eps} and {rho}")
        self.every_n_epochs, self.eps, self.rho, self.min_samples, self.k1, self.k2 = every_n_epochs, eps, rho, min_samples, k1, k2
        self.with_parts = False
        self.metrics: dict[str, float] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            target_data(trainer, self)
            self.with_parts = any(getattr(callback, "needs_parts", False) for callback in getattr(trainer, "callbacks"))  # noqa: B009

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if target_data(trainer, self).target_state is None:  # a resumed run brought its labels along
            self._cluster(trainer, pl_module)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log_dict(self.metrics, on_step=False, on_epoch=True, batch_size=1)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        finished = trainer.current_epoch + 1
        if finished % self.every_n_epochs == 0 and finished != trainer.max_epochs:
            self._cluster(trainer, pl_module)

    def _cluster(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        data = target_data(trainer, self)
        previous = data.target_state
        embeddings, parts = embed_target(trainer, module, with_parts=self.with_parts)
        labels, self.eps = once_for_all_ranks(trainer, lambda: self._labels(embeddings))
        num_clusters = int(labels.max()) + 1
        if num_clusters < 2:
            self._keep_previous(previous, num_clusters, labels)
            return
        camids = torch.tensor([record.camid for record in data.target_records])
        state = TargetState(0 if previous is None else previous.iteration + 1, labels, camids, embeddings, parts)
        data.set_target_state(state)
        self._report(state, torch.tensor([record.pid for record in data.target_records]))

    def _labels(self, embeddings: Tensor) -> tuple[Tensor, float]:
        if self.eps is None:
            distance = jaccard_distance(embeddings, k1=self.k1, k2=self.k2)
            eps = eps_from_share(distance, rho=self.rho)
        else:  # what lies farther than a known eps need not be stored
            distance, eps = jaccard_distance(embeddings, k1=self.k1, k2=self.k2, max_distance=self.eps), self.eps
        return dbscan(distance, eps=eps, min_samples=self.min_samples), eps

    def _keep_previous(self, previous: TargetState | None, num_clusters: int, labels: Tensor) -> None:
        noise = (labels < 0).float().mean()
        found = f"DBSCAN at eps={self.eps:.3f}, min_samples={self.min_samples} found {num_clusters} cluster(s) and {noise:.0%} noise"
        if previous is not None:
            logger.warning("%s: the labels of iteration %d are kept", found, previous.iteration)
            return
        way_on = "Raise" if num_clusters == 0 else "Lower"
        raise RuntimeError(
            f"{found} among {len(labels)} target images: nothing to train on. {way_on} eps, or start from a better source model"
        )

    def _report(self, state: TargetState, pids: Tensor) -> None:
        agreement = clustering_agreement(state.labels, pids)
        self.metrics = {
            "cluster/iteration": float(state.iteration),
            "cluster/num_clusters": float(state.num_clusters),
            "cluster/noise_fraction": agreement.noise_fraction,
            "cluster/eps": float(self.eps or 0.0),
        }
        if (pids > 0).any():
            self.metrics |= {
                "cluster/v_measure": agreement.v_measure,
                "cluster/homogeneity": agreement.homogeneity,
                "cluster/completeness": agreement.completeness,
            }
        logger.info("iteration %d: %d clusters, %.0f %% noise", state.iteration, state.num_clusters, 100 * agreement.noise_fraction)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"eps": self.eps, "metrics": self.metrics}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.eps, self.metrics = state_dict["eps"], state_dict["metrics"]
