"""A classifier of identities, and who they are: what supervised modules of images and of clips share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.losses.classification import require_labels
from lightning_reid.modules.classifier import built, classifier_like, new_classifier
from lightning_reid.modules.refusals import is_being_fitted, require_built_before_copied
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.protocols import LabeledData, NamedPeople
from lightning_reid.records import TrainedPeople

logger = logging.getLogger(__name__)


class IdentityClassifier(ReIDModule):
    """A module with a classifier of as many identities as the datamodule has, which knows who they are.

    A child says how a batch is embedded and what a training step minimizes, and sets ``classifier`` (``None`` until the datamodule is
    known).

    A checkpoint tells who the classes are. Fitted on other people, a loaded module gets a new classifier, which is said; a fit that is
    resumed on others is refused, and so is a validation, within a fit or alone, on people that the module was trained on.

    Attributes:
        classifier: ``[num_classes, D]``, without bias.
        people: Who its classes are; ``None`` where nobody told.
    """

    mines_triplets = True
    can_be_sharded = True
    classifier: nn.Linear | None
    people: TrainedPeople | None = None
    _fitted_on: TrainedPeople | None = None

    @override
    def setup(self, stage: str) -> None:
        self._fitted_on = None
        super().setup(stage)

    @override
    def configure_model(self) -> None:
        """Build the classifier of the people that are to be fitted; callbacks that average weights ask for it before ``setup``."""
        if not is_being_fitted(self):
            return
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, NamedPeople):
            self._fitted_on = data.people
        if self.people is not None and self._fitted_on is not None:
            require_strangers_in_validation(self.people, self._fitted_on)
        if isinstance(data, LabeledData):
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
            self.hparams["num_classes"] = None  # of the people before: a checkpoint would be loaded into their classifier
        if self.classifier is None:
            require_built_before_copied(self.trainer, f"{type(self).__name__} num_classes={num_classes}")
            self.classifier = new_classifier(self.network.num_features, num_classes)
        if self.classifier.out_features != num_classes:
            raise ValueError(
                f"{type(self).__name__} has a classifier of {self.classifier.out_features} identities, and the datamodule {num_classes}:"
                " leave num_classes out, and the datamodule tells it"
            )

    @override
    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if batch_idx == 0:
            require_labels(batch["pids"], built(self.classifier, self).out_features)

    @override
    def on_validation_start(self) -> None:
        """Refuse what a fit refuses too: by now the weights are those that are scored, wherever they came from.

        Raises:
            ValueError: There are people held out to validate on whom the weights were trained on.
        """
        data = getattr(self.trainer, "datamodule", None)
        if self.people is not None and isinstance(data, NamedPeople):
            require_strangers_in_validation(self.people, data.people)

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

    def logits(self, output: EmbeddingOutput) -> Tensor:
        """``[B, num_classes]`` of embeddings after the BNNeck."""
        logits: Tensor = built(self.classifier, self)(output.embedding)
        return logits

    def log_losses(self, loss: Tensor, parts: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """Log ``train/loss`` and ``train/loss_<name>`` of its parts; ``loss``, for a training step to return."""
        named = {f"train/loss_{name}": value for name, value in parts.items()}
        self.log_dict({"train/loss": loss} | named, batch_size=batch_size)
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
