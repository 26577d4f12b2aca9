"""The base of the modules that learn from images."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.networks import EmbeddingNetwork, build_backbone, group_batch_norm
from lightning_reid.networks.embedding_network import EmbeddingOutput, NeckName


class ImageReIDModule(ReIDModule):
    """A ``ReIDModule`` over images, its network built from plain arguments, so that a checkpoint tells how to build it again.

    Batch: ``images [B, 3, H, W]`` ImageNet-normalized, and what ``ReIDModule`` says.

    Args:
        backbone: timm model name.
        backbone_options: Further arguments of that timm model, e.g. ``{"channels": [32, 64, 128, 256]}``.
        pretrained: Load timm's weights from its hub.
        weights: File with backbone weights (safetensors, or a state dict); excludes ``pretrained``.
        pooling: ``"avg"`` or ``"gem"``.
        neck: ``"bnneck"``, or ``"none"`` to learn and embed with pooled features.
        bn_group: Normalize, and mine triplets, over consecutive groups of so many images, so that results do not depend on the number
            of processes; ``None`` takes a process's whole batch.
        options: Arguments of :class:`ReIDModule`.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import ImageReIDModule, SupervisedReID
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = SupervisedReID(num_classes=4, pooling="gem", **tiny).eval()
        >>> output = model.embed(torch.rand(2, 3, 64, 32), with_parts=True)
        >>> isinstance(model, ImageReIDModule), output.embedding.shape, output.parts.shape
        (True, torch.Size([2, 16]), torch.Size([2, 2, 16]))
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_options: dict[str, Any] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        pooling: Literal["avg", "gem"] = "avg",
        neck: NeckName = "bnneck",
        bn_group: int | None = None,
        **options: Any,
    ) -> None:
        require_count("bn_group", bn_group, low=2, optional=True)
        trunk = build_backbone(backbone, pretrained=pretrained, weights=weights, **(backbone_options or {}))
        network = EmbeddingNetwork(trunk, pooling=pooling, neck=neck)
        super().__init__(network if bn_group is None else group_batch_norm(network, bn_group), **options)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        theirs = checkpoint.get("hyper_parameters", {})
        for name in ("backbone", "backbone_options", "pooling"):
            if name in theirs and theirs[name] != self.hparams[name]:
                raise ValueError(
                    f"the checkpoint holds a network with {name}={theirs[name]!r}, this module has {name}={self.hparams[name]!r}: "
                    "build the module with the checkpoint's arguments, or start without the checkpoint"
                )

    def embed(self, images: Tensor, with_parts: bool = False) -> EmbeddingOutput:
        """Embed normalized images ``[B, 3, H, W]``; ``with_parts`` also pools the upper and lower half."""
        output: EmbeddingOutput = self.network(images, with_parts=with_parts)
        return output

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Test-time embeddings ``[B, D]`` of normalized images ``[B, 3, H, W]``."""
        return self.embed(images).embedding

    @override
    def embed_batch(self, batch: dict[str, Tensor]) -> EmbeddingOutput:
        return self.embed(batch["images"])
