"""CF-AAN: a ResNet whose middle stages attend along height, width and time, pooled over what is no padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.networks.axial_attention import Position
from lightning_reid.networks.backbones import PERSON_SIZE, Backbone, built_backbone
from lightning_reid.networks.coarse_to_fine import CoarseToFineAxialAttention
from lightning_reid.networks.dry_run import dry_run
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.pooling import part_pooling
from lightning_reid.networks.stages import stages_of
from lightning_reid.networks.video_network import VideoNetwork

MODULES_OF_STAGE = {2: 2, 3: 3}
"""CF-AA modules by stage, one behind each of its last blocks: conv3_3, conv3_4, conv4_4, conv4_5 and conv4_6 of a ResNet-50."""


class CFAAN(VideoNetwork):
    """Coarse-to-Fine Axial Attention Network: five CF-AA modules in a ResNet, mask-aware pooling, mean over time, BNNeck.

    Source: thesis text, sections 2.5.2, 2.5.3 and 2.6.1. A fresh network embeds exactly as its backbone alone, since the modules
    start as identities. Embeddings are not L2-normalised.

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
            an argument of ``AxialAttention`` is wrong.
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
        if clip_length < 1:
            raise ValueError(f"clip_length must be at least 1, got {clip_length}")
        built = built_backbone(backbone, **backbone_options)
        image_size = (image_size[0], image_size[1])
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
    def forward(  # type: ignore[override]  # masks come second, as clips come with them; by name both can be left out
        self, clips: Tensor, masks: Tensor | None = None, with_parts: bool = False
    ) -> EmbeddingOutput:
        """Embed normalised clips.

        Args:
            clips: ``[B, T, 3, H, W]``.
            masks: ``[B, T, H, W]`` bool, true where a pixel is picture and false where it is padding; ``None`` is true everywhere.
            with_parts: Also pool the upper and the lower half over all frames; without masks only.

        Raises:
            ValueError: The clips have another length or size than the relative positions, the masks do not fit the clips, or masks
                come with ``with_parts``.
        """
        self._check(clips, masks, with_parts)
        feature_map = self.feature_map(clips)
        frames = mask_pooling(feature_map.flatten(0, 1), None if masks is None else masks.flatten(0, 1))
        pooled = frames.unflatten(0, clips.shape[:2]).mean(1)
        return EmbeddingOutput(pooled, self.neck(pooled), part_pooling(feature_map.mean(1)) if with_parts else None)

    def _check(self, clips: Tensor, masks: Tensor | None, with_parts: bool) -> None:
        if clips.ndim != 5:
            raise ValueError(f"expected clips [B, T, 3, H, W], got {list(clips.shape)}")
        (_, length, _, *size), relative = clips.shape, self.position in ("relative", "relative_query")
        if relative and (length, *size) != (self.clip_length, *self.image_size):
            raise ValueError(
                f"the relative positions were made for clips of {self.clip_length} frames of {self.image_size[0]} x {self.image_size[1]} "
                f"pixels, got {length} frames of {size[0]} x {size[1]}: sample and resize to that, or build CFAAN with "
                f"clip_length={length}, image_size=({size[0]}, {size[1]})"
            )
        if masks is not None and (masks.dtype != torch.bool or masks.shape != (*clips.shape[:2], *size)):
            raise ValueError(
                f"expected masks bool {[*clips.shape[:2], *size]} for clips {list(clips.shape)}, got {masks.dtype} {list(masks.shape)}"
            )
        if masks is not None and with_parts:
            raise ValueError("the upper and the lower half are pooled without regard to padding: give masks or with_parts=True, not both")


def mask_pooling(feature_map: Tensor, masks: Tensor | None = None) -> Tensor:
    """Mean over the positions that are no padding: ``[N, D, h, w]`` to ``[N, D]``.

    Source: thesis text, section 2.5.3. A position counts when at least half of its pixels are picture (the authors' code, which knows boxes
    only, rounds a box's two ends down to whole positions). A frame without such a position is averaged whole, as one in which no
    person was found.

    Args:
        feature_map: ``[N, D, h, w]``.
        masks: ``[N, H, W]`` bool, true where a pixel is picture; ``None`` is true everywhere.
    """
    if masks is None:
        return feature_map.mean((2, 3))
    height, width = feature_map.shape[2:]
    picture = F.adaptive_avg_pool2d(masks.to(torch.float32)[:, None], (height, width)) >= 0.5
    kept = picture | ~picture.any(3, keepdim=True).any(2, keepdim=True)
    # selected, not multiplied: what lies under the padding may be infinite
    return torch.where(kept, feature_map, 0).sum((2, 3)) / kept.sum((2, 3))


def _attentive_stages(backbone: Backbone, image_size: tuple[int, int]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Number of each stage that gets modules, how many, and the (channels, height, width) it gives for images of ``image_size``."""
    found = stages_of(backbone.trunk)
    for number, count in MODULES_OF_STAGE.items():
        names = [*found.stem, *(name for stage in found.stages[:number] for name in (*stage.entry, *stage.blocks))]
        until_stage = nn.Sequential(*(backbone.trunk.get_submodule(name) for name in names))
        (_, *size), _ = dry_run(until_stage, image_size)
        yield number, min(count, len(found.stages[number - 1].blocks)), tuple(size)
