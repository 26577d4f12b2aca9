"""Which tensors a file may hold: plain ones, of the kinds that networks are made of, and as large as they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_reid.arguments import shown

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64)
"""Of counters and tables of positions."""
LARGEST_VIEW = 100_000_000
"""Numbers of a tensor that repeats fewer: a file of a few bytes may claim any number of them."""


def check_told_tensors(tensors: Mapping[Any, Any], path: str | Path) -> None:
    """Check a state dict that a file holds.

    Args:
        tensors: By name; values that are no tensors are passed over.
        path: The file, for the message.

    Raises:
        ValueError: A name is no text, or a tensor is none that weights can be taken from; the message names it.
    """
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} names a tensor {shown(name)}: expected text, as model.state_dict() has it")
        fault = fault_of(tensor) if isinstance(tensor, Tensor) else None
        if fault is not None:
            raise ValueError(f"{path} holds {name!r} as {fault}, which is no weight: save model.state_dict() of the trained network itself")


def stored_numbers(*tensors: Tensor) -> int:
    """How many numbers tensors really hold: an expanded one repeats them, and several names may be of the same ones."""
    claimed, stored = Counter[int](), dict[int, int]()
    for tensor in tensors:
        if tensor.layout == torch.strided and not tensor.is_meta:
            storage = tensor.untyped_storage()
            claimed[storage.data_ptr()] += tensor.numel()
            stored[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
    return sum(min(claimed[place], numbers) for place, numbers in stored.items())


def fault_of(tensor: Tensor) -> str | None:
    """Why a tensor cannot be a weight, as the end of a sentence; ``None`` of one that can."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"a {'quantized' if tensor.is_quantized else 'sparse'} tensor"
    if tensor.is_meta:
        return "a tensor without values (of the device meta)"
    if tensor.dtype not in (*FLOATS, *WHOLE):
        return f"{tensor.dtype}".replace("torch.", "numbers of the kind ")
    if tensor.numel() > max(LARGEST_VIEW, stored_numbers(tensor)):
        return f"a tensor {list(tensor.shape)} over the storage of {tensor.untyped_storage().nbytes():,} bytes"
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        return "a tensor with NaN or infinite numbers, of a training that diverged"
    return None


def check_fitting(own: Mapping[str, Tensor], tensors: Mapping[str, Any]) -> None:
    """Check that tensors which find their place by name have its shape, and are whole numbers where it has whole numbers.

    Args:
        own: Of the network.
        tensors: That are to be loaded into it; those of other names are left to what loads them.

    Raises:
        ValueError: One does not fit; the message names it.
    """
    for name, here in own.items():
        theirs = tensors.get(name, here)
        of_one = isinstance(theirs, Tensor) and theirs.numel() == 1 and here.ndim == 0  # counters, as old files have them
        if not isinstance(theirs, Tensor) or (theirs.shape != here.shape and not of_one):
            got = list(theirs.shape) if isinstance(theirs, Tensor) else shown(theirs)
            raise ValueError(
                f"{name} is {got} there, and {list(here.shape)} in this network: the weights are of another network, or of another"
                " number of identities"
            )
        if theirs.is_floating_point() != here.is_floating_point() or theirs.is_complex():
            raise ValueError(f"{name} holds {theirs.dtype} there, and {here.dtype} in this network: they are no weights of it")
