"""What a network's tensors can be after training, whoever sends them: numbers that would spoil an average, or all networks made of it."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.federated.averaging import NamedTensors

LARGEST_WEIGHT = 2.0**64
"""The square of a larger number is no float32: a network that holds one gives infinities."""
LARGEST_COUNT = 2**53
"""No training counts so many batches; a counter near the end of its type turns negative at the next."""
VARIANCE = "running_var"
"""Ends the names of batch normalization's variances."""


def implausible(tensors: NamedTensors, known: NamedTensors) -> str | None:
    """Name the first tensor that no training leaves behind, and what is wrong with it; ``None`` where there is none.

    Floats must be finite and below ``LARGEST_WEIGHT`` in size, variances of batch normalization at least 0, and integers, where they are
    not those already known, in 0 to ``LARGEST_COUNT``.

    Args:
        tensors: To look at, on any device.
        known: The receiver's own of the same names and shapes.
    """
    told = ((name, _problem(name, tensor, known[name])) for name, tensor in tensors.items() if tensor.numel())
    return next((f"{name} {problem}" for name, problem in told if problem), None)


def _problem(name: str, tensor: Tensor, known: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return ""
    low, high = (bound.item() for bound in tensor.aminmax())
    if not tensor.is_floating_point():
        changed = not 0 <= low <= high <= LARGEST_COUNT and not torch.equal(tensor, known.to(tensor.device))
        return f"counts from {low} to {high}, expected 0 to {LARGEST_COUNT}" if changed else ""
    if not -float("inf") < low <= high < float("inf"):
        return "is NaN or infinite"
    if max(-low, high) >= LARGEST_WEIGHT:
        return f"has numbers from {low:g} to {high:g}, expected less than {LARGEST_WEIGHT:g} in size"
    return f"is a variance of {low:g}, expected 0 or more" if name.endswith(VARIANCE) and low < 0 else ""
