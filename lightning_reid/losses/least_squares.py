"""Least squares as the loss of a generator and its discriminator."""

from __future__ import annotations

from torch import Tensor

from lightning_reid.arguments import require_switch


def least_squares_gan(scores: Tensor, *, recorded: bool) -> Tensor:
    """Mean squared distance of a discriminator's scores from 1, for pictures that are (to look) recorded, or from 0.

    Source: Mao et al. 2017 (arXiv:1611.04076), as CycleGAN takes it (Zhu et al. 2017, section 4); edge-device text, eq. 1.

    Args:
        scores: Of any shape, float.
        recorded: Whether the scores should say so.

    Returns:
        Scalar.

    Raises:
        ValueError: ``recorded`` is neither true nor false.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import least_squares_gan
        >>> least_squares_gan(torch.tensor([1.0, 0.0]), recorded=True)
        tensor(0.5000)
    """
    require_switch("recorded", recorded)
    return (scores - float(recorded)).square().mean()
