"""Embeddings of crops for linking: by a network of its own, or by the module under training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from lightning_reid.linking.alignment import EmbedCrops
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.embedding_pass import Precision, embedding_pass
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.normalization import IMAGENET_MEAN, IMAGENET_STD


def crop_embedder(
    network: nn.Module,
    forward: Callable[[Tensor], EmbeddingOutput],
    image_size: tuple[int, int],
    device: torch.device,
    *,
    precision: Precision = nullcontext,
) -> EmbedCrops:
    """Crops ``[3, h, w]`` uint8 RGB to L2-normalized embeddings ``[n, D]``, as distances are taken in retrieval.

    Args:
        network: What is in evaluation mode while it embeds.
        forward: ImageNet-normalized images ``[n, 3, H, W]`` on ``device`` to what a forward pass gives.
        image_size: (H, W) in pixels.
        device: Where ``forward`` computes.
        precision: What forward passes run in.
    """
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def embed(crops: list[Tensor]) -> Tensor:
        images = torch.stack([functional.resize_image(crop, list(image_size), antialias=True) for crop in crops]).to(device)
        ((_, output),) = embedding_pass(network, [(images.float() / 255 - mean) / std], forward, precision=precision)
        return F.normalize(output.embedding, dim=1)

    return embed


@contextmanager
def network_embedder(network: EmbeddingNetwork, image_size: tuple[int, int], device: torch.device) -> Iterator[EmbedCrops]:
    """A network as ``crop_embedder`` for the time of a block, after which it is back where it was; one of clips gets clips of one frame."""
    home = next(network.parameters()).device

    def forward(images: Tensor) -> EmbeddingOutput:
        output: EmbeddingOutput = network(images.unsqueeze(1) if isinstance(network, VideoNetwork) else images)
        return output

    try:
        network.to(device)
        yield crop_embedder(network, forward, image_size, device)
    finally:
        network.to(home)


def module_embedder(trainer: pl.Trainer, module: pl.LightningModule, image_size: tuple[int, int], clip_length: int) -> EmbedCrops:
    """The module under training, to which each crop is a clip of ``clip_length`` equal frames, as ``crop_embedder``."""

    def forward(images: Tensor) -> EmbeddingOutput:
        embeddings: Tensor = module(images.unsqueeze(1).expand(-1, clip_length, -1, -1, -1))
        return EmbeddingOutput(embeddings, embeddings)

    return crop_embedder(module, forward, image_size, module.device, precision=trainer.precision_plugin.forward_context)
