"""A network as a function of crops: what trackers ask it for, a handful of crops at a time, or the clip of one person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.datamodules.transforms import resized
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.backbones import PERSON_SIZE
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.normalization import normalize_images


def crop_embedder(network: EmbeddingNetwork, image_size: tuple[int, int] | None = None) -> Callable[[Sequence[Tensor]], Tensor]:
    """The function that embeds crops ``[3, h, w]`` uint8 RGB, of any sizes, as ``[n, D]`` of length 1, on the network's device.

    Args:
        network: Put into evaluation mode.
        image_size: (height, width) in pixels that crops are resized to; ``None`` is what the network was trained with, 256x128 where it
            does not say.

    Example:
        >>> import torch
        >>> from lightning_reid import from_pretrained
        >>> from lightning_reid.inference import crop_embedder
        >>> embed = crop_embedder(from_pretrained())
        >>> embed([torch.zeros(3, 90, 40, dtype=torch.uint8), torch.full((3, 60, 30), 200, dtype=torch.uint8)]).shape
        torch.Size([2, 192])
    """
    size, device = image_size or network.image_size or PERSON_SIZE, next(network.parameters()).device
    network.eval()

    @torch.inference_mode()
    def embed(crops: Sequence[Tensor]) -> Tensor:
        images = torch.stack([resized(crop, *size) for crop in crops]).to(device)
        return F.normalize(network(normalize_images(images)).embedding, dim=1).cpu()

    return embed


def clip_embedder(network: VideoNetwork, image_size: tuple[int, int] | None = None) -> Callable[[Sequence[Tensor]], Tensor]:
    """The function that embeds the T crops of a clip, ``[3, h, w]`` uint8 RGB of any sizes, as one ``[D]`` of length 1.

    Args:
        network: Put into evaluation mode. It must take clips of as many frames as it is given.
        image_size: (height, width) in pixels that crops are resized to; ``None`` is what the network was trained with, 256x128 where it
            does not say.

    Example:
        >>> import torch
        >>> from lightning_reid.inference import clip_embedder
        >>> from lightning_reid.networks import VideoResNet50
        >>> embed = clip_embedder(VideoResNet50("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]), (64, 32))
        >>> embed([torch.zeros(3, 90, 40, dtype=torch.uint8), torch.full((3, 60, 30), 200, dtype=torch.uint8)]).shape
        torch.Size([16])
    """
    size, device = image_size or network.image_size or PERSON_SIZE, next(network.parameters()).device
    network.eval()

    @torch.inference_mode()
    def embed(crops: Sequence[Tensor]) -> Tensor:
        clip = torch.stack([resized(crop, *size) for crop in crops]).to(device)
        return F.normalize(network(normalize_images(clip)[None]).embedding[0], dim=0).cpu()

    return embed
