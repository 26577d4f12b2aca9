"""Axial attention at several resolutions at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.networks.video.axial_attention import AxialAttention, Position


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
