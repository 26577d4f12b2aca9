"""CF-AAN: a ResNet whose middle stages attend along height, width and time, pooled over what is no padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import checked_image_size, require_count
from lightning_reid.networks.backbones import PERSON_SIZE, Backbone, built_backbone
from lightning_reid.networks.dry_run import dry_run
from lightning_reid.networks.pooling import mask_pooling
from lightning_reid.networks.stages import stages_of
from lightning_reid.networks.video.axial_attention import Position
from lightning_reid.networks.video.coarse_to_fine import CoarseToFineAxialAttention
from lightning_reid.networks.video.network import VideoNetwork

MODULES_OF_STAGE = {2: 2, 3: 3}
"""CF-AA modules by stage, one behind each of its last blocks: conv3_3, conv3_4, conv4_4, conv4_5 and conv4_6 of a ResNet-50."""


class CFAAN(VideoNetwork):
    """Coarse-to-Fine Axial Attention Network: five CF-AA modules in a ResNet, mask-aware pooling, mean over time, BNNeck.

    Source: thesis text, sections 2.5.2, 2.5.3 and 2.6.1. A fresh network embeds exactly as its backbone alone, since the modules
    start as identities. Embeddings are not L2-normalized.

    Args:
        backbone: timm's name of a ResNet, a relative of it (ResNeXt, ResNeSt...) or a ConvNeXt, or one built already.
        heads: Attention heads of a module, over all its scales.
        scales: S; the text's network has 4.
        position: ``"relative"``, ``"relative_query"``, ``"sinusoidal"`` or ``None``, see ``AxialAttention``.
        clip_length: T; relative positions are bound to it.
        image_size: Height and width of the frames; relative positions are bound to it.
        channel_reduction: 1 is the network of the text, which costs 26 % more multiply-adds than ResNet-50; 8 costs under 1 % more, see
            ``CoarseToFineAxialAttention``.
        sinusoid_base: See ``AxialAttention``.
        **backbone_options: Of ``build_backbone`` for a name: ``pretrained``, ``weights`` (neither: random), ``last_stride``, timm's own.

    Raises:
        ValueError: See ``build_backbone``; or the backbone is of another kind; heads, scales and reduction do not divide its channels; or
            an argument of ``AxialAttention`` is wrong; or (when called) clips of another length or size than the relative positions, or
            masks that do not fit the clips.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import CFAAN
        >>> tiny = {"channels": [16, 16, 32, 32], "layers": [1, 1, 1, 1]}
        >>> network = CFAAN("resnet18", heads=4, scales=2, clip_length=2, image_size=(64, 32), **tiny).eval()
        >>> network(torch.rand(1, 2, 3, 64, 32)).embedding.shape
        torch.Size([1, 32])
    """

    def __init__(
        self,
        backbone: str | Backbone = "resnet50",
        *,
        heads: int = 8,
        scales: int = 4,
        position: Position | None = "relative",
        clip_length: int = 6,
        image_size: tuple[int, int] = PERSON_SIZE,
        channel_reduction: int = 1,
        sinusoid_base: float = 1000.0,
        **backbone_options: Any,
    ) -> None:
        require_count("clip_length", clip_length)
        require_count("channel_reduction", channel_reduction)
        image_size = checked_image_size("image_size", image_size)
        built = built_backbone(backbone, **backbone_options)
        options: dict[str, Any] = {
            "heads": heads,
            "scales": scales,
            "position": position,
            "channel_reduction": channel_reduction,
            "sinusoid_base": sinusoid_base,
        }
        attention = {
            stage: [CoarseToFineAxialAttention(channels, (clip_length, height, width), **options) for _ in range(count)]
            for stage, count, (channels, height, width) in _attentive_stages(built, image_size)
        }
        super().__init__(built, attention=attention)
        self.clip_length, self.image_size, self.position = clip_length, image_size, position

    @override
    def feature_map(self, clips: Tensor) -> Tensor:
        if clips.ndim != 5:
            raise ValueError(f"expected clips [B, T, 3, H, W], got {list(clips.shape)}")
        (_, length, _, *size), relative = clips.shape, self.position in ("relative", "relative_query")
        if relative and (length, *size) != (self.clip_length, *self.image_size):
            raise ValueError(
                f"the relative positions were made for clips of {self.clip_length} frames of {self.image_size[0]} x {self.image_size[1]} "
                f"pixels, got {length} frames of {size[0]} x {size[1]}: sample and resize to that, or build CFAAN with "
                f"clip_length={length}, image_size=({size[0]}, {size[1]})"
            )
        return super().feature_map(clips)

    @override
    def pool(self, feature_map: Tensor) -> Tensor:
        # first over the frame, then over time: as with masks, to the last digit
        frames: Tensor = mask_pooling(feature_map.flatten(0, 1)).unflatten(0, feature_map.shape[:2])
        return frames.mean(1)


def _attentive_stages(backbone: Backbone, image_size: tuple[int, int]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Number of each stage that gets modules, how many, and the (channels, height, width) it gives for images of ``image_size``."""
    found = stages_of(backbone.trunk)
    for number, count in MODULES_OF_STAGE.items():
        names = [*found.stem, *(name for stage in found.stages[:number] for name in (*stage.entry, *stage.blocks))]
        until_stage = nn.Sequential(*(backbone.trunk.get_submodule(name) for name in names))
        (_, *size), _ = dry_run(until_stage, image_size)
        yield number, min(count, len(found.stages[number - 1].blocks)), tuple(size)
