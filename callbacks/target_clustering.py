"""When the target images are clustered, and what happens with the clusters; how they are found is said by its children."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.callbacks.across_ranks import once_for_all_ranks
from lightning_reid.callbacks.embedding_pass import embed_target, guiding_embeddings, target_data
from lightning_reid.callbacks.epoch_ends import goes_on, require_ended_epoch
from lightning_reid.clustering import clustering_agreement
from lightning_reid.protocols import PartlyLabeledData
from lightning_reid.records import AT_TEST_TIME, EmbeddingSpace, LabeledEmbeddings, TargetState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundClusters:
    """What a clustering found; the first three fields become those of ``TargetState``, ``metrics`` are logged as they are named."""

    labels: Tensor
    exemplars: Tensor | None = None
    soft_labels: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)


class TargetClustering(pl.Callback, ABC):
    """Every n epochs: one embedding pass over the target images, cluster them, publish a ``TargetState``.

    The first clustering happens in ``on_fit_start``, before the first batch is drawn; a resumed run keeps the labels it had. Rank 0
    clusters for all. An iteration that finds fewer than two clusters keeps the previous labels and says so; the first one must not.

    Logs, an epoch, the values of the current iteration: ``cluster/iteration``, ``cluster/num_clusters``, ``cluster/noise_fraction``, what a
    child adds, and where true identities are known ``cluster/v_measure``, ``cluster/homogeneity``, ``cluster/completeness``,
    ``cluster/num_identities``.

    Attributes:
        space: Which embeddings are clustered.
        needs_labeled: Whether labeled images are embedded beside the target ones, which any later callback may ask for too.
        metrics: What is logged of the current iteration.
    """

    needs_labeled = False

    def __init__(self, every_n_epochs: int, space: EmbeddingSpace = AT_TEST_TIME) -> None:
        require_count("every_n_epochs", every_n_epochs)
        self.every_n_epochs, self.space = every_n_epochs, space
        self.metrics: dict[str, float] = {}
        self.finished_epochs: int | None = None
        self._left_out, self._goes_on = False, True
        self._with_parts = self._with_labeled = False

    @abstractmethod
    def find_clusters(self, embeddings: Tensor, labeled: LabeledEmbeddings | None, previous: TargetState | None) -> FoundClusters:
        """Cluster ``[N, D]`` embeddings, ``previous`` being what was believed before; called on rank 0 alone."""

    def is_due(self, finished_epochs: int) -> bool:
        """Whether to cluster after so many epochs."""
        return finished_epochs % self.every_n_epochs == 0

    def settle(self, found: FoundClusters) -> None:
        """Keep what later iterations need of this one; called on every rank."""

    @abstractmethod
    def settings_text(self) -> str:
        """Which algorithm found what is reported, with its settings."""

    @abstractmethod
    def way_on(self, num_clusters: int) -> str:
        """What to change where the first clustering found ``num_clusters``, fewer than two."""

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data = target_data(trainer, self)
        callbacks: list[pl.Callback] = list(getattr(trainer, "callbacks"))  # noqa: B009  (the attribute is set dynamically)
        self._with_parts = any(getattr(callback, "needs_parts", False) for callback in callbacks)
        asking = [type(callback).__name__ for callback in callbacks if getattr(callback, "needs_labeled", False)]
        self._with_labeled = bool(asking)
        if asking and not isinstance(data, PartlyLabeledData):
            raise ValueError(
                f"{asking[0]} is guided by labeled images of the same cameras: it wants a datamodule that holds some, such as"
                f" SemiSupervisedDataModule, got {type(data).__name__}"
            )

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say what a refinement leaves behind that is in the checkpoint and no longer among the callbacks."""
        self._goes_on = goes_on(trainer, checkpoint)
        callbacks: list[pl.Callback] = list(getattr(trainer, "callbacks"))  # noqa: B009  (the attribute is set dynamically)
        present = {callback.state_key for callback in callbacks}
        for gone, state in checkpoint["callbacks"].items():
            iteration = state.get("refined_iteration", -1)
            if trainer.state.fn == "fit" and gone not in present and iteration >= 0:
                logger.warning("%s is left out from now on: what it made of iteration %d stays until the next clustering", gone, iteration)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin_anew(trainer)
        # a resumed run brought its labels along, but for those of a clustering that was left out since it seemed to be over
        if target_data(trainer, self).target_state is None or (self._left_out and self._goes_on):
            self.cluster(trainer, pl_module)
        self._left_out = False

    def begin_anew(self, trainer: pl.Trainer) -> None:
        """Forget what another fit has believed of these images: this callback, which has clustered nothing, begins with nothing."""
        data = target_data(trainer, self)
        if trainer.ckpt_path is not None or self.metrics or data.target_state is None:
            return
        logger.warning("what an earlier fit believed of the target images, in its iteration %d, is forgotten", data.target_state.iteration)
        data.forget_target_state()
        callbacks: list[pl.Callback] = list(getattr(trainer, "callbacks"))  # noqa: B009  (the attribute is set dynamically)
        for callback in callbacks:
            if hasattr(callback, "refined_iteration"):  # iterations are counted anew
                callback.refined_iteration = -1

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        require_ended_epoch(trainer, self, self.finished_epochs)
        if trainer.ckpt_path is None:
            self.finished_epochs = 0

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log_dict(self.metrics, on_step=False, on_epoch=True, batch_size=1)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        finished = self.finished_epochs = trainer.current_epoch + 1
        self._left_out = self.is_due(finished) and finished == trainer.max_epochs
        if self.is_due(finished) and not self._left_out:
            self.cluster(trainer, pl_module)

    def cluster(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Embed, cluster, publish; called on every rank."""
        data = target_data(trainer, self)
        previous = data.target_state
        embeddings, parts = embed_target(trainer, module, self.space, with_parts=self._with_parts)
        if self._with_parts and parts is None:
            raise ValueError(
                f"a callback works on upper and lower halves, of which {type(module).__name__}.embed(with_parts=True) gives none"
            )
        labeled = None
        if self._with_labeled:
            assert isinstance(data, PartlyLabeledData)  # setup has looked
            labeled = guiding_embeddings(trainer, module, data, self.space, embeddings)
        found = once_for_all_ranks(trainer, lambda: self.find_clusters(embeddings, labeled, previous))
        self.settle(found)
        num_clusters = int(found.labels.max()) + 1
        if num_clusters < 2:
            self._keep_previous(previous, num_clusters, found.labels)
            return
        state = TargetState(
            iteration=0 if previous is None else previous.iteration + 1,
            labels=found.labels,
            camids=torch.tensor([record.camid for record in data.target_records]),
            embeddings=embeddings,
            parts=parts,
            exemplars=found.exemplars,
            soft_labels=found.soft_labels,
            labeled=labeled,
            space=self.space,
        )
        data.set_target_state(state)
        self.report(trainer, state, found.metrics)

    def _keep_previous(self, previous: TargetState | None, num_clusters: int, labels: Tensor) -> None:
        noise = (labels < 0).float().mean()
        found = f"{self.settings_text()} found {num_clusters} cluster(s) and {noise:.0%} noise"
        if previous is not None:
            logger.warning("%s: the labels of iteration %d are kept", found, previous.iteration)
            return
        raise RuntimeError(f"{found} among {len(labels)} target images: nothing to train on. {self.way_on(num_clusters)}")

    def report(self, trainer: pl.Trainer, state: TargetState, more: dict[str, float]) -> None:
        """Keep what is logged of a new state, ``more`` included; called on every rank."""
        pids = target_data(trainer, self).ground_truth()
        agreement = clustering_agreement(state.labels, pids)
        self.metrics = {
            "cluster/iteration": float(state.iteration),
            "cluster/num_clusters": float(state.num_clusters),
            "cluster/noise_fraction": agreement.noise_fraction,
        } | more
        if (pids > 0).any():
            self.metrics |= {
                "cluster/v_measure": agreement.v_measure,
                "cluster/homogeneity": agreement.homogeneity,
                "cluster/completeness": agreement.completeness,
                "cluster/num_identities": float(len(pids[pids > 0].unique())),
            }
        logger.info("iteration %d: %d clusters, %.0f %% noise", state.iteration, state.num_clusters, 100 * agreement.noise_fraction)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "finished_epochs": self.finished_epochs, "left_out": self._left_out}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics, self.finished_epochs = state_dict["metrics"], state_dict.get("finished_epochs")
        self._left_out = state_dict.get("left_out", False)
