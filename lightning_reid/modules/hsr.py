"""Hard-samples rectification: training on pseudo-labels with an inter-camera triplet loss."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number
from lightning_reid.losses import label_smoothed_cross_entropy, masked_weighted_triplet_loss, weighted_triplet_loss
from lightning_reid.losses.triplet import TripletForm
from lightning_reid.modules.classifier import built, new_classifier
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.pseudo_identities import PseudoIdentityLearning
from lightning_reid.modules.refusals import is_being_fitted, require_built_before_copied
from lightning_reid.protocols import PartlyLabeledData


class HSR(PseudoIdentityLearning):
    """HSR (hard-samples rectification) for cross-domain unsupervised re-ID: ``L_CE + L_trip + L_ICM`` (section 4.3.4).

    The pseudo-labels come from callbacks through the datamodule's :class:`~lightning_reid.records.TargetState`: with
    ``PseudoLabelClustering`` alone this is the DBSCAN baseline, ``PartBasedHomogeneity`` (PBH) and ``InterCameraMining`` (ICM) make it
    HSR. It starts from a source model, see :meth:`start_from`.

    Batch: ``images [B, 3, H, W]``, ``pids [B]`` pseudo-labels in ``0..C-1``; optionally ``icm``, a dict of ``images``, ``anchors``,
    ``positives`` and ``negatives``, which adds ``L_ICM``.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet``, ``train/loss_icm`` a step; the scores of :class:`ReIDModule` an epoch.

    Args:
        max_clusters: Capacity of the classifier; ``None`` is N // ``min_samples`` for N target images.
        min_samples: Smallest cluster DBSCAN makes (only to derive ``max_clusters``).
        triplet_form: ``"anchor"``, one softplus an anchor (Ristani & Tomasi 2018), or ``"triple"``, the sum as printed in eq. 4.2.
        label_smoothing: Of the cross-entropy, in [0, 1). The text's L_CE (section 4.3.1, eq. 4.1) has none; 0.1 is what Luo et al. 2019
            train with, and what ``recipes/hsr_duke2market.py`` sets.
        optimizer: See :class:`ReIDModule`.
        lr: Learning rate (section 4.4.2: 0.005).
        options: Further arguments of :class:`PseudoIdentityLearning`.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import HSR, SupervisedReID
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> source = SupervisedReID(num_classes=4, **tiny)
        >>> model = HSR(max_clusters=50, **tiny).start_from(source)
        >>> images = torch.rand(2, 3, 64, 32)
        >>> model.eval()(images).shape, torch.equal(model(images), source.eval()(images))
        (torch.Size([2, 16]), True)
    """

    one_pass_a_step = True

    def __init__(
        self,
        max_clusters: int | None = None,
        min_samples: int = 4,
        triplet_form: TripletForm = "anchor",
        label_smoothing: float = 0.0,
        optimizer: Literal["sgd", "adam"] = "sgd",
        lr: float = 0.005,
        **options: Any,
    ) -> None:
        require_count("max_clusters", max_clusters, optional=True)
        require_count("min_samples", min_samples)
        require_choice("triplet_form", triplet_form, get_args(TripletForm))
        require_number("label_smoothing", label_smoothing, low=0, below=1)
        super().__init__(optimizer=optimizer, lr=lr, **options)
        if max_clusters is not None:
            self.classifier = new_classifier(self.network.num_features, max_clusters)

    @override
    def configure_model(self) -> None:
        """Build the classifier, with as many rows as there can be clusters."""
        if not is_being_fitted(self):
            return
        data = self.target_data()
        if isinstance(data, PartlyLabeledData):
            raise ValueError(f"HSR knows no labeled identities, which {type(data).__name__} has: fit SGCDPL on it")
        if self.classifier is None:
            capacity = max(2, len(data.target_records) // self.hparams["min_samples"])
            require_built_before_copied(self.trainer, f"HSR max_clusters={capacity}")
            self.classifier = new_classifier(self.network.num_features, capacity)

    def start_from(self, source_model: ImageReIDModule) -> Self:
        """Take over the network of a module that was trained on the labeled source; the same architecture."""
        self.network.load_state_dict(source_model.network.state_dict())
        return self

    @override
    def adopt_latest_state(self) -> None:
        state = self.target_data().target_state
        if state is None:
            raise RuntimeError("HSR found no pseudo-labels: add PseudoLabelClustering to the Trainer's callbacks")
        if state.soft_labels is not None:
            raise ValueError("HSR learns hard labels: ask the clustering for them, AffinityPseudoLabels(labels='hard')")
        super().adopt_latest_state()

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        classifier = built(self.classifier, self)
        options: dict[str, Any] = {"form": self.hparams["triplet_form"]}
        output = self.embed(batch["images"])
        logits = classifier(output.embedding)[:, : self.num_used]
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
