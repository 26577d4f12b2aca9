"""Less memory for more computing: a network that keeps what goes into its blocks, and computes anew what lies within them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.repeated_blocks import repeated_blocks

Network = TypeVar("Network", bound=EmbeddingNetwork)


def checkpoint_activations(network: Network) -> Network:
    """Have a network keep, between forward and backward, the inputs of its blocks alone; each block's inside is computed anew in backward.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174). Losses and gradients stay what they are,
    and so do running statistics, which a second forward pass leaves alone; a step takes about a third longer. The names of parameters and
    buffers stay too: a checkpoint of either network loads into the other. For one process, DDP, or a network that is sharded afterwards.

    Args:
        network: Of images or of clips; it is changed in place.

    Returns:
        ``network``.

    Raises:
        ValueError: Its trunk is of a kind whose blocks are not known: neither of timm's ResNet family, nor a ConvNeXt, nor a row of
            ``blocks`` as vision transformers are.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import NVAN, checkpoint_activations
        >>> network = checkpoint_activations(NVAN("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]))
        >>> clips = torch.rand(2, 4, 3, 64, 32)
        >>> network(clips).embedding.square().sum().backward()
        >>> int(network.backbone.trunk.layer1[0].bn1.num_batches_tracked)  # once, though its block was computed twice
        1
    """
    for block in repeated_blocks(network):
        block.forward = Recomputed(block)
    return network


class Recomputed:
    """The ``forward`` of a block that keeps its inputs alone, and computes what lies within anew when gradients are asked for.

    It stands in the block itself, not around it: a module around it would change the names of its parameters. It is an object, not a
    function, so that a copy of the block gets a copy that runs the copied block.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """What the block gives."""
        forward = type(self.block).forward
        if not torch.is_grad_enabled():
            return forward(self.block, *inputs, **options)
        return checkpoint(forward, self.block, *inputs, use_reentrant=False, context_fn=self._contexts, **options)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), running_statistics_kept(self.block)


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within the block, forward passes in training leave the running statistics of every BatchNorm in ``module`` as they are."""
    kept = [(layer, layer.momentum, layer.num_batches_tracked) for layer in module.modules() if isinstance(layer, _BatchNorm)]
    for layer, *_ in kept:
        # the statistics themselves stay in place: autograd keeps them, and a second pass must keep what the first one did
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, momentum, num_batches_tracked in kept:
            layer.momentum, layer.num_batches_tracked = momentum, num_batches_tracked
