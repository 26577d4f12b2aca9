"""Learning identities, from images and from clips alike: cross-entropy after the BNNeck, batch-hard triplet loss before it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.losses import batch_hard_triplet_loss, label_smoothed_cross_entropy
from lightning_reid.modules.classifier import built, classifier_like, new_classifier
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.networks import EmbeddingOutput
from lightning_reid.protocols import LabelledData


class IdentityLearning(ReIDModule):
    """What supervised modules share: the classifier, of as many identities as the datamodule has, and the two losses.

    Source: Luo et al. 2019 (arXiv:1903.07071), and NVAN, section 2.2.1 (feature pooling layer).

    A child says how a batch is embedded, sets ``classifier`` (``None`` until the datamodule is known), and has ``margin`` and
    ``label_smoothing`` among its hyperparameters.

    Attributes:
        classifier: ``[num_classes, D]``, without bias.
        mining_group: Triplets are mined in consecutive groups of so many rows; ``None`` for the whole batch of a process.
    """

    classifier: nn.Linear | None
    mining_group: int | None = None

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit" and self.classifier is None:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, LabelledData):
                raise ValueError(f"give {type(self).__name__} num_classes, or fit it on a datamodule that has num_classes")
            self.classifier = new_classifier(self.network.num_features, data.num_classes)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.classifier is None:
            self.classifier = classifier_like(checkpoint)

    def classification_loss(self, batch: dict[str, Tensor], output: EmbeddingOutput) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised beside the triplet loss, and its parts by the names they are logged under."""
        logits = built(self.classifier, self)(output.embedding)
        ce = label_smoothed_cross_entropy(logits, batch["pids"], self.hparams["label_smoothing"])
        return ce, {"train/loss_ce": ce}

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        output, pids = self.embed_batch(batch), batch["pids"]
        classification, parts = self.classification_loss(batch, output)
        triplet = batch_hard_triplet_loss(output.before_bnneck, pids, margin=self.hparams["margin"], group_size=self.mining_group)
        loss = classification + triplet
        self.log_dict({"train/loss": loss, **parts, "train/loss_triplet": triplet}, batch_size=len(pids))
        return loss
