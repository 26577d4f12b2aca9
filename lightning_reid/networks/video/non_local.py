"""Non-local video networks: every position of a clip looks at every other (NVAN), or every body stripe at every other stripe (STE-NVAN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_count, require_switch
from lightning_reid.networks.backbones import Backbone, built_backbone
from lightning_reid.networks.stages import stages_of
from lightning_reid.networks.video.network import VideoNetwork

NON_LOCAL_BLOCKS = (0, 2, 3, 0)
"""Non-local blocks per stage, after conv3_3, conv3_4, conv4_4, conv4_5 and conv4_6 of a ResNet-50: after the last blocks of a stage."""

REDUCED_STAGES = (2, 3)
"""Stages (conv3 and conv4) that end in the second and in the fifth non-local block, after which frames are halved."""


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
        looking = self._looking(frames)
        query = _tokens(self.theta(looking), group)
        key, value = (_tokens(self.subsample(embed(looking)), group) for embed in (self.phi, self.g))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        answers: Tensor = self.bn(self.w_z(_frames(attended, looking)))
        if self.stripes is None:
            refined: Tensor = frames + answers
        else:
            refined = (frames.unflatten(2, (self.stripes, -1)) + answers.unsqueeze(3)).flatten(2, 3)
        return refined.unflatten(0, (batch, length))  # type: ignore[no-any-return]

    def received_attention(self, clips: Tensor) -> Tensor:
        """What share of the attention of its group each position gets, mean over who looks: ``[B, T, C, H, W]`` to ``[B, T, h, w]``.

        h and w are those of what is looked at: S and 1 with stripes, half of H and W with ``subsample``. The shares of a group sum to 1.
        """
        group = self.frames_per_group or clips.shape[1]
        looking = self._looking(clips.flatten(0, 1))
        seen = self.subsample(self.phi(looking))
        weights = (_tokens(self.theta(looking), group) @ _tokens(seen, group).mT).softmax(-1).mean(2)
        return weights.reshape(*clips.shape[:2], *seen.shape[2:])

    def _looking(self, frames: Tensor) -> Tensor:
        return frames if self.stripes is None else stripe_means(frames, self.stripes)

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


class NVAN(VideoNetwork):
    """Non-local Video Attention Network: five non-local blocks in a ResNet-50. Clips ``[B, T, 3, H, W]`` to ``[B, 2048]``.

    A fresh NVAN gives exactly the embeddings of its backbone alone (``VideoResNet50``).

    Source: NVAN, sections 2.2.1 and 2.3.1, figure 2.1.

    Args:
        backbone: timm's name of a ResNet or ConvNeXt, or one built already.
        non_local_blocks: How many in each of the four stages, after its last blocks; ``None`` takes the text's (0, 2, 3, 0), in
            a stage with fewer blocks one after each (resnet18: (0, 2, 2, 0)). Table 2.3 has (0, 0, 1, 0) and (0, 1, 2, 0) as well.
        stem_relu: ``False`` for the released networks, which have no ReLU after the first BatchNorm.
        **backbone_options: Of ``build_backbone`` for a name: ``pretrained``, ``weights`` (neither: random), ``last_stride``, timm's own.

    Raises:
        ValueError: See ``build_backbone`` and ``VideoNetwork``.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import NVAN
        >>> network = NVAN("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]).eval()
        >>> network(torch.rand(2, 4, 3, 64, 32)).embedding.shape  # two clips of four frames
        torch.Size([2, 16])
    """

    name = "nvan"

    def __init__(
        self,
        backbone: str | Backbone = "resnet50",
        *,
        non_local_blocks: Sequence[int] | None = None,
        stem_relu: bool = True,
        **backbone_options: Any,
    ) -> None:
        built = built_backbone(backbone, **backbone_options)
        super().__init__(built, attention=_non_local(built, non_local_blocks), stem_relu=stem_relu)
        self.options = {"non_local_blocks": _listed(non_local_blocks), "stem_relu": stem_relu}


class STENVAN(VideoNetwork):
    """Spatially and Temporally Efficient NVAN: attention between body stripes, frames halved after conv3 and conv4 (T 8, 4, 2).

    Clips ``[B, T, 3, H, W]`` to ``[B, 2048]``, T a multiple of 4. Each reduction can be had alone; without both it is ``NVAN``.

    Source: STE-NVAN, section 2.2.2, figures 2.3 and 2.4. In the released code of the whole STE-NVAN attention stays within pairs of
    neighboring frames, against the text; ``STENVAN(stem_relu=False, pairwise=True)`` is that network.

    Args:
        backbone: timm's name of a ResNet or ConvNeXt, or one built already.
        stripes: S, a divisor of the heights of the feature maps with attention (H/8 and H/16); ``None`` attends between positions.
        temporal_reduction: Halve the frames after stages 2 and 3, or after the stages named: (3,) is "+stage 4" of table 2.5, which
            counts as the text does (conv4). ``False`` keeps all frames.
        pairwise: Attend only within pairs of neighboring frames, instead of over all current frames.
        non_local_blocks: See ``NVAN``.
        stem_relu: ``False`` for the released networks, which have no ReLU after the first BatchNorm.
        **backbone_options: Of ``build_backbone`` for a name: ``pretrained``, ``weights`` (neither: random), ``last_stride``, timm's own.

    Raises:
        ValueError: See ``build_backbone`` and ``VideoNetwork``; or (when called) ``stripes`` does not divide the feature maps, T is
            odd where attention is pairwise, or no multiple of 2 for each halving.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import STENVAN
        >>> network = STENVAN("resnet18", stripes=4, channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]).eval()
        >>> network(torch.rand(2, 4, 3, 64, 32)).embedding.shape  # two clips of four frames
        torch.Size([2, 16])
    """

    name = "stenvan"

    def __init__(
        self,
        backbone: str | Backbone = "resnet50",
        *,
        stripes: int | None = 16,
        temporal_reduction: bool | Sequence[int] = True,
        pairwise: bool = False,
        non_local_blocks: Sequence[int] | None = None,
        stem_relu: bool = True,
        **backbone_options: Any,
    ) -> None:
        require_switch("pairwise", pairwise)
        if not isinstance(temporal_reduction, list | tuple):
            require_switch("temporal_reduction", temporal_reduction)
        built = built_backbone(backbone, **backbone_options)
        attention = _non_local(built, non_local_blocks, stripes=stripes, frames_per_group=2 if pairwise else None)
        halved_after = (REDUCED_STAGES if temporal_reduction else ()) if isinstance(temporal_reduction, bool) else temporal_reduction
        super().__init__(built, attention=attention, halved_after=halved_after, stem_relu=stem_relu)
        self.stripes = stripes
        self.options = {
            **{"stripes": stripes, "temporal_reduction": _listed(temporal_reduction), "pairwise": pairwise},
            **{"non_local_blocks": _listed(non_local_blocks), "stem_relu": stem_relu},
        }

    @override
    def check_clips(self, clips: Tensor) -> None:
        if self.stripes is not None and clips.ndim == 5:
            require_divisor(self.stripes, self._attended_heights(clips.shape[3]))
        super().check_clips(clips)

    def _attended_heights(self, image_height: int) -> tuple[int, ...]:
        """Rows of the feature maps with attention, so far as the strides alone tell; the blocks check the rest themselves."""
        attended = [stage for number, stage in enumerate(self.stages.stages, start=1) if len(self.attention_after(number))]
        strides = [min(stage.stride, self.backbone.stride) for stage in attended]
        return tuple(image_height // stride for stride in strides if image_height % stride == 0)


def _listed(told: bool | Sequence[int] | None) -> bool | list[int] | None:
    return list(told) if isinstance(told, Sequence) else told


def _non_local(
    backbone: Backbone, counts: Sequence[int] | None, *, stripes: int | None = None, frames_per_group: int | None = None
) -> dict[int, list[NonLocalBlock]]:
    """The non-local blocks of each stage by its number, from 1; see ``NVAN`` for ``counts``."""
    stages = stages_of(backbone.trunk).stages
    if counts is None:
        counts = [min(count, len(stage.blocks)) for count, stage in zip(NON_LOCAL_BLOCKS, stages)]
    if len(counts) != len(stages) or min(counts) < 0:
        raise ValueError(f"non_local_blocks must hold a number, at least 0, for each of {len(stages)} stages, got {list(counts)}")
    return {
        number: [NonLocalBlock(stage.channels, stripes=stripes, frames_per_group=frames_per_group) for _ in range(count)]
        for number, (count, stage) in enumerate(zip(counts, stages), start=1)
    }
