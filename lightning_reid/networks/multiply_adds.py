"""What a forward pass costs, counted exactly without computing it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

LAYERS = ("aten.convolution", "aten._convolution", "aten.addmm", "aten.mm")
"""The operations that convolutions and linear layers come down to; every other product is one between activations."""


class MultiplyAdds(NamedTuple):
    """Multiply-adds of one forward pass; normalization, activation, bias and pooling count nothing.

    Attributes:
        layers: Of convolutions and linear layers, the 1 x 1 convolutions of attention among them.
        attention: Of products between activations: queries with keys, attention weights with values.
    """

    layers: int
    attention: int

    @property
    def total(self) -> int:
        """All multiply-adds, of layers and attention together."""
        return self.layers + self.attention


def count_multiply_adds(network: nn.Module, input_shape: Sequence[int]) -> MultiplyAdds:
    """Count the multiply-adds of ``network`` in evaluation mode, on torch's meta device: nothing is computed, ``network`` stays unchanged.

    Args:
        network: Takes one tensor.
        input_shape: Shape of that tensor, e.g. ``(1, 8, 3, 256, 128)`` for a clip of 8 frames.

    Example:
        >>> from torch import nn
        >>> from lightning_reid.networks import count_multiply_adds
        >>> count_multiply_adds(nn.Conv2d(3, 8, kernel_size=3, padding=1), (1, 3, 10, 10))  # 3 * 3 * 3 * 8 for each of 100 positions
        MultiplyAdds(layers=21600, attention=0)
    """
    unreal = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        unreal(torch.empty(*input_shape, device="meta"))
    flops = {str(operation): count for operation, count in counter.get_flop_counts()["Global"].items()}
    layers = sum(count for operation, count in flops.items() if operation.removesuffix(".default") in LAYERS)
    return MultiplyAdds(layers // 2, (sum(flops.values()) - layers) // 2)  # a multiply-add is two floating-point operations
