"""Supervised image re-ID."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.losses import batch_hard_triplet_loss, label_smoothed_cross_entropy
from lightning_reid.modules.reid_module import ReIDModule, classifier_like, new_classifier
from lightning_reid.protocols import LabelledData


class SupervisedReID(ReIDModule):
    """Cross-entropy after the BNNeck, batch-hard triplet before it (Luo et al. 2019, arXiv:1903.07071): the source model of HSR.

    Batch: ``images [B, 3, H, W]`` ImageNet-normalised, ``pids [B]`` in ``0..num_classes-1``.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet`` a step; the scores of :class:`ReIDModule` an epoch.

    Args:
        num_classes: Training identities; ``None`` reads it from the datamodule.
        margin: Margin of the triplet loss; ``None`` is the soft margin.
        label_smoothing: Share of the target probability spread over all identities, in [0, 1).
        options: Arguments of :class:`ReIDModule`.
    """

    def __init__(self, num_classes: int | None = None, margin: float | None = None, label_smoothing: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.classifier: nn.Linear | None = None
        if num_classes is not None:
            self.classifier = new_classifier(self.network.num_features, num_classes)

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit" and self.classifier is None:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, LabelledData):
                raise ValueError("give SupervisedReID num_classes, or fit it on a datamodule that has num_classes")
            self.classifier = new_classifier(self.network.num_features, data.num_classes)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.classifier is None:
            self.classifier = classifier_like(checkpoint)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        assert self.classifier is not None
        output = self.embed(batch["images"])
        ce = label_smoothed_cross_entropy(self.classifier(output.embedding), batch["pids"], self.hparams["label_smoothing"])
        triplet = batch_hard_triplet_loss(
            output.before_bnneck, batch["pids"], margin=self.hparams["margin"], group_size=self.hparams["bn_group"]
        )
        loss = ce + triplet
        self.log_dict({"train/loss": loss, "train/loss_ce": ce, "train/loss_triplet": triplet}, batch_size=len(batch["pids"]))
        return loss
