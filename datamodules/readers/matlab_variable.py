"""One matrix of whole numbers out of a MATLAB file, as evaluation codes of video sets keep their lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lightning_reid.datamodules.readers.ids import LARGEST
from lightning_reid.datamodules.readers.matlab_file import Unread, Value, read_variable

_LARGEST_EXACT = 2**53
"""From here on floats take neighboring numbers for one."""


def read_integers(path: Path, variable: str) -> npt.NDArray[np.int64]:
    """The matrix ``variable`` of a ``.mat`` file (version 5 to 7.2), as int64, of at least two dimensions as MATLAB keeps it.

    Raises:
        OSError: The file cannot be read; ``FileNotFoundError`` where there is none.
        ValueError: The file is damaged or of another version, has no such variable, or the variable is no matrix of whole numbers.
    """
    return whole_numbers(read_variable(path, variable), f"{path}: {variable}")


def whole_numbers(value: Value, where: str) -> npt.NDArray[np.int64]:
    """The numbers of a value as int64, none of them rounded or cut to fit.

    Raises:
        ValueError: It is no matrix of numbers, or one of them is a fraction, not finite or too large; the message begins with ``where``.
    """
    if not isinstance(value, np.ndarray):
        told = value.kind if isinstance(value, Unread) else "cells or structures"
        raise ValueError(f"{where} must be a matrix of whole numbers, got {told}")
    # of NaN neither comparison is true
    wrong = ~((np.abs(value) < _LARGEST_EXACT) & (value == np.trunc(value))) if value.dtype.kind == "f" else value > LARGEST
    if wrong.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
        told = ", ".join(str(index + 1) for index in place)
        raise ValueError(f"{where} must be a matrix of whole numbers, got {value[place]} at ({told}) and {wrong.sum() - 1} more such")
    return value.astype(np.int64)
