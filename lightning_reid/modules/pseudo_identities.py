"""Learning pseudo-identities: a classifier whose rows change their meaning with every clustering, never their number."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_choice
from lightning_reid.clustering.centroids import cluster_centroids, cluster_means
from lightning_reid.modules.classifier import built, classifier_like
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.saved_parts import saved_part
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.protocols import TargetData
from lightning_reid.records import TargetState

ClassifierInit = Literal["centroid", "random"]


class PseudoIdentityLearning(ImageReIDModule):
    """What modules that learn from clusters share: they adapt themselves to each newly published ``TargetState``.

    The classifier has a fixed capacity, since neither DDP nor an optimizer survives a parameter replaced in mid-fit: an iteration with C
    clusters uses ``num_fixed + C`` rows, of which the first ``num_fixed`` stand for labeled identities and are kept, and the others are
    refilled in place.

    Args:
        classifier_init: ``"centroid"`` fills rows with the normalized cluster means, ``"random"`` with small noise.
        options: Arguments of :class:`ImageReIDModule`.

    Attributes:
        classifier: ``[num_fixed + capacity, D]``, without bias; ``None`` until the datamodule is known.
        num_fixed: Rows that are never refilled.
        num_clusters: C of the iteration the rows stand for.
    """

    mines_triplets = True

    def __init__(self, classifier_init: ClassifierInit = "centroid", **options: Any) -> None:
        require_choice("classifier_init", classifier_init, get_args(ClassifierInit))
        super().__init__(**options)
        self.classifier: nn.Linear | None = None
        self.num_fixed, self.num_clusters, self.filled_iteration = 0, 0, -1
        self._refilled = False

    @property
    def num_used(self) -> int:
        """Rows of the classifier that stand for somebody."""
        return self.num_fixed + self.num_clusters

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        names = ("num_fixed", "num_clusters", "filled_iteration")
        checkpoint["pseudo_classifier"] = {name: getattr(self, name) for name in names}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.classifier is None:
            self.classifier = classifier_like(checkpoint)
        saved = saved_part(checkpoint, "pseudo_classifier", dict.fromkeys(("num_fixed", "num_clusters", "filled_iteration"), int))
        self.num_fixed, self.num_clusters, self.filled_iteration = saved["num_fixed"], saved["num_clusters"], saved["filled_iteration"]

    def target_data(self) -> TargetData:
        """The datamodule, which holds what is believed of the target images.

        Raises:
            ValueError: It does not.
        """
        return fitted_target_data(self)

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.trainer.ckpt_path is None:
            self.filled_iteration = -1  # iterations may be counted anew
        before = self.filled_iteration
        self.adopt_latest_state()
        self._refilled = self.filled_iteration != before

    @override
    def on_train_start(self) -> None:
        super().on_train_start()
        if self._refilled:  # a resumed fit got its optimizer's memory back since
            self._forget_old_rows()

    @override
    def on_train_epoch_end(self) -> None:
        self.adopt_latest_state()

    def adopt_latest_state(self) -> None:
        """Refill the classifier when the callbacks, whose hooks run before this one, have published a new state."""
        state = self.target_data().target_state
        if state is not None and state.iteration != self.filled_iteration:
            self.refill_classifier(state)

    def refill_classifier(self, state: TargetState) -> None:
        """Make the C rows after the fixed ones stand for the C clusters of ``state``, and forget the optimizer's memory of the old ones.

        Raises:
            ValueError: There are more clusters than the classifier has rows.
        """
        classifier = built(self.classifier, self)
        capacity = classifier.out_features - self.num_fixed
        if state.num_clusters > capacity:
            raise ValueError(f"iteration {state.iteration} has {state.num_clusters} clusters, but max_clusters={capacity}: raise it")
        # seeded by the iteration: every rank must write the same values, and so must a resumed run
        generator = torch.Generator().manual_seed(state.iteration)
        rows = torch.empty(capacity, classifier.in_features).normal_(std=0.001, generator=generator)
        with torch.no_grad():
            if self.hparams["classifier_init"] == "centroid":
                rows[: state.num_clusters] = self.cluster_rows(state)
            classifier.weight[self.num_fixed :] = rows
        self._forget_old_rows()
        self.num_clusters, self.filled_iteration = state.num_clusters, state.iteration

    def _forget_old_rows(self) -> None:
        for optimizer in self.trainer.optimizers:
            optimizer.state.pop(built(self.classifier, self).weight, None)

    def cluster_rows(self, state: TargetState) -> Tensor:
        """``[C, D]`` normalized cluster means where the classifier sees them: after the BNNeck, which is affine at test time."""
        if not state.space.before_neck:
            return cluster_centroids(state.embedded, state.labels, state.num_clusters)
        means, neck = cluster_means(state.embedded, state.labels, state.num_clusters).to(self.device), self.network.neck
        with evaluating(neck):
            return F.normalize(neck(means), dim=1)


def fitted_target_data(module: pl.LightningModule) -> TargetData:
    """The datamodule that a module is fitted on, which holds what is believed of the target images.

    Raises:
        ValueError: It does not.
    """
    data = getattr(module.trainer, "datamodule", None)
    if not isinstance(data, TargetData):
        raise ValueError(f"{type(module).__name__} is fitted on a datamodule that holds pseudo-labels, got {type(data).__name__}")
    return data
