"""Supervised image re-ID."""

from __future__ import annotations

from typing import Any

from lightning_reid.modules.classifier import new_classifier
from lightning_reid.modules.identity_learning import IdentityLearning
from lightning_reid.modules.image_module import ImageReIDModule


class SupervisedReID(IdentityLearning, ImageReIDModule):
    """Cross-entropy after the BNNeck, batch-hard triplet before it (Luo et al. 2019, arXiv:1903.07071): the source model of HSR.

    Batch: ``images [B, 3, H, W]`` ImageNet-normalised, ``pids [B]`` in ``0..num_classes-1``.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet`` a step; the scores of :class:`ReIDModule` an epoch.

    Args:
        num_classes: Training identities; ``None`` reads it from the datamodule.
        margin: Margin of the triplet loss; ``None`` is the soft margin.
        label_smoothing: Share of the target probability spread over all identities, in [0, 1).
        options: Arguments of :class:`ImageReIDModule`.
    """

    def __init__(self, num_classes: int | None = None, margin: float | None = None, label_smoothing: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.classifier = None if num_classes is None else new_classifier(self.network.num_features, num_classes)
        self.mining_group = self.hparams["bn_group"]
