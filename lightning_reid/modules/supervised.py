"""Supervised image re-ID: a module over images that learns identities."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_number
from lightning_reid.losses import identity_losses
from lightning_reid.modules.classifier import new_classifier
from lightning_reid.modules.identity_classifier import IdentityClassifier
from lightning_reid.modules.image_module import ImageReIDModule


class SupervisedReID(IdentityClassifier, ImageReIDModule):
    """Cross-entropy after the BNNeck, batch-hard triplet before it (Luo et al. 2019, arXiv:1903.07071): the source model of HSR.

    Batch: ``images [B, 3, H, W]`` ImageNet-normalized, ``pids [B]`` in ``0..num_classes-1``.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet`` a step; the scores of :class:`ReIDModule` an epoch.

    Args:
        num_classes: Training identities; ``None`` reads it from the datamodule.
        margin: Margin of the triplet loss; ``None`` is the soft margin.
        label_smoothing: Share of the target probability spread over all identities, in [0, 1).
        options: Arguments of :class:`ImageReIDModule`.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import SupervisedReID
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = SupervisedReID(num_classes=4, **tiny).eval()
        >>> images = torch.rand(2, 3, 64, 32)
        >>> model(images).shape, model.logits(model.embed(images)).shape
        (torch.Size([2, 16]), torch.Size([2, 4]))
    """

    one_pass_a_step = True

    def __init__(self, num_classes: int | None = None, margin: float | None = None, label_smoothing: float = 0.1, **options: Any) -> None:
        require_count("num_classes", num_classes, optional=True)
        require_number("margin", margin, low=0, optional=True)
        require_number("label_smoothing", label_smoothing, low=0, below=1)
        super().__init__(**options)
        self.classifier = None if num_classes is None else new_classifier(self.network.num_features, num_classes)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        output, options = self.embed_batch(batch), {name: self.hparams[name] for name in ("label_smoothing", "margin")}
        group = self.hparams["bn_group"]
        losses = identity_losses(self.logits(output), output.before_bnneck, batch["pids"], group_size=group, **options)
        return self.log_losses(losses.ce + losses.triplet, losses._asdict(), len(batch["pids"]))
