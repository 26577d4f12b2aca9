"""Networks as graphs of torch.export that take a batch of any size, or are refused by name."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from typing_extensions import override

from lightning_reid.networks.channels.groups import first_tensor
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.normalization import scale_and_shift

BATCH = "batch"
"""What the free size is called in files."""
_LEAST_LENGTH = 1e-12


class Embedder(nn.Module):
    """The embedding alone: normalized floats, as networks are trained on, to embeddings of any length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return first_tensor(self.network(inputs))


class PixelEmbedder(Embedder):
    """RGB pixels in 0..255, uint8, to embeddings of length 1."""

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        scale, shift = scale_and_shift(inputs.device)  # as networks do it themselves, but not in place, which older torch.export refuses
        embeddings = super().forward(inputs.to(torch.float32) * scale + shift)
        return embeddings / embeddings.square().sum(1, keepdim=True).sqrt().clamp(min=_LEAST_LENGTH)  # what older onnxscript can write


def captured(embedder: Embedder, inputs: Tensor) -> ExportedProgram:
    """The graph of a network that is in evaluation mode, for any number of inputs of one shape.

    Args:
        embedder: Of one tensor.
        inputs: ``[B, ...]``, B at least 2: of a batch of one torch would take the size for fixed.

    Raises:
        ValueError: It cannot be written as a graph, or only as one for batches of this size.
    """
    # in the plain layout: what is a view of channels-last maps is none to torch.onnx, which runs the graph again without their strides
    plain = copy.deepcopy(embedder).to(memory_format=torch.contiguous_format)
    try:
        # not strict: the network is run by Python itself, whose ways no second reading of its code need understand
        with evaluating(plain), torch.no_grad():
            return torch.export.export(plain, (inputs,), dynamic_shapes=({0: Dim(BATCH)},), strict=False)
    except Exception as error:  # torch's are of many classes
        name, told = type(embedder.network).__name__, str(error).strip().splitlines()[0]
        backbone = getattr(getattr(embedder.network, "backbone", None), "name", None)
        what = f"the {name} with {backbone}" if backbone else f"the {name}"
        raise ValueError(f"torch.export makes no graph of {what} that takes batches of any size: {told}") from error
