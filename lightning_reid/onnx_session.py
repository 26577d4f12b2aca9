"""ONNX files, opened by onnxruntime (extra ``onnx``)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any


def onnx_module(module: str) -> Any:
    """A module of onnx, onnxscript or onnxruntime.

    Raises:
        ModuleNotFoundError: The extra ``onnx`` is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        told = "ONNX files need onnx, onnxscript and onnxruntime: pip install 'lightning-reid[onnx]'"
        raise ModuleNotFoundError(told, name=error.name) from error


def open_session(path: str | Path, num_threads: int | None = None) -> Any:
    """A session of onnxruntime, on the best device that it has.

    Args:
        path: The ``.onnx`` file.
        num_threads: CPU threads; ``None`` for all cores.

    Raises:
        ModuleNotFoundError: The extra ``onnx`` is not installed.
        ValueError: The file is no network; the message names it.
    """
    runtime = onnx_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    try:
        return runtime.InferenceSession(str(path), options, providers=runtime.get_available_providers())
    except Exception as error:  # each of onnxruntime's is a class of its own
        raise ValueError(f"{path} is no ONNX network that onnxruntime can run: {error}") from error
