"""Callbacks that refine each newly published ``TargetState``, in list order; the two rectifications of HSR."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import fields, replace
from typing import Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_number, require_seed, require_switch
from lightning_reid.callbacks.across_ranks import once_for_all_ranks
from lightning_reid.callbacks.embedding_pass import require_before, target_data
from lightning_reid.callbacks.target_clustering import TargetClustering
from lightning_reid.clustering import clustering_agreement, inter_camera_pairs, part_based_homogeneity
from lightning_reid.clustering.inter_camera import pair_statistics
from lightning_reid.records import TargetState

logger = logging.getLogger(__name__)


class StateRefinement(pl.Callback, ABC):
    """Refines every state that a clustering publishes, once, on rank 0, for all ranks; its children say how.

    A checkpoint carries no embeddings: one that is added when a run is resumed leaves the iteration it finds as it is, says so, and begins
    with the next clustering. One that is left out at a resume has done its work on the current iteration, and ends with it.

    Attributes:
        needs: Fields of ``TargetState`` that it works on.
    """

    needs: ClassVar[tuple[str, ...]] = ("embeddings",)

    def __init__(self) -> None:
        self.refined_iteration = -1
        self.metrics: dict[str, float] = {}

    @abstractmethod
    def refine(self, state: TargetState, pids: Tensor) -> tuple[TargetState, dict[str, float]]:
        """The refined state, and what to log of it."""

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            require_before(trainer, self, TargetClustering)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refine_latest(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log_dict(self.metrics, on_step=False, on_epoch=True, batch_size=1)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refine_latest(trainer)

    def _refine_latest(self, trainer: pl.Trainer) -> None:
        data = target_data(trainer, self)
        state = data.target_state
        if state is None or state.iteration == self.refined_iteration:
            return
        latest, missing = state, [name for name in self.needs if getattr(state, name) is None]
        self.refined_iteration = state.iteration
        if missing:  # what is clustered in this fit holds them; this state is older
            logger.warning(
                "%s begins with the next clustering: iteration %d, which this fit goes on from, was clustered without it, and does not"
                " hold the %s that it works on",
                type(self).__name__,
                state.iteration,
                " and ".join(missing),
            )
            return
        changed, self.metrics = once_for_all_ranks(trainer, lambda: self._changed_fields(latest, data.ground_truth()))
        data.set_target_state(replace(state, **changed))
        if trainer.is_global_zero:
            self.refined(trainer)

    def refined(self, trainer: pl.Trainer) -> None:
        """Show what was refined; called on rank 0 once the state is published."""

    def _changed_fields(self, state: TargetState, pids: Tensor) -> tuple[dict[str, Any], dict[str, float]]:
        refined, metrics = self.refine(state, pids)
        values = {field.name: getattr(refined, field.name) for field in fields(refined)}
        return {name: value for name, value in values.items() if value is not getattr(state, name)}, metrics

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"refined_iteration": self.refined_iteration, "metrics": self.metrics}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.refined_iteration, self.metrics = state_dict["refined_iteration"], state_dict["metrics"]


class PartBasedHomogeneity(StateRefinement):
    """PBH (part-based homogeneity): split imperfect clusters by 2-means on the upper and on the lower halves (HSR, section 4.3.3).

    Logs ``pbh/num_imperfect``, ``pbh/num_added`` and, where true identities are known, ``pbh/v_measure``, ``pbh/homogeneity``,
    ``pbh/completeness`` of the refined labels; those before are ``cluster/...``.

    Args:
        num_std: A cluster is imperfect when its mean silhouette lies so many standard deviations below the mean of all clusters. With
            ten clusters or fewer nothing can lie 3 standard deviations out.
        seed: Seed of the 2-means starts.

    Example:
        >>> import torch
        >>> from lightning_reid.callbacks import PartBasedHomogeneity
        >>> from lightning_reid.records import TargetState
        >>> parts = torch.tensor([[0.0, 0.0], [0.1, 0.0], [3.0, 3.0], [3.1, 3.0], [9.0, 9.0], [9.1, 9.0]]).unsqueeze(2)
        >>> state = TargetState(0, torch.tensor([0, 0, 0, 0, 1, 1]), torch.arange(6), embeddings=parts.flatten(1), parts=parts)
        >>> refined, metrics = PartBasedHomogeneity(num_std=0.5).refine(state, pids=torch.tensor([1, 1, 2, 2, 3, 3]))
        >>> refined.labels.tolist(), metrics["pbh/num_added"]  # two people had shared a cluster
        ([0, 0, 2, 2, 1, 1], 1.0)
    """

    needs_parts = True
    needs = ("embeddings", "parts")

    def __init__(self, num_std: float = 3.0, seed: int = 0) -> None:
        super().__init__()
        require_number("num_std", num_std, low=0)
        require_seed("seed", seed)
        self.num_std, self.seed = num_std, seed

    @override
    def refine(self, state: TargetState, pids: Tensor) -> tuple[TargetState, dict[str, float]]:
        if state.soft_labels is not None:
            raise ValueError(
                "PartBasedHomogeneity splits clusters, of which soft labels would not know: ask the clustering for hard labels"
            )
        upper, lower = state.embedded_halves.unbind(1)
        result = part_based_homogeneity(state.labels, state.embedded, upper, lower, num_std=self.num_std, seed=self.seed + state.iteration)
        metrics = {"pbh/num_imperfect": float(result.num_imperfect), "pbh/num_added": float(result.num_added)}
        if (pids > 0).any():
            agreement = clustering_agreement(result.labels, pids)
            metrics |= {
                "pbh/v_measure": agreement.v_measure,
                "pbh/homogeneity": agreement.homogeneity,
                "pbh/completeness": agreement.completeness,
            }
        return replace(state, labels=result.labels, exemplars=None), metrics  # they stood for the clusters before


class InterCameraMining(StateRefinement):
    """ICM (inter-camera mining): mutual nearest neighbors across cameras as further positives (HSR, section 4.3.2, Algorithm 1).

    Logs ``icm/num_pairs`` and, where true identities are known, ``icm/precision`` and ``icm/hard_positive_fraction`` of the mutual pairs,
    ``icm/rank_precision`` and ``icm/rank_hard_positive_fraction`` of the rank lists (the thesis' 82 % and 17 %).

    Args:
        k: Length of the rank lists (section 4.4.2: 10).
        with_noise: Whether pairs train of which an end was left without a pseudo-label, by the clustering or by a selection. Algorithm 1
            pairs all images, so that a hard positive that DBSCAN calls noise is pulled near too; leaving such pairs out, the default, is
            ours: of noise section 4.3.1 has no label to learn. Statistics are of all pairs either way.

    Example:
        >>> import torch
        >>> from lightning_reid.callbacks import InterCameraMining
        >>> from lightning_reid.records import TargetState
        >>> embeddings = torch.tensor([[0.0], [1.0], [0.1], [1.1]])  # two people, each in two cameras
        >>> state = TargetState(0, labels=torch.tensor([0, 1, 0, 1]), camids=torch.tensor([1, 1, 2, 2]), embeddings=embeddings)
        >>> refined, metrics = InterCameraMining(k=1).refine(state, pids=torch.tensor([7, 8, 7, 8]))
        >>> refined.neighbors.ranked.flatten().tolist(), metrics["icm/precision"]
        ([2, 3, 0, 1], 1.0)
    """

    needs_whole_network = "has a step embed a second batch"

    def __init__(self, k: int = 10, with_noise: bool = False) -> None:
        super().__init__()
        require_count("k", k)
        require_switch("with_noise", with_noise)
        self.k, self.with_noise = k, with_noise

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        require_before(trainer, self, TargetClustering, optional=(PartBasedHomogeneity,))
        camids = {record.camid for record in target_data(trainer, self).target_records}
        if len(camids) < 2:
            raise ValueError(
                f"InterCameraMining pairs images of different cameras, but all target images have camid {camids}: leave the callback out"
            )

    @override
    def refine(self, state: TargetState, pids: Tensor) -> tuple[TargetState, dict[str, float]]:
        pairs = inter_camera_pairs(state.embedded, state.camids, k=self.k, with_noise=self.with_noise)
        metrics = {"icm/num_pairs": float(pairs.mutual.sum()) / 2}
        if (pids > 0).any():
            statistics = pair_statistics(pairs, state.labels, pids)
            metrics |= {
                "icm/precision": statistics.mutual_precision,
                "icm/hard_positive_fraction": statistics.mutual_hard_positive_fraction,
                "icm/rank_precision": statistics.rank_precision,
                "icm/rank_hard_positive_fraction": statistics.rank_hard_positive_fraction,
            }
        return replace(state, neighbors=pairs), metrics
