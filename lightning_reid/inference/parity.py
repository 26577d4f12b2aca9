"""Whether a network in a file gives what it gave in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest difference of a number in two embeddings that counts as the same."""


class ParityError(ValueError):
    """An exported network gives other embeddings than the network itself."""


def require_parity(
    path: str | Path,
    run: Callable[[NDArray], NDArray],
    inputs: NDArray,
    expected: NDArray,
    *,
    batches: Iterable[int],
    tolerance: float = TOLERANCE,
) -> float:
    """Compare the embeddings of a file with those of the network, at several sizes of a batch.

    Args:
        path: Of the file that is not to be written, for the message.
        run: The network in the file: inputs ``[B, ...]`` to embeddings ``[B, D]``.
        inputs: ``[N, ...]``.
        expected: ``[N, D]``, by the network itself.
        batches: Sizes of batches, each at most N: the first so many inputs are run.
        tolerance: Largest absolute difference that is allowed.

    Returns:
        The largest absolute difference found.

    Raises:
        ParityError: The embeddings differ by more, are not finite or of another shape, or a batch of a size is not taken.
    """
    largest = 0.0
    for size in batches:
        try:
            found = run(inputs[:size])
        except Exception as error:  # of each runtime a class of its own
            raise ParityError(f"{path} is not written: the exported network does not take a batch of {size}: {error}") from error
        if found.shape != expected[:size].shape:
            told = f"gives {list(found.shape)} for a batch of {size}, PyTorch's {list(expected[:size].shape)}"
            raise ParityError(f"{path} is not written: the exported network {told}")
        difference = float(np.abs(found - expected[:size]).max())
        if not difference <= tolerance:  # nor if it is no number
            raise ParityError(
                f"{path} is not written: embeddings of the exported network differ from PyTorch's by up to {difference:.2g}"
                f" in a batch of {size}, {tolerance:g} is allowed"
            )
        largest = max(largest, difference)
    return largest
