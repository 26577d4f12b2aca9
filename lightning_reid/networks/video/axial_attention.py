"""Self-attention along one axis of a clip: height, width or time."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number

Axis = Literal["height", "width", "time"]
Position = Literal["relative", "relative_query", "sinusoidal"]

MOST_FUSED_LINES = 2**16 - 1
"""torch's fused attention on CUDA fails with a larger batch (its launch grid; fixed for some kernels after torch 2.6)."""

AXIS_DIM: dict[Axis, int] = {"time": 1, "height": 3, "width": 4}
"""Where an axis stands in ``[B, T, C, H, W]``."""


class AxialAttention(nn.Module):
    """Multi-head attention in which a position of a clip sees the L positions of its own line along one axis.

    Source: thesis text, section 2.5.2: eq. 2.4 without position, eq. 2.5 with ``position="relative"``; after Wang et al. 2020
    (arXiv:2003.07853). The equations hide three batch normalizations, which are here as in the authors' networks: of queries, keys
    and values; of the similarities before the softmax (each head and each of its terms by itself); and of the outputs (``v`` and
    ``r^v`` apart, then summed). Queries and keys have C/2 channels, values C; the products are not divided by a root.

    ``scaled_dot_product_attention`` computes it in evaluation without position or with the sinusoidal one: a normalization with
    fixed statistics is then a factor of the queries, its shift cancels in the softmax. In training the similarities are written
    out, since their own mean and variance normalize them; so are they with relative positions, whose values need the weights.

    Args:
        channels: C, in and out.
        length: L at which relative positions are learned; without them lines of any length are taken.
        axis: The line's direction.
        heads: Parts of the channels with a softmax each; C must be a multiple of 2 heads.
        position: ``"relative"`` learns r^q, r^k and r^v, shared by the heads, ``"relative_query"`` r^q only; ``"sinusoidal"`` is added to
            the input; ``None`` leaves the order along the line unknown.
        sinusoid_base: Longest wavelength over 2 pi of the sinusoidal position: 1000 in the authors' networks, customarily 10000.

    Raises:
        ValueError: ``axis`` or ``position`` is unknown, ``length`` is not positive, or the channels do not divide.
    """

    def __init__(
        self,
        channels: int,
        length: int,
        *,
        axis: Axis,
        heads: int = 8,
        position: Position | None = "relative",
        sinusoid_base: float = 1000.0,
    ) -> None:
        super().__init__()
        _check(channels, length, axis, heads, position)
        require_number("sinusoid_base", sinusoid_base, above=0)
        self.axis, self.heads, self.length, self.position, self.sinusoid_base = axis, heads, length, position, sinusoid_base
        self.head_channels = channels // heads
        self.qkv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.qkv_norm = nn.BatchNorm2d(2 * channels)
        terms = {"relative": 3, "relative_query": 2}.get(position or "", 1)  # q.k, q.r^q, k.r^k
        self.similarity_norm = nn.BatchNorm2d(terms * heads)
        self.output_norm = nn.BatchNorm2d((2 if position == "relative" else 1) * channels)
        nn.init.normal_(self.qkv.weight, std=channels**-0.5)
        rows = {"relative": 2 * self.head_channels, "relative_query": self.head_channels // 2}.get(position or "", 0)
        # rows r^q (c/2), r^k (c/2), r^v (c) of c channels a head; column d + L - 1 is the offset d from the key to the query
        self.relative = nn.Parameter(torch.randn(rows, 2 * length - 1) * self.head_channels**-0.5) if rows else None
        along = AXIS_DIM[axis] + (axis != "time")  # in [B, T, heads, c, H, W]
        across = [dim for dim in (0, 1, 4, 5) if dim != along]
        self._to_lines = (*across, 2, along, 3)
        self._from_lines = tuple(self._to_lines.index(dim) for dim in (0, 1, 4, 5, 2, 3))

    @override
    def forward(self, clips: Tensor) -> Tensor:
        """Attend within ``[B, T, C, H, W]``; the shape stays.

        Raises:
            ValueError: The axis has another length than the relative positions were made for.
        """
        queries, keys, values = self._project(clips)
        attended = self._attend(queries, keys, values)
        batch, frames, _, height, width = clips.shape
        sizes = {0: batch, 1: frames, 4: height, 5: width}
        grid = attended.unflatten(0, [sizes[dim] for dim in self._to_lines[:3]]).permute(self._from_lines)
        maps = grid.flatten(4).flatten(0, 1).permute(0, 3, 1, 2)  # [B T, C or 2 C, H, W], channels last
        normalized = self.output_norm(maps)
        if self.position == "relative":
            normalized = normalized.unflatten(1, (-1, 2)).sum(2)
        output: Tensor = normalized.unflatten(0, (batch, frames))
        return output

    def attention_weights(self, clips: Tensor) -> Tensor:
        """Who looks at whom: ``[lines, heads, L, L]`` for clips ``[B, T, C, H, W]``, queries in rows, each row sums to 1.

        Lines are ordered by (clip, frame, column) along the height, (clip, frame, row) along the width, (clip, row, column) in time.
        """
        queries, keys, _ = self._project(clips)
        return self._weights(queries, keys)

    def _project(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys ``[lines, heads, L, c/2]`` and values ``[lines, heads, L, c]``."""
        dim = AXIS_DIM[self.axis]
        if self.relative is not None and clips.shape[dim] != self.length:
            raise ValueError(
                f"the relative positions along the {self.axis} were made for length {self.length}, the input {list(clips.shape)} "
                f"(clips, frames, channels, height, width) has {clips.shape[dim]}: build the network for that size"
            )
        if self.position == "sinusoidal":
            clips = clips + self._sinusoid(clips, dim)
        # torch's BatchNorm on a CPU gives wrong gradients where a map one column wide comes channels-first and its gradient channels-last
        maps = self.qkv(clips.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        projected = self.qkv_norm(maps).unflatten(0, clips.shape[:2])
        lines = projected.unflatten(2, (self.heads, -1)).permute(self._to_lines).flatten(0, 2)
        half = self.head_channels // 2
        parts: tuple[Tensor, ...] = lines.split((half, half, self.head_channels), dim=3)
        return parts

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """``[lines, heads, L, c]``; with ``"relative"`` ``[..., 2 c]``: what comes from v and from r^v in turns, channel by channel."""
        norm = self.similarity_norm
        variance = None if norm.training else norm.running_var
        # on CUDA alone is asked how many: a graph that is exported would be bound to the number
        fused = not (queries.is_cuda and queries.shape[0] > MOST_FUSED_LINES)
        if variance is not None and self.relative is None and fused:
            factor = norm.weight * (variance + norm.eps).rsqrt()
            return F.scaled_dot_product_attention(queries * factor[:, None, None], keys, values, scale=1.0)
        weights = self._weights(queries, keys)
        attended = weights @ values
        if self.position == "relative":
            from_positions = torch.einsum("nhij,cij->nhic", weights, self._relative_positions()[-self.head_channels :])
            attended = torch.stack((attended, from_positions), dim=4).flatten(3)
        return attended

    def _weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        terms, half = [queries @ keys.mT], self.head_channels // 2
        if self.relative is not None:
            positions = self._relative_positions()
            terms.append(torch.einsum("nhic,cij->nhij", queries, positions[:half]))
        if self.position == "relative":
            terms.append(torch.einsum("nhjc,cji->nhij", keys, positions[half : 2 * half]))  # seen from the key
        similarities: Tensor = self.similarity_norm(torch.cat(terms, dim=1))
        weights: Tensor = similarities.unflatten(1, (-1, self.heads)).sum(1).softmax(-1)
        return weights

    def _relative_positions(self) -> Tensor:
        """``[rows, L, L]``: entry (i, j) is the learned column of the offset i - j."""
        assert self.relative is not None
        return self.relative.unfold(1, self.length, 1).flip(2)

    def _sinusoid(self, clips: Tensor, dim: int) -> Tensor:
        """Sine in even, cosine in odd channels c of ``p / base^(2 (c // 2) / C)`` at position p, to be added to ``clips``."""
        channels, length = clips.shape[2], clips.shape[dim]
        channel = torch.arange(channels, device=clips.device)
        speed = self.sinusoid_base ** (-2 * (channel // 2) / channels)
        angle = torch.arange(length, device=clips.device)[:, None] * speed
        encoding = torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(clips.dtype)
        shape = [1, 1, channels, 1, 1]
        shape[dim] = length
        return (encoding if dim < 2 else encoding.T).reshape(shape)

    @override
    def extra_repr(self) -> str:
        return f"axis={self.axis}, length={self.length}, heads={self.heads}, position={self.position}"


def _check(channels: int, length: int, axis: str, heads: int, position: str | None) -> None:
    require_choice("axis", axis, get_args(Axis))
    require_choice("position", position, get_args(Position), optional=True)
    for name, count in (("length", length), ("heads", heads), ("channels", channels)):
        require_count(name, count)
    if channels % (2 * heads):
        raise ValueError(
            f"{channels} channels cannot be cut into {heads} heads: need heads >= 1, and channels that are a multiple of 2 heads"
        )
