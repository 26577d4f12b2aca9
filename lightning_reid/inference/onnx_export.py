"""Networks as ONNX files, written only if they give what PyTorch gives. Needs the extra ``onnx``."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.files import write_atomically
from lightning_reid.networks.channels.groups import first_tensor
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.onnx_session import onnx_module

TOLERANCE = 1e-4
"""Largest difference of a number in two embeddings that counts as the same."""


class ParityError(RuntimeError):
    """An exported network gives other embeddings than the network itself."""


def export_onnx(network: nn.Module, path: str | Path, inputs: Tensor, *, tolerance: float = TOLERANCE) -> float:
    """Export a network with a free batch size, compare its embeddings with PyTorch's, and keep the file if they agree.

    The file has one input ``input [batch, ...]`` float32, normalized as for training, and one output ``embedding [batch, D]`` float32, not
    L2-normalized.

    Args:
        network: Images or clips to embeddings; moved to the CPU, in evaluation mode while it is exported.
        path: ``.onnx`` file to write; an older one stays as it is where an error is raised.
        inputs: ``[B, 3, H, W]`` or ``[B, T, 3, H, W]`` float, B at least 2: real crops to compare on, as a batch and the first alone.
        tolerance: Largest absolute difference that is allowed.

    Returns:
        The largest absolute difference found.

    Raises:
        ImportError: The extra ``onnx`` is not installed.
        ValueError: Fewer than two inputs.
        ParityError: The embeddings differ by more, or are not finite; nothing is written.

    Example:
        >>> import torch
        >>> from lightning_reid.inference import export_onnx
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> export_onnx(network, folder / "network.onnx", inputs=torch.rand(2, 3, 64, 32)) <= 1e-4  # the largest difference
        True
    """
    if len(inputs) < 2:
        raise ValueError(f"export_onnx compares a batch and its first input alone: give at least 2 inputs, got {len(inputs)}")
    onnx_module("onnxscript")
    embedder, inputs = _Embedder(network).cpu(), inputs.cpu().float()
    with evaluating(embedder), torch.inference_mode():
        expected = embedder(inputs).numpy()
    largest = 0.0

    def write(file: Path) -> None:
        nonlocal largest
        program = torch.onnx.export(
            embedder,
            (inputs,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["input"],
            output_names=["embedding"],
            verbose=False,
        )
        assert program is not None  # with dynamo=True it is returned
        program.save(str(file))
        found = [_run(file, inputs), _run(file, inputs[:1])]
        largest = max(float(np.abs(some - expected[: len(some)]).max()) for some in found)
        if not largest <= tolerance:
            raise ParityError(
                f"{path} is not written: embeddings of the exported network differ from PyTorch's by up to {largest:.2g},"
                f" {tolerance:g} is allowed"
            )

    with evaluating(embedder):
        write_atomically(Path(path), write)
    return largest


def onnx_milliseconds(path: str | Path, input_shape: tuple[int, ...], *, repetitions: int = 10) -> float:
    """Median time of a run of an exported network on the CPU, of zeros of ``input_shape``, after two that warm up."""
    session = _session(Path(path))
    inputs = np.zeros(input_shape, dtype=np.float32)
    seconds = []
    for _ in range(repetitions + 2):
        began = time.perf_counter()
        session.run(None, {"input": inputs})
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[2:])


class _Embedder(nn.Module):
    """The embedding alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return first_tensor(self.network(inputs))


def _run(path: Path, inputs: Tensor) -> NDArray[np.float32]:
    return np.asarray(_session(path).run(None, {"input": inputs.numpy()})[0])


def _session(path: Path) -> Any:
    return onnx_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
