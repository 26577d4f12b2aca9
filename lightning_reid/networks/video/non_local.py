"""Non-local attention: every position of a clip looks at every other, or every body stripe at every other stripe."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_count


class NonLocalBlock(nn.Module):
    """``Z = X + BN(W_z Y)``, Y the embedded-Gaussian attention of all positions of a clip: ``[B, T, C, H, W]`` to the same shape.

    ``y_i = sum_j softmax_j(theta(x_i) . phi(x_j)) g(x_j)`` over j = 1..THW, without scaling, in C' = C/2 channels. The normalization
    starts at weight and bias 0, so that a fresh block is the identity. Attention runs through torch's fused kernels: memory grows with
    the number of positions, not with its square.

    With ``stripes`` the S horizontal stripes of each frame are averaged first, T S positions attend to each other, and each stripe's
    answer is added to all of its positions.

    Source: NVAN, section 2.2.1, eq. 2.1 (after Wang et al. 2018, arXiv:1711.07971); stripes: STE-NVAN, section 2.2.2, figure 2.3.

    Args:
        channels: C, at least 2.
        stripes: S, a divisor of H; ``None`` attends from each position to each position.
        frames_per_group: Attend only within groups of so many neighboring frames, a divisor of T; ``None`` takes all T.
        subsample: Look at the maxima of 2 x 2 positions only (phi and g), for a quarter of the attention's cost; not with stripes.

    Raises:
        ValueError: An argument is out of range or contradicts another, or (when called) does not divide the clip.
    """

    def __init__(self, channels: int, *, stripes: int | None = None, frames_per_group: int | None = None, subsample: bool = False) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels must be at least 2, got {channels}")
        require_count("stripes", stripes, optional=True)
        require_count("frames_per_group", frames_per_group, optional=True)
        if subsample and stripes is not None:
            raise ValueError(f"subsample=True looks at 2 x 2 positions, which {stripes} stripes do not have: give one of them")
        self.stripes, self.frames_per_group = stripes, frames_per_group
        self.subsample = nn.MaxPool2d(2) if subsample else nn.Identity()
        self.theta, self.phi, self.g = (nn.Conv2d(channels, channels // 2, 1) for _ in range(3))
        self.w_z = nn.Conv2d(channels // 2, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn.weight)

    @override
    def forward(self, clips: Tensor) -> Tensor:
        batch, length = clips.shape[:2]
        group = self.frames_per_group or length
        if length % group:
            raise ValueError(f"frames_per_group={group} does not divide the {length} frames of a clip: sample a multiple of {group} frames")
        frames = clips.flatten(0, 1)
        looking = frames if self.stripes is None else stripe_means(frames, self.stripes)
        query = _tokens(self.theta(looking), group)
        key, value = (_tokens(self.subsample(embed(looking)), group) for embed in (self.phi, self.g))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        answers: Tensor = self.bn(self.w_z(_frames(attended, looking)))
        if self.stripes is None:
            refined: Tensor = frames + answers
        else:
            refined = (frames.unflatten(2, (self.stripes, -1)) + answers.unsqueeze(3)).flatten(2, 3)
        return refined.unflatten(0, (batch, length))  # type: ignore[no-any-return]

    @override
    def extra_repr(self) -> str:
        return f"stripes={self.stripes}, frames_per_group={self.frames_per_group}"


def stripe_means(frames: Tensor, stripes: int) -> Tensor:
    """Means of S equal horizontal stripes, top first: ``[N, C, H, W]`` to ``[N, C, S, 1]``.

    Raises:
        ValueError: ``stripes`` does not divide H; the message names the numbers that do.
    """
    require_divisor(stripes, (frames.shape[2],))
    return frames.unflatten(2, (stripes, -1)).mean((3, 4)).unsqueeze(3)  # type: ignore[no-any-return]


def require_divisor(stripes: int, heights: tuple[int, ...]) -> None:
    """Check that feature maps of all these heights (rows) can be cut into ``stripes`` equal stripes.

    Raises:
        ValueError: They cannot; the message names the numbers of stripes that could.
    """
    if any(height % stripes for height in heights):
        possible = [number for number in range(1, min(heights) + 1) if not any(height % number for height in heights)]
        maps = "feature maps of " + " and ".join(str(height) for height in heights) + " rows"
        raise ValueError(f"stripes={stripes} does not divide {maps}: choose of {possible}, or another image height")


def _tokens(embedded: Tensor, group: int) -> Tensor:
    """``[B T, C', h, w]`` to ``[B T/group, 1, group h w, C']``; no copy where the memory is channels-last."""
    tokens: Tensor = embedded.unflatten(0, (-1, group)).permute(0, 1, 3, 4, 2).flatten(1, 3).unsqueeze(1)
    return tokens.contiguous()  # a last stride other than 1 would send the attention to the kernel that writes all its weights


def _frames(tokens: Tensor, like: Tensor) -> Tensor:
    """The way back, to the number of frames, h and w of ``like [B T, C, h, w]``."""
    count, _, height, width = like.shape
    return tokens.reshape(count, height, width, tokens.shape[-1]).permute(0, 3, 1, 2)
