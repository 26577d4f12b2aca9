"""Progressive learning: the pseudo-labels near their exemplar first, the others later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_path
from lightning_reid.callbacks.embedding_pass import require_before, target_data
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.callbacks.refinement import InterCameraMining, PartBasedHomogeneity, StateRefinement
from lightning_reid.callbacks.threshold_picture import draw_threshold
from lightning_reid.clustering.centroids import cluster_medoids
from lightning_reid.files import write_atomically
from lightning_reid.protocols import PartlyLabeledData
from lightning_reid.records import TargetState
from lightning_reid.selection import distance_threshold, reliable_images
from lightning_reid.selection.distance_threshold import DistanceThreshold
from lightning_reid.selection.exemplar_threshold import exemplar_threshold
from lightning_reid.selection.precision import precision_of_nearest, selection_precision

logger = logging.getLogger(__name__)

ThresholdFrom = Literal["pairs", "exemplars"]

WAYS_ON: Mapping[ThresholdFrom, str] = MappingProxyType(
    {
        "pairs": "Pairs of labeled images lie further apart than images from their exemplars: give labeled_quantile, or"
        " threshold_from='exemplars'",
        "exemplars": "Hardly a guide has a wrong exemplar: leave the selection out",
    }
)
EVERYTHING = 0.99
"""Share of the images that are selected from which on it is said that all are."""
NEAREST = (0.25, 0.5, 0.75, 1.0)
"""Shares of the images, nearest to their exemplar first, whose precision is logged."""


class ProgressiveSelection(StateRefinement):
    """Keeps the pseudo-labels of images within tau of their exemplar, ``tau = tau_l + step * iteration``; the others become -1.

    Source: SGC-DPL, section 3.3.6, eq. 3.4. tau_l is read off the labeled images of each iteration: where the histogram of positive-pair
    distances crosses that of negative pairs. It follows a clustering, whose exemplars it takes; where there are none (DBSCAN, PBH), a
    cluster's member nearest to its mean. Distances are squared and in the space that was clustered, so the step is too.

    Logs ``select/threshold`` (tau), ``select/labeled_threshold`` (tau_l), ``select/labeled_error`` (share of labeled pairs that tau_l
    assigns wrongly, 0.5 is chance), ``select/fraction`` of the target images and, where true identities are known, ``select/precision``
    of the selected images that are no exemplars, and ``select/precision_25%``, ``_50%``, ``_75%``, ``_100%``, what it would be with a tau
    that selects so many of them. Where nearly all images are selected at once, selection is not progressive, which is warned of.

    Args:
        step: Growth of tau an iteration, a squared distance, not negative (the text: 1); infinity selects everything from the second
            iteration on.
        num_bins: Of the histograms.
        labeled_quantile: ``None`` takes the crossing of the histograms as tau_l, as the text does; a share in (0, 1) the squared distance
            below which that share of the labeled positive pairs lies (ours), for histograms that do not touch: labeled images that were
            trained on lie together, and the crossing anywhere in the gap.
        threshold_from: What tau_l is read off: ``"pairs"`` of labeled images, as in the text, or their distances to their ``"exemplars"``
            (ours), right ones and wrong ones, which wants labeled people among the clustered images (``SemiSupervisedDataModule(guides=)``)
            and no ``labeled_quantile``. Distances to exemplars are what tau is compared with, and smaller than those of pairs.
        picture: PNG to write of the histograms and tau, which W&B and TensorBoard show too (Fig. 3.3); ``None`` for none.

    Attributes:
        threshold: tau_l and its histograms of the latest selection; ``None`` before the first one, after a restart, and on ranks but 0.

    Example:
        >>> import torch
        >>> from lightning_reid.callbacks import ProgressiveSelection
        >>> from lightning_reid.records import LabeledEmbeddings, TargetState
        >>> labeled = LabeledEmbeddings(torch.tensor([[0.0], [1.0], [8.0], [9.0]]), pids=torch.tensor([0, 0, 1, 1]))
        >>> embeddings, exemplars = torch.tensor([[0.0], [0.5], [7.0]]), torch.tensor([0])
        >>> state = TargetState(0, torch.zeros(3).long(), torch.arange(3), embeddings=embeddings, exemplars=exemplars, labeled=labeled)
        >>> refined, metrics = ProgressiveSelection(step=1.0).refine(state, pids=torch.tensor([1, 1, 2]))
        >>> refined.labels.tolist()  # labeled images of one person are 1 apart, of two people 7 and more
        [0, 0, -1]
    """

    needs_labeled = True
    needs = ("embeddings", "labeled")

    def __init__(
        self,
        step: float = 1.0,
        num_bins: int = 1000,
        picture: str | None = None,
        labeled_quantile: float | None = None,
        threshold_from: ThresholdFrom = "pairs",
    ) -> None:
        super().__init__()
        require_number("step", step, low=0)
        require_count("num_bins", num_bins, low=2)
        require_path("picture", picture, optional=True)
        require_number("labeled_quantile", labeled_quantile, above=0, below=1, optional=True)
        require_choice("threshold_from", threshold_from, get_args(ThresholdFrom))
        if threshold_from == "exemplars" and labeled_quantile is not None:
            raise ValueError(
                f"labeled_quantile={labeled_quantile} is one of pairs of labeled images, which threshold_from='exemplars' does not look at:"
                " give one of the two"
            )
        self.labeled_quantile, self.threshold_from = labeled_quantile, threshold_from
        self.step, self.num_bins, self.picture = step, num_bins, None if picture is None else Path(picture)
        self.threshold: DistanceThreshold | None = None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            require_before(trainer, self, optional=(PartBasedHomogeneity, InterCameraMining))
            data = target_data(trainer, self)
            if self.threshold_from == "exemplars" and isinstance(data, PartlyLabeledData) and not len(data.guide_pids):
                raise ValueError(
                    "ProgressiveSelection(threshold_from='exemplars') wants labeled people among the clustered images: give guides= to"
                    " SemiSupervisedDataModule"
                )

    @override
    def refine(self, state: TargetState, pids: Tensor) -> tuple[TargetState, dict[str, float]]:
        embeddings = state.embedded
        exemplars = cluster_medoids(embeddings, state.labels) if state.exemplars is None else state.exemplars
        self.threshold = self._labeled_threshold(state, exemplars)
        tau = self.threshold.value + (self.step * state.iteration if state.iteration else 0.0)
        reliable = reliable_images(embeddings, state.labels, exemplars, tau)
        fraction = reliable.double().mean().item()
        if fraction >= EVERYTHING and not state.iteration:
            logger.warning(
                "%.2f %% of the images are selected in the first iteration already, within tau = %.4g of their exemplars: nothing is left"
                " to be selected progressively. %s",
                100 * fraction,
                tau,
                WAYS_ON[self.threshold_from],
            )
        elif not fraction:
            logger.warning("no image is selected: none lies within tau = %.4g of its exemplar", tau)
        metrics = {
            "select/threshold": tau,
            "select/labeled_threshold": self.threshold.value,
            "select/labeled_error": self.threshold.error,
            "select/fraction": fraction,
        }
        if (pids > 0).any():
            metrics["select/precision"] = selection_precision(reliable, state.labels, exemplars, pids)
            _, precisions = precision_of_nearest(embeddings, state.labels, exemplars, pids, NEAREST)
            metrics |= {f"select/precision_{share:.0%}": value for share, value in zip(NEAREST, precisions)}
        return replace(state, labels=torch.where(reliable, state.labels, -1), exemplars=exemplars), metrics

    def _labeled_threshold(self, state: TargetState, exemplars: Tensor) -> DistanceThreshold:
        """tau_l, and the histograms that it was read off."""
        labeled = state.embedded_labeled
        if self.threshold_from == "exemplars":
            if not labeled.among_target:
                raise ValueError("threshold_from='exemplars' wants labeled people among the clustered images, and these are not")
            return exemplar_threshold(state.embedded, state.labels, exemplars, labeled.pids, num_bins=self.num_bins)
        return distance_threshold(labeled.embeddings, labeled.pids, num_bins=self.num_bins, quantile=self.labeled_quantile)

    @override
    def refined(self, trainer: pl.Trainer) -> None:
        if self.picture is None or self.threshold is None:
            return
        figure = draw_threshold(self.threshold, tau=self.metrics["select/threshold"])
        write_atomically(self.picture, lambda file: figure.savefig(file, dpi=120))
        log_picture(trainer, "select/distances", self.picture)
