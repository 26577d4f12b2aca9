"""Hard-samples rectification: training on pseudo-labels with an inter-camera triplet loss."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.clustering import cluster_centroids
from lightning_reid.losses import label_smoothed_cross_entropy, masked_weighted_triplet_loss, weighted_triplet_loss
from lightning_reid.modules.classifier import classifier_like, new_classifier
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.protocols import TargetData
from lightning_reid.records import TargetState


class HSR(ImageReIDModule):
    """HSR (hard-samples rectification) for cross-domain unsupervised re-ID: ``L_CE + L_trip + L_ICM`` (section 4.3.4).

    The pseudo-labels come from callbacks through the datamodule's :class:`~lightning_reid.records.TargetState`: with
    ``PseudoLabelClustering`` alone this is the DBSCAN baseline, ``PartBasedHomogeneity`` (PBH) and ``InterCameraMining`` (ICM) make it
    HSR. Start it from a source model: ``hsr.network.load_state_dict(source_model.network.state_dict())``.

    Batch: ``images [B, 3, H, W]``, ``pids [B]`` pseudo-labels in ``0..C-1``; optionally ``icm``, a dict of ``images``, ``anchors``,
    ``positives`` and ``negatives``, which adds ``L_ICM``.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet``, ``train/loss_icm`` a step; the scores of :class:`ReIDModule` an epoch.

    The classifier has a fixed capacity: an iteration with C clusters uses its first C rows, refilled in place, since neither DDP nor an
    optimiser survives a parameter replaced in mid-fit.

    Args:
        max_clusters: Capacity of the classifier; ``None`` is N // ``min_samples`` for N target images.
        min_samples: Smallest cluster DBSCAN makes (only to derive ``max_clusters``).
        classifier_init: ``"centroid"`` fills the rows with the normalised cluster means, ``"random"`` with small noise.
        triplet_form: ``"anchor"``, one softplus an anchor (Ristani & Tomasi 2018), or ``"triple"``, the sum as printed in eq. 4.2.
        label_smoothing: Of the cross-entropy, in [0, 1).
        optimizer: See :class:`ReIDModule`.
        lr: Learning rate (section 4.4.2: 0.005).
        options: Further arguments of :class:`ReIDModule`.
    """

    def __init__(
        self,
        max_clusters: int | None = None,
        min_samples: int = 4,
        classifier_init: Literal["centroid", "random"] = "centroid",
        triplet_form: Literal["anchor", "triple"] = "anchor",
        label_smoothing: float = 0.1,
        optimizer: Literal["sgd", "adam"] = "sgd",
        lr: float = 0.005,
        **options: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr=lr, **options)
        self.classifier: nn.Linear | None = None
        if max_clusters is not None:
            self.classifier = new_classifier(self.network.num_features, max_clusters)
        self.num_clusters, self.filled_iteration = 0, -1

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit" and self.classifier is None:
            num_images = len(self._target_data().target_records)
            self.classifier = new_classifier(self.network.num_features, max(2, num_images // self.hparams["min_samples"]))

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["pseudo_classifier"] = {"num_clusters": self.num_clusters, "filled_iteration": self.filled_iteration}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.classifier is None:
            self.classifier = classifier_like(checkpoint)
        self.num_clusters = checkpoint["pseudo_classifier"]["num_clusters"]
        self.filled_iteration = checkpoint["pseudo_classifier"]["filled_iteration"]

    def _target_data(self) -> TargetData:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TargetData):
            raise ValueError("HSR is fitted on a datamodule that holds pseudo-labels, such as CrossDomainDataModule")
        return data

    @override
    def on_fit_start(self) -> None:
        self._adopt_latest_state()

    @override
    def on_train_epoch_end(self) -> None:
        self._adopt_latest_state()

    def _adopt_latest_state(self) -> None:
        """Refill the classifier when the callbacks, whose hooks run before this one, have published a new state."""
        state = self._target_data().target_state
        if state is None:
            raise RuntimeError("HSR found no pseudo-labels: add PseudoLabelClustering to the Trainer's callbacks")
        if state.iteration != self.filled_iteration:
            self.refill_classifier(state)

    def refill_classifier(self, state: TargetState) -> None:
        """Make the first C rows stand for the C clusters of ``state``, and forget the optimiser's memory of the old ones.

        Raises:
            ValueError: There are more clusters than the classifier has rows.
        """
        assert self.classifier is not None
        capacity = self.classifier.out_features
        if state.num_clusters > capacity:
            raise ValueError(f"iteration {state.iteration} has {state.num_clusters} clusters, but max_clusters={capacity}: raise it")
        # seeded by the iteration: every rank must write the same values, and so must a resumed run
        rows = torch.empty(self.classifier.weight.shape).normal_(std=0.001, generator=torch.Generator().manual_seed(state.iteration))
        if self.hparams["classifier_init"] == "centroid":
            assert state.embeddings is not None
            rows[: state.num_clusters] = cluster_centroids(state.embeddings, state.labels)
        with torch.no_grad():
            self.classifier.weight.copy_(rows)
        for optimizer in self.trainer.optimizers:
            optimizer.state.pop(self.classifier.weight, None)
        self.num_clusters, self.filled_iteration = state.num_clusters, state.iteration

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        assert self.classifier is not None
        options: dict[str, Any] = {"form": self.hparams["triplet_form"]}
        output = self.embed(batch["images"])
        logits = self.classifier(output.embedding)[:, : self.num_clusters]
        ce = label_smoothed_cross_entropy(logits, batch["pids"], self.hparams["label_smoothing"])
        triplet = weighted_triplet_loss(output.before_bnneck, batch["pids"], group_size=self.hparams["bn_group"], **options)
        losses = {"train/loss_ce": ce, "train/loss_triplet": triplet}
        if "icm" in batch:
            icm = batch["icm"]
            mined = self.embed(icm["images"]).before_bnneck
            losses["train/loss_icm"] = masked_weighted_triplet_loss(
                mined, icm["positives"], icm["negatives"], anchors=icm["anchors"], group_size=self.hparams["bn_group"], **options
            )
        loss = torch.stack(list(losses.values())).sum()
        self.log_dict({"train/loss": loss} | losses, batch_size=len(batch["pids"]))
        return loss
