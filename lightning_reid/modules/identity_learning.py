"""Learning identities, from images and from clips alike: cross-entropy after the BNNeck, batch-hard triplet loss before it."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.losses import batch_hard_triplet_loss, label_smoothed_cross_entropy
from lightning_reid.modules.classifier import built, classifier_like, new_classifier
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.networks import EmbeddingOutput
from lightning_reid.protocols import LabelledData, NamedPeople
from lightning_reid.records import TrainedPeople

logger = logging.getLogger(__name__)


class IdentityLearning(ReIDModule):
    """What supervised modules share: the classifier, of as many identities as the datamodule has, and the two losses.

    Source: Luo et al. 2019 (arXiv:1903.07071), and NVAN, section 2.2.1 (feature pooling layer).

    A child says how a batch is embedded, sets ``classifier`` (``None`` until the datamodule is known), and has ``margin`` and
    ``label_smoothing`` among its hyperparameters.

    A checkpoint tells who the classes are. Fitted on other people, a loaded module gets a new classifier, which is said; a fit that is
    resumed on others is refused, and so is one whose validation is on people that the module was trained on.

    Attributes:
        classifier: ``[num_classes, D]``, without bias.
        people: Who its classes are; ``None`` where nobody told.
        mining_group: Triplets are mined in consecutive groups of so many rows; ``None`` for the whole batch of a process.
    """

    classifier: nn.Linear | None
    mining_group: int | None = None
    people: TrainedPeople | None = None
    _fitted_on: TrainedPeople | None = None

    @override
    def setup(self, stage: str) -> None:
        self._fitted_on = None
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, NamedPeople):
            self._fitted_on = data.people
        if self.people is not None and self._fitted_on is not None:
            require_strangers_in_validation(self.people, self._fitted_on)
        if isinstance(data, LabelledData):
            self._fit_classifier(data.num_classes)
        elif self.classifier is None:
            raise ValueError(f"give {type(self).__name__} num_classes, or fit it on a datamodule that has num_classes")
        self.people = self._fitted_on

    def _fit_classifier(self, num_classes: int) -> None:
        before, now = self.people, self._fitted_on
        if self.classifier is not None and before is not None and now is not None and not before.same_classes(now):
            told = (len(before.pids), before.data, len(now.pids), now.data)
            logger.warning("the classifier knew %d people of %s: a new one is made for %d of %s", *told)
            self.classifier = None
        if self.classifier is None:
            self.classifier = new_classifier(self.network.num_features, num_classes)
        if self.classifier.out_features != num_classes:
            raise ValueError(
                f"{type(self).__name__} has a classifier of {self.classifier.out_features} identities, and the datamodule {num_classes}:"
                " leave num_classes out, and the datamodule tells it"
            )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.people is not None:
            checkpoint["people"] = self.people.as_plain()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        theirs = TrainedPeople.of_checkpoint(checkpoint)
        if theirs is not None and self._fitted_on is not None and not theirs.same_classes(self._fitted_on):
            raise ValueError(
                f"the checkpoint was trained on {len(theirs.pids)} people of {theirs.data}, and this fit is on"
                f" {len(self._fitted_on.pids)} of {self._fitted_on.data} who are not the same: resume with the same"
                " data, val_identities and seed, or start a new fit from its weights"
            )
        self.people = theirs
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


def require_strangers_in_validation(trained: TrainedPeople, fitted: TrainedPeople) -> None:
    """Refuse to validate on people that the weights were trained on: what is selected by that is selected on the trained.

    Raises:
        ValueError: There are some.
    """
    known = sorted(set(trained.pids) & set(fitted.held_out)) if trained.data == fitted.data else []
    if known:
        raise ValueError(
            f"{len(known)} of {len(fitted.held_out)} people of {fitted.data} that are held out to validate on are among those that these"
            f" weights were trained on (the first has pid {known[0]}): give the datamodule the val_identities and seed of that training, or"
            " val_identities=0 to validate on the test part"
        )
