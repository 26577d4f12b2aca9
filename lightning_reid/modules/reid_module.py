"""The base of all image re-ID modules: embedding, optimisers, scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from lightning_reid.metrics import ProtocolStamp, RetrievalMetrics, RetrievalScores
from lightning_reid.networks import EmbeddingNetwork, EmbeddingOutput, build_backbone, group_batch_norm
from lightning_reid.protocols import EvaluatedData, ResizedData


class ReIDModule(pl.LightningModule):
    """An embedding network that can be validated, tested and asked for embeddings; learning is left to its children.

    Evaluation batch: ``images [B, 3, H, W]`` ImageNet-normalised, ``pids``, ``camids``, ``indices`` ``[B]`` int64, ``is_query [B]`` bool.
    Logs ``val/mAP``, ``val/R1``, ``val/R5``, ``val/R10``, ``val/mINP`` (``test/...`` when testing) an epoch, fractions in [0, 1].

    Args:
        backbone: timm model name.
        backbone_options: Further arguments of that timm model, e.g. ``{"channels": [32, 64, 128, 256]}``.
        pretrained: Load timm's weights from its hub.
        weights: File with backbone weights (safetensors, or a state dict); excludes ``pretrained``.
        pooling: ``"avg"`` or ``"gem"``.
        optimizer: ``"sgd"`` (momentum 0.9) or ``"adam"``.
        lr: Learning rate.
        weight_decay: L2 penalty of all parameters.
        milestones: Epochs after which the learning rate is multiplied by 0.1.
        warmup_epochs: The learning rate grows linearly over so many epochs.
        bn_group: Normalise, and mine triplets, over consecutive groups of so many images, so that results do not depend on the number
            of processes; ``None`` takes a process's whole batch.
        metric: ``"cosine"`` or ``"euclidean"`` distance of the scores.
        rerank: Score after k-reciprocal re-ranking.
    """

    network: EmbeddingNetwork

    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_options: dict[str, Any] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        pooling: Literal["avg", "gem"] = "avg",
        optimizer: Literal["sgd", "adam"] = "adam",
        lr: float = 3.5e-4,
        weight_decay: float = 5e-4,
        milestones: list[int] | None = None,
        warmup_epochs: int = 0,
        bn_group: int | None = None,
        metric: Literal["cosine", "euclidean"] = "cosine",
        rerank: bool = False,
    ) -> None:
        super().__init__()
        if lr <= 0 or weight_decay < 0 or warmup_epochs < 0:
            raise ValueError(f"need lr > 0, weight_decay >= 0 and warmup_epochs >= 0, got {lr}, {weight_decay} and {warmup_epochs}")
        # a checkpoint brings its own weights: where the first ones came from must not be looked up again when it is loaded
        self.save_hyperparameters(ignore=["pretrained", "weights"])
        trunk = build_backbone(backbone, pretrained=pretrained, weights=weights, **(backbone_options or {}))
        self.network = EmbeddingNetwork(trunk, pooling=pooling)
        if bn_group is not None:
            self.network = group_batch_norm(self.network, bn_group)
        # convolutions run in the layout of their weights, and this one suits CPUs and tensor cores alike
        self.network = self.network.to(memory_format=torch.channels_last)
        self.retrieval = RetrievalMetrics(metric=metric, rerank=rerank)
        self.last_scores: RetrievalScores | None = None

    def protocol_stamp(self, data: EvaluatedData) -> ProtocolStamp:
        """What this module's scores on ``data`` must be read with."""
        return replace(
            data.protocol_stamp(),
            protocol=self.retrieval.protocol,
            ap=self.retrieval.ap,
            metric=self.retrieval.metric,
            reranked=self.retrieval.rerank,
        )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add ``image_size``, without which nobody can embed further images as those of the training were."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ResizedData):
            checkpoint["image_size"] = list(data.image_size)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs = checkpoint.get("hyper_parameters", {})
        for name in ("backbone", "backbone_options", "pooling"):
            if name in theirs and theirs[name] != self.hparams[name]:
                raise ValueError(
                    f"the checkpoint holds a network with {name}={theirs[name]!r}, this module has {name}={self.hparams[name]!r}: "
                    "build the module with the checkpoint's arguments, or start without the checkpoint"
                )

    def embed(self, images: Tensor, with_parts: bool = False) -> EmbeddingOutput:
        """Embed normalised images ``[B, 3, H, W]``; ``with_parts`` also pools the upper and lower half."""
        output: EmbeddingOutput = self.network(images, with_parts=with_parts)
        return output

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Test-time embeddings ``[B, D]`` of normalised images ``[B, 3, H, W]``."""
        return self.embed(images).embedding

    @override
    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"embeddings": self(batch["images"]), "indices": batch["indices"]}

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        embeddings = self(batch["images"])
        self.retrieval.update(embeddings, batch["pids"], batch["camids"], batch["indices"], batch["is_query"])
        return {"embeddings": embeddings, "indices": batch["indices"], "is_query": batch["is_query"]}

    @override
    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self.validation_step(batch, batch_idx)

    @override
    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    @override
    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        if not self.trainer.sanity_checking:
            self.log_dict({f"{stage}/{name}": value for name, value in self.retrieval.compute().items()}, prog_bar=True)
            self.last_scores = self.retrieval.scores()
        self.retrieval.reset()

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        options = {"lr": self.hparams["lr"], "weight_decay": self.hparams["weight_decay"]}
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        sgd = self.hparams["optimizer"] == "sgd"
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(parameters, momentum=0.9, **options) if sgd else torch.optim.Adam(parameters, **options)
        )
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, self._lr_factor)}

    def _lr_factor(self, epoch: int) -> float:
        warmup = self.hparams["warmup_epochs"]
        factor = min(1.0, (epoch + 1) / (warmup + 1))
        return float(factor * 0.1 ** sum(epoch >= milestone for milestone in self.hparams["milestones"] or ()))


def new_classifier(num_features: int, num_classes: int) -> nn.Linear:
    """A bias-free identity classifier with weights from N(0, 0.001^2), as behind a BNNeck (Luo et al. 2019, arXiv:1903.07071)."""
    classifier = nn.Linear(num_features, num_classes, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier


def classifier_like(checkpoint: dict[str, Any]) -> nn.Linear | None:
    """A classifier of the shape a checkpoint holds; ``None`` if it holds none."""
    weight = checkpoint["state_dict"].get("classifier.weight")
    return None if weight is None else new_classifier(weight.shape[1], weight.shape[0])
