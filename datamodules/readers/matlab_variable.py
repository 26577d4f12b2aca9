"""One matrix of whole numbers out of a MATLAB file, as evaluation codes of video sets keep their lists."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError


def read_integers(path: Path, variable: str) -> npt.NDArray[np.int64]:
    """The matrix ``variable`` of a ``.mat`` file (up to version 7.2), as int64, of at least two dimensions as MATLAB keeps it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or of version 7.3, has no such variable, or the variable is no matrix of whole numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; it should hold the matrix {variable}")
    path.open("rb").close()  # a file that may not be read says so here: below, an OSError is SciPy's word for one cut short
    try:
        names = [name for name, _, _ in whosmat(path)]
        matrix: Any = loadmat(path, variable_names=[variable]).get(variable)
    except (ValueError, TypeError, IndexError, OSError, NotImplementedError, MatReadError, zlib.error) as error:
        raise ValueError(f"{path} is no MATLAB file of version 4 to 7.2 ({error}); fetch it again, or save it with -v7") from error
    if matrix is None:
        raise ValueError(f"{path} has no variable {variable}, only {', '.join(names) or 'none'}")
    if not np.issubdtype(matrix.dtype, np.number) or not np.array_equal(matrix, np.trunc(matrix.real)):
        raise ValueError(f"{path}: {variable} must be a matrix of whole numbers, got {matrix.dtype} of shape {matrix.shape}")
    return np.asarray(matrix.real, dtype=np.int64)
