"""One pass of a network over batches: the way in which whatever embeds images or clips embeds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.evaluating import evaluating

Batch = TypeVar("Batch")
Precision = Callable[[], AbstractContextManager[object]]
"""Makes the context that forward passes run in: autocast, or a Trainer's."""


def embedding_pass(
    network: nn.Module, batches: Iterable[Batch], embed: Callable[[Batch], EmbeddingOutput], *, precision: Precision = nullcontext
) -> Iterator[tuple[Batch, EmbeddingOutput]]:
    """Embed batches in evaluation mode and without gradients; afterwards each part of the network is in the mode it was in.

    Args:
        network: What is put into evaluation mode while the pass goes on.
        batches: Normalized, and on the network's device.
        embed: A batch to what a forward pass gives of it.
        precision: Made anew for each forward pass.

    Yields:
        Each batch with its output in float32, on the network's device; not L2-normalized.
    """
    with evaluating(network):
        for batch in batches:
            with torch.no_grad(), precision():
                output = embed(batch)
            yield batch, EmbeddingOutput(output.before_bnneck.float(), output.embedding.float(), _float(output.parts))


def _float(parts: Tensor | None) -> Tensor | None:
    return None if parts is None else parts.float()
