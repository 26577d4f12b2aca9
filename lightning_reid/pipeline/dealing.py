"""Which rows of a batch lie in which micro-batch: those of one person are dealt to all."""

from __future__ import annotations

import torch
from torch import Tensor


def dealt_rows(rows: int, microbatches: int) -> Tensor:
    """The rows of a batch in the order in which micro-batches are cut from it: row i lies in micro-batch ``i mod M``.

    Batches of P people with K images or clips each come person by person. Cut as they come, a micro-batch would hold one or two people, and
    BatchNorm, which normalizes over it, would take away what they look like and others do not: networks hardly learn then. Dealt in turn,
    each micro-batch has rows of as many people as it has rows, or as there are.

    Args:
        rows: B, which ``microbatches`` divides.
        microbatches: M, at least 1.

    Returns:
        ``[B]`` int64, a permutation of ``0..B-1``: its first B / M numbers are the rows of the first micro-batch.

    Raises:
        ValueError: M does not divide B, or is below 1.

    Example:
        >>> from lightning_reid.pipeline.dealing import dealt_rows
        >>> dealt_rows(6, 2).tolist()
        [0, 2, 4, 1, 3, 5]
    """
    if microbatches < 1 or rows % microbatches:
        raise ValueError(f"{rows} rows cannot be dealt to {microbatches} micro-batches of equally many")
    return torch.arange(rows).reshape(-1, microbatches).T.flatten()
