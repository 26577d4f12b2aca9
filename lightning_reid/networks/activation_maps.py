"""Where in a picture the last feature map of a network is strong, and how alike the halves of two people are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.normalization import as_network_input


class ActivationMaps(NamedTuple):
    """What ``activation_maps`` finds in B pictures.

    Attributes:
        strength: ``[B, h, w]`` float32 in [0, 1]: the length of the feature at each position, over the longest of its picture.
        halves: ``[B, 2, D]`` float32, the pooled upper and lower half, each of length 1.
    """

    strength: Tensor
    halves: Tensor


@torch.no_grad()
def activation_maps(network: EmbeddingNetwork, images: Tensor) -> ActivationMaps:
    """Look at the feature map that is pooled into the embedding. It is no attention: the network has not learned to look anywhere.

    Args:
        network: Of images; in evaluation mode for the time of the pass.
        images: ``[B, 3, H, W]``, uint8 or normalized, in the size that the network takes.

    Raises:
        ValueError: The feature map has one row, and no halves.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import EmbeddingNetwork, build_backbone
        >>> from lightning_reid.networks.activation_maps import activation_maps
        >>> network = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]))
        >>> found = activation_maps(network, torch.randint(256, (2, 3, 64, 32), dtype=torch.uint8))
        >>> found.strength.shape, found.halves.shape
        (torch.Size([2, 4, 2]), torch.Size([2, 2, 16]))
    """
    with evaluating(network):
        feature_map = network.backbone(as_network_input(images, network.dtype))
        halves = network.parts(feature_map, len(images))
    lengths = torch.linalg.vector_norm(feature_map.float(), dim=1)
    longest = lengths.amax((1, 2), keepdim=True)
    return ActivationMaps(lengths / longest.clamp_min(torch.finfo(torch.float32).tiny), F.normalize(halves.float(), dim=2))
