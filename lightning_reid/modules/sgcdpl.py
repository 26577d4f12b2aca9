"""Semi-supervised re-ID: labeled identities, and the clusters of unlabeled images of others."""

from __future__ import annotations

import copy
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number
from lightning_reid.losses import augmented_triplet_loss, batch_hard_triplet_loss, label_smoothed_cross_entropy, soft_target_cross_entropy
from lightning_reid.losses.augmented_triplet import NegativeChoice
from lightning_reid.modules.classifier import built, new_classifier
from lightning_reid.modules.pseudo_identities import PseudoIdentityLearning
from lightning_reid.modules.refusals import is_being_fitted, require_built_before_copied
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.protocols import PartlyLabeledData


class SGCDPL(PseudoIdentityLearning):
    """SGC-DPL (semantics-guided clustering with deep progressive learning), sections 3.3.1 and 3.3.8.

    What it learns from follows from the callbacks, through the datamodule's :class:`~lightning_reid.records.TargetState`. Without any it
    is the initialization: cross-entropy and batch-hard triplet loss on the labeled images, and the augmented triplet loss where batches
    hold pairs of views (``unlabeled_per_batch=0`` in the datamodule: labeled images only). With ``AffinityPseudoLabels`` or
    ``PseudoLabelClustering``, and ``ProgressiveSelection``, it learns from labeled images and the believed unlabeled ones: cross-entropy
    over ``C_l + C'`` classes, against soft labels where there are any, and batch-hard triplet loss with clusters as identities. Fit it
    twice: without callbacks first, then with them.

    Batch: ``images [B, 3, H, W]`` ImageNet-normalized, ``pids [B]`` in ``0..C_l + C' - 1``, optionally ``soft_labels [B, C']``, zeros for
    labeled images; in the initialization ``rows [B]`` of -1 and optionally ``unlabeled``, a dict of ``images [V, 3, H, W]`` and ``rows
    [V]``, neighboring entries two views of one image.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet``, ``train/loss_augmented`` a step; the scores of :class:`ReIDModule` an
    epoch.

    Args:
        max_clusters: Capacity of the classifier beside the labeled identities; ``None`` is N_u, so many as there can be.
        margin: Of the triplet losses; ``None`` is the soft margin.
        negatives: Of the augmented triplet loss, ``"random"`` as in the text, or ``"hardest"``.
        iteration_epochs: The schedule of the learning rate, warm-up included, starts anew after so many epochs, as each iteration is a
            training of its own (section 3.4.3: 200); ``None``: never.
        optimizer: See :class:`ReIDModule`.
        lr: Learning rate (section 3.4.3: 0.01, a tenth after every 50 epochs: ``milestones=[50, 100, 150]``).
        options: Further arguments of :class:`PseudoIdentityLearning`. With ``bn_group`` a group of the initialization holds labeled
            images and views in the proportion of the batch.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import SGCDPL
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = SGCDPL(iteration_epochs=20, milestones=[5, 10], **tiny)
        >>> model.eval()(torch.rand(2, 3, 64, 32)).shape, model.hparams.lr
        (torch.Size([2, 16]), 0.01)
    """

    def __init__(
        self,
        max_clusters: int | None = None,
        margin: float | None = None,
        negatives: NegativeChoice = "random",
        iteration_epochs: int | None = None,
        optimizer: Literal["sgd", "adam"] = "sgd",
        lr: float = 0.01,
        **options: Any,
    ) -> None:
        require_count("max_clusters", max_clusters, optional=True)
        require_number("margin", margin, low=0, optional=True)
        require_choice("negatives", negatives, get_args(NegativeChoice))
        require_count("iteration_epochs", iteration_epochs, optional=True)
        super().__init__(optimizer=optimizer, lr=lr, **options)

    @override
    def configure_model(self) -> None:
        """Build the classifier, of the labeled identities and as many clusters as there can be."""
        if not is_being_fitted(self):
            return
        data = self.target_data()
        if not isinstance(data, PartlyLabeledData):
            raise ValueError(
                f"SGCDPL wants labeled identities beside unlabeled images: fit it on a SemiSupervisedDataModule, got {type(data).__name__}"
            )
        if self.classifier is None:
            require_built_before_copied(self.trainer, "SGCDPL the classifier of a module that was fitted (start_from)")
            self.num_fixed = data.num_classes
            capacity = self.hparams["max_clusters"] or len(data.target_records)
            # of the run's seed alone: how much the global generator has given by now depends on the number of processes
            generator = torch.Generator().manual_seed(torch.initial_seed())
            self.classifier = new_classifier(self.network.num_features, self.num_fixed + capacity, generator)
        if self.num_fixed != data.num_classes:
            raise ValueError(f"the classifier has rows for {self.num_fixed} labeled identities, the datamodule has {data.num_classes}")

    def start_from(self, initial: SGCDPL) -> Self:
        """Take over the network and the classifier, labeled rows included, of a module trained on the same labeled identities."""
        self.network.load_state_dict(initial.network.state_dict())
        self.classifier, self.num_fixed = copy.deepcopy(initial.classifier), initial.num_fixed
        return self

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        losses = self._initialization_losses(batch) if "unlabeled" in batch else self._identity_losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        self.log_dict({"train/loss": loss} | losses, batch_size=len(batch["pids"]))
        return loss

    def _identity_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        classifier = built(self.classifier, self)
        output, pids = self.embed(batch["images"]), batch["pids"]
        logits = classifier(output.embedding)[:, : self.num_used]
        if "soft_labels" in batch:
            ce = soft_target_cross_entropy(logits, joint_targets(pids, batch["soft_labels"], self.num_fixed))
        else:
            ce = label_smoothed_cross_entropy(logits, pids, 0.0)
        return {"train/loss_ce": ce, "train/loss_triplet": self._triplet(output, pids, self.hparams["bn_group"])}

    def _initialization_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        classifier = built(self.classifier, self)
        views, pids = batch["unlabeled"], batch["pids"]
        num_groups = self._num_groups(len(pids), len(views["rows"]))
        output = self.embed(side_by_side(batch["images"], views["images"], num_groups))
        rows = side_by_side(batch["rows"], views["rows"], num_groups)
        labeled = EmbeddingOutput(*(first_of_each(part, len(pids), num_groups) for part in (output.before_bnneck, output.embedding)))
        logits = classifier(labeled.embedding)[:, : self.num_fixed]
        augmented = augmented_triplet_loss(output.before_bnneck, rows, margin=self.hparams["margin"], group_size=len(rows) // num_groups)
        return {
            "train/loss_ce": label_smoothed_cross_entropy(logits, pids, 0.0),
            "train/loss_triplet": self._triplet(labeled, pids, len(pids) // num_groups),
            "train/loss_augmented": augmented,
        }

    def _triplet(self, output: EmbeddingOutput, pids: Tensor, group_size: int | None) -> Tensor:
        return batch_hard_triplet_loss(output.before_bnneck, pids, margin=self.hparams["margin"], group_size=group_size)

    def _num_groups(self, num_labeled: int, num_views: int) -> int:
        size: int | None = self.hparams["bn_group"]
        if size is None:
            return 1
        num_groups = (num_labeled + num_views) // size
        if num_groups * size != num_labeled + num_views or num_labeled % num_groups or num_views % (2 * num_groups):
            raise ValueError(
                f"{num_labeled} labeled images and {num_views} views do not share groups of bn_group={size} evenly, pairs of views"
                " together: choose bn_group, or unlabeled_per_batch in the datamodule, so that they do"
            )
        return num_groups

    @override
    def _lr_factor(self, epoch: int) -> float:
        return super()._lr_factor(epoch % (self.hparams["iteration_epochs"] or epoch + 1))


def joint_targets(pids: Tensor, soft_labels: Tensor, num_labeled: int) -> Tensor:
    """Targets over labeled identities and clusters: one-hot for a labeled image, its soft label for an unlabeled one.

    Args:
        pids: ``[B]`` int64, below ``num_labeled`` for labeled images.
        soft_labels: ``[B, C']`` float; rows of labeled images are zero.
        num_labeled: C_l.

    Returns:
        ``[B, C_l + C']``, dtype of ``soft_labels``.
    """
    labeled = pids[:, None] == torch.arange(num_labeled, device=pids.device)
    return torch.cat([labeled.to(soft_labels.dtype), soft_labels], dim=1)


def side_by_side(labeled: Tensor, views: Tensor, num_groups: int) -> Tensor:
    """Rows of both in ``num_groups`` groups: the first labeled ones, then the first views, then the next group."""
    parts = [rows.reshape(num_groups, -1, *rows.shape[1:]) for rows in (labeled, views)]
    return torch.cat(parts, dim=1).flatten(0, 1)


def first_of_each(rows: Tensor, total: int, num_groups: int) -> Tensor:
    """The labeled rows of what ``side_by_side`` made, ``total`` in all."""
    return rows.reshape(num_groups, -1, *rows.shape[1:])[:, : total // num_groups].flatten(0, 1)
