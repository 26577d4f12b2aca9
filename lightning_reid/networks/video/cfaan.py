"""CF-AAN: a ResNet whose middle stages attend along height, width and time, pooled over what is no padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import checked_image_size, require_count
from lightning_reid.networks.backbones import PERSON_SIZE, Backbone, built_backbone
from lightning_reid.networks.dry_run import dry_run
from lightning_reid.networks.pooling import mask_pooling
from lightning_reid.networks.stages import stages_of
from lightning_reid.networks.video.axial_attention import AxialAttention, Position
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

    name = "cfaan"

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
        self.clip_length, self.image_size, self.position, self._made_for = clip_length, image_size, position, image_size
        self.options = {**options, "clip_length": clip_length, "image_size": list(image_size)}

    @override
    def check_clips(self, clips: Tensor) -> None:
        if clips.ndim != 5:
            raise ValueError(f"expected clips [B, T, 3, H, W], got {list(clips.shape)}")
        (_, length, _, *size), relative = clips.shape, self.position in ("relative", "relative_query")
        if relative and (length, *size) != (self.clip_length, *self._made_for):
            raise ValueError(
                f"the relative positions were made for clips of {self.clip_length} frames of {self._made_for[0]} x {self._made_for[1]} "
                f"pixels, got {length} frames of {size[0]} x {size[1]}: sample and resize to that, or build CFAAN with "
                f"clip_length={length}, image_size=({size[0]}, {size[1]})"
            )
        super().check_clips(clips)

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


class CoarseToFineAxialAttention(nn.Module):
    """The coarse-to-fine axial attention (CF-AA) module: ``x + BN(conv(concat_s up(AA^T(AA^W(AA^H(down_s(x_s)))))))``.

    Source: thesis text, section 2.5.2, eq. 2.6. The channels are cut into S scales; the s-th (s = 0 is the finest) is max-pooled in
    space by 2^s, attends along height, width and time in turn, and is up-sampled by its nearest neighbor. The last BN starts at
    zero, so that a fresh module passes its input on unchanged.

    With ``channel_reduction=r`` each scale squeezes its pooled channels to 1/r (1x1 convolution, BN, ReLU), attends, and expands
    again at its own resolution; that expansion takes the place of the convolution over all scales, which alone would cost more than
    the attention. This is not in the text: there every 1x1 convolution runs on all channels, a quarter of ResNet-50 in all.

    Args:
        channels: C, in and out.
        clip_size: (T, H, W) of the feature maps; relative positions are bound to it.
        heads: Attention heads of all scales together.
        scales: S; no map is pooled below one row or column.
        position: See ``AxialAttention``.
        channel_reduction: r; 1 is the module of the text.
        sinusoid_base: See ``AxialAttention``.

    Raises:
        ValueError: Heads, scales and reduction do not divide the channels, or an argument of ``AxialAttention`` is wrong.
    """

    def __init__(
        self,
        channels: int,
        clip_size: tuple[int, int, int],
        *,
        heads: int = 8,
        scales: int = 4,
        position: Position | None = "relative",
        channel_reduction: int = 1,
        sinusoid_base: float = 1000.0,
    ) -> None:
        super().__init__()
        _check(channels, heads, scales, channel_reduction)
        width = channels // scales
        self.scales = nn.ModuleList(
            AxialScale(
                width,
                clip_size,
                level,
                heads=heads // scales,
                position=position,
                inner_channels=width // channel_reduction,
                sinusoid_base=sinusoid_base,
            )
            for level in range(scales)
        )
        self.projection = nn.Conv2d(channels, channels, 1, bias=False) if channel_reduction == 1 else nn.Identity()
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)  # its bias is zero already

    @override
    def forward(self, clips: Tensor) -> Tensor:
        """Refine feature maps ``[B, T, C, H, W]``; the shape stays."""
        maps = clips.flatten(0, 1)
        refinement = self.norm(self.projection(self.attend(clips).flatten(0, 1)))
        refined: Tensor = (maps + refinement).unflatten(0, clips.shape[:2])
        return refined

    def attend(self, clips: Tensor) -> Tensor:
        """What the scales see, side by side in the channels: ``[B, T, C, H, W]`` before projection and residual."""
        parts = clips.chunk(len(self.scales), dim=2)
        return torch.cat([scale(part) for scale, part in zip(self.scales, parts, strict=True)], dim=2)


class AxialScale(nn.Module):
    """One resolution of the module: max-pooled by ``2^level``, attention along height, width and time, nearest up-sampling.

    ``squeeze`` and ``expand`` are there where ``inner_channels`` is less than ``channels``.
    """

    def __init__(
        self,
        channels: int,
        clip_size: tuple[int, int, int],
        level: int,
        *,
        heads: int,
        position: Position | None,
        inner_channels: int,
        sinusoid_base: float,
    ) -> None:
        super().__init__()
        self.level = level
        frames, rows, columns = clip_size[0], *self._pooled(clip_size[1], clip_size[2])
        reduced = inner_channels != channels
        self.squeeze = _squeeze(channels, inner_channels) if reduced else nn.Identity()
        self.axes = nn.Sequential(
            AxialAttention(inner_channels, rows, axis="height", heads=heads, position=position, sinusoid_base=sinusoid_base),
            AxialAttention(inner_channels, columns, axis="width", heads=heads, position=position, sinusoid_base=sinusoid_base),
            AxialAttention(inner_channels, frames, axis="time", heads=heads, position=position, sinusoid_base=sinusoid_base),
        )
        self.expand = nn.Conv2d(inner_channels, channels, 1, bias=False) if reduced else nn.Identity()

    @override
    def forward(self, clips: Tensor) -> Tensor:
        """``[B, T, C, H, W]`` to the same shape."""
        batch_and_time, size = clips.shape[:2], clips.shape[3:]
        maps = clips.flatten(0, 1)
        if self.level:
            maps = F.adaptive_max_pool2d(maps, self._pooled(*size))
        attended = self.axes(self.squeeze(maps).unflatten(0, batch_and_time)).flatten(0, 1)
        maps = self.expand(attended)
        if self.level:
            maps = F.interpolate(maps, size=tuple(size), mode="nearest")
        seen: Tensor = maps.unflatten(0, batch_and_time)
        return seen

    def _pooled(self, height: int, width: int) -> tuple[int, int]:
        return max(height >> self.level, 1), max(width >> self.level, 1)


def _squeeze(channels: int, inner_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, inner_channels, 1, bias=False), nn.BatchNorm2d(inner_channels), nn.ReLU(inplace=True))


def _check(channels: int, heads: int, scales: int, channel_reduction: int) -> None:
    for name, count in (("heads", heads), ("scales", scales), ("channel_reduction", channel_reduction)):
        require_count(name, count)
    if heads % scales:
        raise ValueError(f"heads are counted over all scales: {heads} heads cannot be shared among {scales} scales")
    unit = 2 * heads * channel_reduction
    if channels % unit:
        raise ValueError(
            f"{channels} channels cannot be cut into {scales} scales with {heads} heads in all and channel_reduction {channel_reduction}: "
            f"need a multiple of {unit}"
        )
