"""Supervised video re-ID: a module over clips that learns identities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_path, require_switch
from lightning_reid.losses import identity_losses
from lightning_reid.metrics.matching import ProtocolName
from lightning_reid.metrics.scores import AveragePrecisionRule
from lightning_reid.modules.classifier import new_classifier
from lightning_reid.modules.identity_classifier import IdentityClassifier
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.foreign import trained_image_size
from lightning_reid.networks.model_config import MOST_FRAMES
from lightning_reid.networks.shipped import located
from lightning_reid.networks.video.by_name import VIDEO_NETWORKS, VideoNetworkName, load_clip_network
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.networks.weights import read_checkpoint
from lightning_reid.protocols import ClipData


class VideoReID(IdentityClassifier):
    """Clips to embeddings of tracklets: cross-entropy after the BNNeck, batch-hard triplet before it (NVAN, section 2.2.1).

    Training batch: ``clips [B, T, 3, H, W]`` ImageNet-normalized, ``pids [B]`` in ``0..num_classes-1``, optionally
    ``masks [B, T, H, W]`` bool, true where a pixel is picture and no padding, which networks pool by.
    Evaluation batch: ``clips [N, T, 3, H, W]`` and ``num_clips [B]`` int64, the clips of B tracklets one after another, optionally
    ``masks [N, T, H, W]``; a tracklet's embedding is the mean of its clips' (thesis, section 2.6.1).
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_triplet`` a step; the scores of :class:`ReIDModule` an epoch.

    Args:
        network: ``"baseline"``, ``"nvan"``, ``"stenvan"`` or ``"cfaan"``, then a checkpoint loads by itself; or any network of clips.
        network_options: Arguments of the network that is named.
        num_classes: Training identities; ``None`` reads it from the datamodule.
        margin: Margin of the triplet loss; ``None`` is the soft margin.
        label_smoothing: Share of the target probability spread over all identities, in [0, 1).
        pretrained: Load timm's weights of the backbone from its hub.
        weights: File with backbone weights (safetensors, or a state dict); excludes ``pretrained``.
        clips_per_pass: Clips a forward pass when a batch is evaluated: what bounds the memory that long tracklets take.
        optimizer: ``"adam"`` or ``"sgd"`` (momentum 0.9).
        lr: Learning rate.
        weight_decay: L2 penalty of all parameters.
        milestones: Epochs after which the learning rate is multiplied by 0.1.
        warmup_epochs: The learning rate grows linearly over so many epochs.
        metric: ``"cosine"`` or ``"euclidean"`` distance of the scores.
        rerank: Score after k-reciprocal re-ranking.
        protocol: ``"mars"``, ``"mars-excluding-queries"``, ``"mars-corrected"`` or ``"market"``, see ``Matching``.
        ap: Average precision by ``"step"``, or by ``"trapezoid"`` as in older papers, which gives one to two points less.

    Raises:
        ValueError: Options for a network that is built already, or as the network says.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import VideoReID
        >>> tiny = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
        >>> model = VideoReID("baseline", tiny, num_classes=4).eval()
        >>> model(torch.rand(2, 4, 3, 64, 32)).shape  # two clips of four frames
        torch.Size([2, 16])
    """

    one_pass_a_step = True
    network: VideoNetwork

    def __init__(
        self,
        network: VideoNetwork | VideoNetworkName,
        network_options: dict[str, Any] | None = None,
        num_classes: int | None = None,
        margin: float | None = None,
        label_smoothing: float = 0.0,
        pretrained: bool = False,
        weights: str | None = None,
        clips_per_pass: int = 32,
        optimizer: Literal["sgd", "adam"] = "adam",
        lr: float = 1e-4,
        weight_decay: float = 5e-5,
        milestones: Sequence[int] = (50, 100, 150, 200),
        warmup_epochs: int = 0,
        metric: Literal["cosine", "euclidean"] = "cosine",
        rerank: bool = False,
        protocol: ProtocolName = "mars",
        ap: AveragePrecisionRule = "step",
    ) -> None:
        require_count("num_classes", num_classes, optional=True)
        require_number("margin", margin, low=0, optional=True)
        require_number("label_smoothing", label_smoothing, low=0, below=1)
        require_count("clips_per_pass", clips_per_pass)
        require_switch("pretrained", pretrained)
        require_path("weights", weights, optional=True)
        if not isinstance(network, VideoNetwork):
            require_choice("network", network, VIDEO_NETWORKS)
            built = VIDEO_NETWORKS[network](**(network_options or {}), pretrained=pretrained, weights=weights)
        elif network_options or pretrained or weights is not None:
            raise ValueError("network_options, pretrained and weights are for a network that is named; this one is built already")
        else:
            built = network
        super().__init__(
            built,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            milestones=list(milestones),
            warmup_epochs=warmup_epochs,
            metric=metric,
            rerank=rerank,
            protocol=protocol,
            ap=ap,
        )
        if isinstance(network, str):
            self.save_hyperparameters({"network": network})
        self.classifier = None if num_classes is None else new_classifier(built.num_features, num_classes)

    def embed(self, clips: Tensor, masks: Tensor | None = None) -> EmbeddingOutput:
        """Embed normalized clips ``[B, T, 3, H, W]``; ``masks [B, T, H, W]`` bool, true where a pixel is picture, are pooled by."""
        output: EmbeddingOutput = self.network(clips, masks)
        return output

    @override
    def forward(self, clips: Tensor, masks: Tensor | None = None) -> Tensor:
        """Test-time embeddings ``[B, D]`` of normalized clips ``[B, T, 3, H, W]``."""
        return self.embed(clips, masks).embedding

    @override
    def embed_batch(self, batch: dict[str, Tensor]) -> EmbeddingOutput:
        clips, masks = batch["clips"], batch.get("masks")
        if "num_clips" not in batch:
            return self.embed(clips, masks)
        size = self.hparams["clips_per_pass"]
        mask_parts = [None] * -(-len(clips) // size) if masks is None else masks.split(size)
        passes = [self.embed(some, some_masks) for some, some_masks in zip(clips.split(size), mask_parts)]
        counts = batch["num_clips"].tolist()
        return EmbeddingOutput(*(_mean_of_clips(torch.cat(rows), counts) for rows in list(zip(*passes))[:2]))

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        output, options = self.embed_batch(batch), {name: self.hparams[name] for name in ("label_smoothing", "margin")}
        losses = identity_losses(self.logits(output), output.before_bnneck, batch["pids"], **options)
        return self.log_losses(losses.ce + losses.triplet, losses._asdict(), len(batch["pids"]))

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add ``clip_length``, without which nobody can embed further clips as those of the training were."""
        super().on_save_checkpoint(checkpoint)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ClipData):
            checkpoint["clip_length"] = data.clip_length

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs = checkpoint.get("hyper_parameters", {})
        for name in ("network", "network_options"):
            if name in theirs and name in self.hparams and (theirs[name] or None) != (self.hparams[name] or None):
                raise ValueError(
                    f"the checkpoint holds a network with {name}={theirs[name]!r}, this module has {name}={self.hparams[name]!r}: "
                    "build the module with the checkpoint's arguments, or start without the checkpoint"
                )
        super().on_load_checkpoint(checkpoint)


def load_video_network(checkpoint: str | Path) -> VideoNetwork:
    """The network of a checkpoint of ``VideoReID`` whose network was named, or of a model folder, pruned or not, on the CPU, evaluating.

    Its ``image_size`` and ``clip_length`` are those that it was trained on, ``None`` where the file does not say.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or no checkpoint of such a network.
    """
    if located(checkpoint).is_dir():
        return load_clip_network(checkpoint)
    size, length = trained_image_size(checkpoint), read_checkpoint(checkpoint).get("clip_length")
    require_count(f"clip_length of {checkpoint}", length, high=MOST_FRAMES, optional=True)
    network = VideoReID.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).network
    network.image_size, network.clip_length = size or network.image_size, length or network.clip_length
    return network.eval()


def _mean_of_clips(rows: Tensor, num_clips: list[int]) -> Tensor:
    """``[N, D]`` rows of clips to ``[B, D]`` rows of tracklets."""
    return torch.stack([clips.mean(0) for clips in rows.split(num_clips)])
