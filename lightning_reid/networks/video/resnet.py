"""The non-local video networks: the baseline without attention, NVAN, and STE-NVAN with its two reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_reid.networks.backbones import Backbone, built_backbone
from lightning_reid.networks.stages import stages_of
from lightning_reid.networks.video.network import ClipPoolingName, VideoNetwork
from lightning_reid.networks.video.non_local import NonLocalBlock, require_divisor

NON_LOCAL_BLOCKS = (0, 2, 3, 0)
"""Non-local blocks per stage, after conv3_3, conv3_4, conv4_4, conv4_5 and conv4_6 of a ResNet-50: after the last blocks of a stage."""

REDUCED_STAGES = (2, 3)
"""Stages (conv3 and conv4) that end in the second and in the fifth non-local block, after which frames are halved."""


class VideoResNet50(VideoNetwork):
    """The baseline: ResNet-50 with last stride 1 on each frame, 3-D pooling, BNNeck. Clips ``[B, T, 3, H, W]`` to ``[B, 2048]``.

    Source: NVAN, section 2.3.2 and table 2.1.

    Args:
        backbone: timm's name of a ResNet or ConvNeXt, or one built already.
        pooling: ``"avg"`` (FPL in the text) or ``"max"`` (max-FPL).
        stem_relu: ``False`` for the released networks, which have no ReLU after the first BatchNorm.
        **backbone_options: Of ``build_backbone`` for a name: ``pretrained``, ``weights`` (neither: random), ``last_stride``, timm's own.

    Raises:
        ValueError: See ``build_backbone`` and ``VideoNetwork``.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import VideoResNet50
        >>> network = VideoResNet50("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]).eval()
        >>> network(torch.rand(2, 4, 3, 64, 32)).embedding.shape  # two clips of four frames
        torch.Size([2, 16])
    """

    def __init__(
        self, backbone: str | Backbone = "resnet50", *, pooling: ClipPoolingName = "avg", stem_relu: bool = True, **backbone_options: Any
    ) -> None:
        super().__init__(built_backbone(backbone, **backbone_options), pooling=pooling, stem_relu=stem_relu)


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
        built = built_backbone(backbone, **backbone_options)
        attention = _non_local(built, non_local_blocks, stripes=stripes, frames_per_group=2 if pairwise else None)
        halved_after = (REDUCED_STAGES if temporal_reduction else ()) if isinstance(temporal_reduction, bool) else temporal_reduction
        super().__init__(built, attention=attention, halved_after=halved_after, stem_relu=stem_relu)
        self.stripes = stripes

    @override
    def feature_map(self, clips: Tensor) -> Tensor:
        if self.stripes is not None and clips.ndim == 5:
            require_divisor(self.stripes, self._attended_heights(clips.shape[3]))
        return super().feature_map(clips)

    def _attended_heights(self, image_height: int) -> tuple[int, ...]:
        """Rows of the feature maps with attention, so far as the strides alone tell; the blocks check the rest themselves."""
        attended = [stage for number, stage in enumerate(self.stages.stages, start=1) if len(self.attention_after(number))]
        strides = [min(stage.stride, self.backbone.stride) for stage in attended]
        return tuple(image_height // stride for stride in strides if image_height % stride == 0)


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
