"""Networks as ONNX files, written only if they give what PyTorch gives. Needs the extra ``onnx``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_reid.files import write_atomically
from lightning_reid.inference.capture import BATCH, Embedder, captured
from lightning_reid.inference.latency import median_milliseconds
from lightning_reid.inference.parity import TOLERANCE, require_parity
from lightning_reid.inference.told_by_file import WEIGHTS_WORD, weights_digest
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.onnx_session import onnx_module

INPUT, OUTPUT = "input", "embedding"
MOST_BYTES = 2**31 - 2**24
"""Of weights: a file of ONNX, a message of protobuf, holds less than 2 GB in all."""
_FOLDED = 2**24
"""Numbers of a constant that is computed beforehand, at most."""


def export_onnx(network: nn.Module, path: str | Path, inputs: Tensor, *, tolerance: float = TOLERANCE) -> float:
    """Export a network with a free batch size, compare its embeddings with PyTorch's, and keep the file if they agree.

    The file has one input ``input [batch, ...]`` float32, normalized as for training, and one output ``embedding [batch, D]`` float32, not
    L2-normalized. ``export_network`` writes one that takes pixels.

    Args:
        network: Images or clips to embeddings; moved to the CPU, in evaluation mode while it is exported.
        path: ``.onnx`` file to write; an older one stays as it is where an error is raised.
        inputs: ``[B, 3, H, W]`` or ``[B, T, 3, H, W]`` float, B at least 2: real crops to compare on, as a batch and the first alone.
        tolerance: Largest absolute difference that is allowed.

    Returns:
        The largest absolute difference found.

    Raises:
        ImportError: The extra ``onnx`` is not installed.
        ValueError: Fewer than two inputs, or the network takes no batch of any size, or its weights are too large for one file.
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
    embedder, inputs = Embedder(network).cpu(), inputs.cpu().float()
    with evaluating(embedder), torch.inference_mode():
        expected = embedder(inputs).numpy()
    largest = 0.0

    def write(file: Path) -> None:
        nonlocal largest
        file.write_bytes(onnx_content(embedder, inputs))
        session, batches = onnx_session(file), (len(inputs), 1)
        largest = require_parity(
            path, lambda some: run_session(session, some), inputs.numpy(), expected, batches=batches, tolerance=tolerance
        )

    write_atomically(Path(path), write)
    return largest


def onnx_content(embedder: Embedder, inputs: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of an ONNX file of a network on the CPU, whose batch is free.

    Args:
        embedder: Of one tensor.
        inputs: ``[B, ...]`` of the shape that it takes, B at least 2.
        metadata: Words that the file tells of itself.

    Raises:
        ModuleNotFoundError: The extra ``onnx`` is not installed.
        ValueError: The network takes no batch of any size, or its weights are too large for one file.
    """
    onnx_module("onnxscript")
    weights = sum(tensor.numel() * tensor.element_size() for tensor in embedder.state_dict().values())
    if weights > MOST_BYTES:
        raise ValueError(f"its weights take {weights / 1e9:.1f} GB, and one ONNX file holds less than 2.1: take the format torch-export")
    program = captured(embedder, inputs)
    # torch.onnx would capture it too, and where that fails write one for batches of this size alone, and say nothing
    exported = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    assert exported is not None  # with dynamo=True it is returned
    # what hangs on weights alone, such as position embeddings at this size, is computed now: OpenVINO resizes them in another way
    onnx_module("onnxscript.optimizer").fold_constants(exported.model, input_size_limit=_FOLDED, output_size_limit=_FOLDED)
    model = exported.model_proto
    _name_batch(model.graph)
    words = dict(metadata) | {WEIGHTS_WORD: weights_digest(model)} if metadata else {}
    onnx_module("onnx").helper.set_model_props(model, words)
    content: bytes = model.SerializeToString()
    return content


def _name_batch(graph: Any) -> None:
    """Call the free size by its name, where torch has given it a number."""
    own = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(own)}\b", BATCH, dim.dim_param)


def onnx_milliseconds(path: str | Path, input_shape: tuple[int, ...], *, repetitions: int = 10) -> float:
    """Median time of a run of an exported network on the CPU, of zeros of ``input_shape``, after two that warm up."""
    session, inputs = onnx_session(Path(path)), np.zeros(input_shape, dtype=np.float32)
    return median_milliseconds(lambda: run_session(session, inputs), repetitions=repetitions)


def run_session(session: Any, inputs: np.ndarray) -> np.ndarray:
    """The embeddings ``[B, D]`` that an exported network gives for a batch."""
    return np.asarray(session.run(None, {INPUT: inputs})[0])


def onnx_session(path: Path, num_threads: int = 0) -> Any:
    """A session of onnxruntime on the CPU, with ``num_threads``, or as many as it likes."""
    runtime = onnx_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
