"""Where a video network looks: how much attention each position of a clip gets in the last place where it attends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_reid.networks.evaluating import evaluating
from lightning_reid.networks.video.axial_attention import AxialAttention
from lightning_reid.networks.video.cfaan import CoarseToFineAxialAttention
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.networks.video.non_local import NonLocalBlock


class AttentionMaps(NamedTuple):
    """What ``attention_maps`` finds in B clips.

    Attributes:
        received: ``[B, T', h, w]`` float32 in [0, 1], over the largest of each clip; T' frames are left where it attends.
        looks: Who looks at whom, in words.
    """

    received: Tensor
    looks: str


@torch.no_grad()
def attention_maps(network: VideoNetwork, clips: Tensor) -> AttentionMaps | None:
    """The attention that is received in the last attention module; ``None`` in a network without any.

    Of CF-AAN it is the attention along the height at the finest of its scales, mean over the heads: a share of each column by itself.

    Args:
        network: In evaluation mode for the time of the pass.
        clips: ``[B, T, 3, H, W]``, uint8 or normalized.

    Raises:
        ValueError: As the network, of the clips.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import STENVAN
        >>> from lightning_reid.networks.video.attention_maps import attention_maps
        >>> network = STENVAN("resnet18", stripes=4, channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])
        >>> found = attention_maps(network, torch.rand(2, 4, 3, 64, 32))  # of four frames two are left, of which stripes look at stripes
        >>> found.received.shape, found.looks
        (torch.Size([2, 2, 4, 1]), 'stripes at stripes')
    """
    modules = [module for stage in range(1, len(network.stages.stages) + 1) for module in network.attention_after(stage)]
    last = modules[-1] if modules else None
    with evaluating(network):
        if isinstance(last, NonLocalBlock):
            shares = last.received_attention(_input_of(last, network, clips))
            looks = "positions at positions" if last.stripes is None else "stripes at stripes"
        elif isinstance(last, CoarseToFineAxialAttention):
            shares, looks = _along_the_height(last, network, clips), "positions at their column"
        else:
            return None
    largest = shares.amax((1, 2, 3), keepdim=True)
    return AttentionMaps((shares / largest.clamp_min(torch.finfo(shares.dtype).tiny)).float(), looks)


def _along_the_height(module: CoarseToFineAxialAttention, network: VideoNetwork, clips: Tensor) -> Tensor:
    height = module.get_submodule("scales.0.axes.0")
    assert isinstance(height, AxialAttention)
    seen = _input_of(height, network, clips)
    batch, frames, _, _, width = seen.shape
    lines = height.attention_weights(seen).mean((1, 2))  # [B T W, H], ordered by clip, frame and column
    shares: Tensor = lines.unflatten(0, (batch, frames, width)).mT
    return shares


def _input_of(module: nn.Module, network: VideoNetwork, clips: Tensor) -> Tensor:
    """What a module is given when the network sees the clips."""
    given: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        network.feature_map(clips)
    finally:
        handle.remove()
    return given[-1]
