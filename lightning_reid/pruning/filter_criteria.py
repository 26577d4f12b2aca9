"""Which filters of a layer go first, judged by their weights alone."""

from __future__ import annotations

import torch
from torch import Tensor


def filter_sparsity(weight: Tensor) -> Tensor:
    """``S(n)``: share of filter n's weights that are smaller, by magnitude, than the layer's mean magnitude. Sparse filters go first.

    Source: thesis, eq. 5.1 and 5.2.

    Args:
        weight: ``[N, C, ...]`` float weights of N filters.

    Returns:
        ``[N]`` float of the weight's dtype, in [0, 1].

    Raises:
        ValueError: There is no weight, or one that is not finite.
    """
    magnitudes = _magnitudes(weight)
    return (magnitudes < magnitudes.mean()).to(weight.dtype).mean(1)


def filter_l1_norm(weight: Tensor) -> Tensor:
    """``[N]`` sums of the magnitudes of each filter's weights ``[N, C, ...]``: small ones go first.

    Source: Li et al. 2017 (arXiv:1608.08710), section 3.1: the baseline of thesis, section 5.4.5.

    Raises:
        ValueError: There is no weight, or one that is not finite.

    Example:
        >>> import torch
        >>> from lightning_reid.pruning import filter_l1_norm
        >>> filter_l1_norm(torch.tensor([[[[1.0, -2.0]]], [[[0.5, 0.0]]]])).tolist()  # the second filter goes first
        [3.0, 0.5]
    """
    return _magnitudes(weight).sum(1)


def sparsest_first(weight: Tensor) -> Tensor:
    """``[N]`` int64 numbers of the filters in the order they are removed (section 5.3.1); of equal sparsity, the smaller L1 norm first.

    The text does not say what becomes of ties, which are common: a share of C H W weights takes few values.
    """
    by_norm = filter_l1_norm(weight).argsort(stable=True)
    return by_norm[filter_sparsity(weight)[by_norm].argsort(descending=True, stable=True)]


def _magnitudes(weight: Tensor) -> Tensor:
    """``[N, C H W]`` in at least float32."""
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(f"weights of filters must be [N, C, ...] with N and C at least 1, got {list(weight.shape)}")
    magnitudes = weight.detach().to(torch.promote_types(weight.dtype, torch.float32)).abs().flatten(1)
    if not magnitudes.isfinite().all():
        raise ValueError("a weight is NaN or infinite: the network diverged, filters cannot be compared")
    return magnitudes
