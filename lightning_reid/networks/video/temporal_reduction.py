"""Fewer frames as a network grows deeper: neighboring frames share what is strongest in either."""

from __future__ import annotations

import torch
from torch import Tensor


def max_of_neighboring_frames(clips: Tensor) -> Tensor:
    """Maximum of frames 1 and 2, 3 and 4...: ``[B, T, C, h, w]`` to ``[B, T/2, C, h, w]``.

    Source: STE-NVAN, section 2.2.2, figure 2.4.

    Raises:
        ValueError: T is odd.
    """
    if clips.shape[1] % 2:
        raise ValueError(f"{clips.shape[1]} frames cannot be halved: sample an even number, see require_halvings for several halvings")
    # no slices of the clip, which a tracer of channels would take for slices of its channels
    first, second = clips.unflatten(1, (-1, 2)).unbind(2)
    return torch.maximum(first, second)


def either_of_neighboring_frames(masks: Tensor) -> Tensor:
    """Where frames 1 or 2, 3 or 4... are true: ``[B, T, h, w]`` bool to ``[B, T/2, h, w]``, the masks of frames joined by their maximum."""
    either: Tensor = masks.unflatten(1, (-1, 2)).any(2)
    return either


def require_halvings(length: int, halvings: int) -> None:
    """Check that T = ``length`` frames can be halved so many times.

    Raises:
        ValueError: They cannot; the message names the clip lengths that could.
    """
    multiple = 2**halvings
    if length % multiple:
        raise ValueError(
            f"clips of {length} frames cannot be halved {halvings} times: sample a multiple of {multiple} frames, "
            "or leave the temporal reduction out"
        )
