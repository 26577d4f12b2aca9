"""Arrays that arrive over Flower: looked at before they are decoded, and decoded as nothing but what was expected."""

from __future__ import annotations

import reprlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from lightning_reid.federated.sharing import AllowList, TensorKind

_MAGIC = b"\x93NUMPY\x01\x00"
"""Begins a file of NumPy's first format, the one that plain arrays are written in; two bytes with the header's length follow."""
_PREFIX = len(_MAGIC) + 2


def read_arrays(record: ArrayRecord, allowed: AllowList) -> dict[str, Tensor]:
    """The tensors of a record that holds what is on the list, and nothing else.

    Names are compared before any array is looked at, and its type, shape and length before it is decoded. No header is parsed: it must be
    what NumPy writes for the tensor that is expected, so that neither a false size nor a pickle is ever followed.

    Args:
        record: From outside.
        allowed: Names, shapes and dtypes that are expected, all of them.

    Raises:
        ValueError: An array is missing, not on the list, or not what the list says; the message names it.
    """
    for name, array in record.items():
        if name not in allowed.kinds:
            told = f"{reprlib.repr(array.dtype)} of shape {reprlib.repr(array.shape)}"
            raise ValueError(f"{reprlib.repr(name)}, {told}, is not on the list of what may be shared")
    missing = [name for name in allowed.kinds if name not in record]
    if missing:
        raise ValueError(f"{len(missing)} of {len(allowed.kinds)} shared tensors are missing, the first is {missing[0]}")
    return {name: _decoded(name, record[name], kind) for name, kind in allowed.kinds.items()}


def _decoded(name: str, array: Array, kind: TensorKind) -> Tensor:
    dtype = torch.empty(0, dtype=kind.dtype).numpy().dtype
    if (array.dtype, array.shape, array.stype) != (str(dtype), kind.shape, "numpy.ndarray"):
        told = ", ".join(map(reprlib.repr, (array.dtype, array.shape, array.stype)))
        raise ValueError(f"{name} must be {dtype} of shape {list(kind.shape)}, got {told}")
    start = len(array.data) - kind.num_bytes
    if start < _PREFIX:
        raise ValueError(f"{name} must have {kind.num_bytes} bytes and a header, got {len(array.data)} bytes")
    head = array.data[:start]
    order = _order(head, dtype, kind.shape)
    if order is None:
        raise ValueError(f"{name} does not begin as NumPy writes {dtype} of shape {list(kind.shape)}, got {reprlib.repr(head)}")
    found: npt.NDArray[np.generic] = np.ndarray(kind.shape, dtype, array.data, start, order=order)
    if kind.dtype == torch.bool and (found.view(np.uint8) > 1).any():
        raise ValueError(f"{name} holds truth values that are neither 0 nor 1")
    return torch.from_numpy(np.array(found, order="C"))


def _order(head: bytes, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Literal["C", "F"] | None:
    """In which order the numbers lie, by the head of a file; ``None`` where that is not the head of such an array."""
    if head[: len(_MAGIC)] != _MAGIC or int.from_bytes(head[len(_MAGIC) : _PREFIX], "little") != len(head) - _PREFIX:
        return None
    orders: dict[bool, Literal["C", "F"]] = {False: "C", True: "F"}  # by whether the header says that it is Fortran's
    heads = {f"{{'descr': {dtype.str!r}, 'fortran_order': {key}, 'shape': {shape}, }}".encode(): order for key, order in orders.items()}
    return heads.get(head[_PREFIX:].rstrip())
