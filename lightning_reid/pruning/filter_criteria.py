"""Which filters of a layer go first, judged by their weights alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Makers = Sequence[tuple[Tensor, Tensor]]
"""Of a group of C channels: weights ``[N, ...]`` of each layer that makes them, and which of its filters make each, ``[C, k]`` int64."""


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


def removal_order(makers: Makers, gone: Tensor) -> Tensor:
    """``[C]`` int64 channels of a group in the order they are removed: those that are gone, then by falling mean sparsity, then by norm.

    Source: thesis, section 5.3.1. It does not say what becomes of ties, which are common: a share of C H W weights takes few values; of
    equal sparsity the smaller L1 norm goes first. The means over coupled layers are ours, too.

    Args:
        makers: Of the group.
        gone: ``[C]`` bool, channels that were removed before. Their filters are zeros, and come first anyway.
    """
    sparsity, norm = torch.zeros(len(gone)), torch.zeros(len(gone))
    for weight, channels in makers:
        sparsity += filter_sparsity(weight).cpu()[channels].mean(1)
        norm += filter_l1_norm(weight).cpu()[channels].mean(1)
    by_norm = norm.argsort(stable=True)
    order = by_norm[sparsity[by_norm].argsort(descending=True, stable=True)]
    return torch.cat([order[gone[order]], order[~gone[order]]])


def channel_norms(makers: Makers, gone: Tensor) -> Tensor:
    """``[C]`` mean L1 norm, a weight, of the filters that make each channel of a group; infinite for channels that are gone.

    Args:
        makers: Of the group.
        gone: ``[C]`` bool, channels that were removed before.
    """
    norms = [filter_l1_norm(weight).cpu()[channels].sum(1) / weight[0].numel() for weight, channels in makers]
    return torch.stack(norms).mean(0).masked_fill(gone, torch.inf)


def ranks_in_group(norms: Tensor) -> Tensor:
    """``[C]`` place of each channel of a group in (0, 1], small norms first; infinite ones, of channels that are gone, stay infinite.

    What went counts: the next channel of a group that lost many stands behind the next one of a group that lost few.
    """
    ranks = torch.empty_like(norms)
    ranks[norms.argsort(stable=True)] = torch.arange(1, len(norms) + 1, dtype=norms.dtype)
    gone = int(norms.isinf().sum())
    return ((ranks + gone) / len(norms)).masked_fill(norms.isinf(), torch.inf)


def _magnitudes(weight: Tensor) -> Tensor:
    """``[N, C H W]`` in at least float32."""
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(f"weights of filters must be [N, C, ...] with N and C at least 1, got {list(weight.shape)}")
    magnitudes = weight.detach().to(torch.promote_types(weight.dtype, torch.float32)).abs().flatten(1)
    if not magnitudes.isfinite().all():
        raise ValueError("a weight is NaN or infinite: the network diverged, filters cannot be compared")
    return magnitudes
