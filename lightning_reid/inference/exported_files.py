"""The formats of exported networks: how each is written, and how it is run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.arguments import require_choice
from lightning_reid.files import write_atomically
from lightning_reid.inference.capture import Embedder, captured
from lightning_reid.inference.onnx_export import onnx_content, onnx_session, run_session
from lightning_reid.inference.told_by_file import SPACE, ToldByFile
from lightning_reid.onnx_session import onnx_module

ExportFormat = Literal["onnx", "torch-export", "openvino"]
SUFFIXES = MappingProxyType({"onnx": ".onnx", "torch-export": ".pt2", "openvino": ".xml"})
EXACT = MappingProxyType({"INFERENCE_PRECISION_HINT": "f32"})
"""Of OpenVINO, which else computes in bfloat16 on CPUs that have it."""
Run = Callable[[NDArray], NDArray]
"""Pixels ``[B, ...]`` to embeddings ``[B, D]``."""


class Place(NamedTuple):
    """Where a network is to be exported to.

    Attributes:
        path: The file that is named.
        format: Of it.
        files: All that will be written: of OpenVINO the graph and, beside it, the weights.
    """

    path: Path
    format: ExportFormat
    files: tuple[Path, ...]


def place_of(path: str | Path, told: ExportFormat | None = None) -> Place:
    """The place of a file that is not there yet, in the format that its suffix, or ``told``, says.

    Raises:
        ModuleNotFoundError: The extra that the format needs is not installed.
        ValueError: The suffix is of no format, or of another, or a file is there.
    """
    require_choice("format", told, get_args(ExportFormat), optional=True)
    path, formats = Path(path), {suffix: name for name, suffix in SUFFIXES.items()}
    if told is None and path.suffix not in formats:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in formats.items())
        raise ValueError(f"{path} ends with no suffix of a format: give another OUT, with {known}")
    if told is not None and path.suffix != SUFFIXES[told]:
        raise ValueError(f"{path} is to be a file of {told}, which ends with {SUFFIXES[told]}: give another OUT, or another format")
    kind: Any = told or formats[path.suffix]
    files = (path, path.with_suffix(".bin")) if kind == "openvino" else (path,)
    for file in files:
        if os.path.lexists(file):
            raise ValueError(f"{file} exists: give another OUT")
    if kind != "torch-export":
        onnx_module("onnxscript")
    if kind == "onnx":
        onnx_module("onnxruntime")
    if kind == "openvino":
        openvino_module()
    return Place(path, kind, files)


def openvino_module() -> Any:
    """The module of OpenVINO.

    Raises:
        ModuleNotFoundError: The extra ``openvino`` is not installed.
    """
    try:
        return import_module("openvino")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("OpenVINO's files need openvino: pip install 'lightning-reid[openvino]'", name=error.name) from error


def write_exported(place: Place, embedder: Embedder, inputs: Tensor, told: ToldByFile, check: Callable[[Path], None]) -> None:
    """Write a network into a file, or two, all at once or not at all.

    Args:
        place: Where nothing is yet.
        embedder: On the CPU.
        inputs: ``[B, ...]``, B at least 2, of the shape that it is to take.
        told: What the file says of itself.
        check: Looks at the draft, and raises where it must not get its name.

    Raises:
        OSError: The disk does not take it.
        ValueError: The network takes no batch of any size, or its weights are too large for the format.
    """
    if place.format == "openvino":
        _write_openvino(place, embedder, inputs, told, check)
        return

    def write(draft: Path) -> None:
        if place.format == "onnx":
            words = {f"{SPACE}.{name}": word for name, word in told.as_words().items()}
            draft.write_bytes(onnx_content(embedder, inputs, words))
        else:
            torch.export.save(captured(embedder, inputs), draft, extra_files={f"{SPACE}.json": json.dumps(told.as_words())})
        check(draft)

    write_atomically(place.path, write)


def _write_openvino(place: Place, embedder: Embedder, inputs: Tensor, told: ToldByFile, check: Callable[[Path], None]) -> None:
    openvino, (graph, weights) = openvino_module(), place.files

    def write(draft: Path) -> None:
        beside = draft.with_suffix(".bin")
        try:
            # by way of ONNX: of torch's graphs OpenVINO cannot read the resizing of position embeddings
            with TemporaryDirectory() as folder:
                (file := Path(folder, "network.onnx")).write_bytes(onnx_content(embedder, inputs))
                model = openvino.Core().read_model(file)
                for name, word in told.as_words().items():
                    model.set_rt_info(word, [SPACE, name])
                openvino.save_model(model, draft, compress_to_fp16=False)
            check(draft)
            write_atomically(weights, lambda other: beside.replace(other))
        finally:
            beside.unlink(missing_ok=True)

    try:
        write_atomically(graph, write)
    except BaseException:
        weights.unlink(missing_ok=True)  # which nobody could read without the graph
        raise


def opened(path: Path, kind: ExportFormat, num_threads: int = 0, *, exact: bool = True) -> Run:
    """An exported network as a function, on the CPU.

    Args:
        path: Of the file, or of a draft of it.
        kind: Its format.
        num_threads: That it may take; 0 for as many as it likes. Files of torch.export take torch's.
        exact: Whether OpenVINO is to compute in float32, whatever the CPU is quickest at.
    """
    if kind == "onnx":
        session = onnx_session(path, num_threads)
        return lambda pixels: run_session(session, pixels)
    if kind == "openvino":
        threads = {"INFERENCE_NUM_THREADS": num_threads} if num_threads else {}
        compiled = openvino_module().compile_model(path, "CPU", {**(EXACT if exact else {}), **threads})
        return lambda pixels: np.asarray(compiled(pixels)[0])
    module = torch.export.load(path).module()

    def run(pixels: NDArray) -> NDArray:
        with torch.inference_mode():
            found: Tensor = module(torch.from_numpy(pixels))
        return found.numpy()

    return run
