"""From a feature map to vectors: over the whole person, over what is picture and no padding, or by body part."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_number


class GlobalAveragePooling(nn.Module):
    """Mean over all positions: ``[B, C, h, w]`` to ``[B, C]``."""

    @override
    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.mean((2, 3))


class GeneralizedMeanPooling(nn.Module):
    """GeM: ``(mean_hw max(x, eps)^p)^(1/p)``, ``[B, C, h, w]`` to ``[B, C]``; p = 1 is the mean of what is positive, large p the maximum.

    Source: Radenovic et al. 2018 (arXiv:1711.02512), eq. 3. Computed in float32 (float64 stays) through logarithms, so that no p
    overflows, and returned in the dtype of the input.

    Args:
        p: First value of the learnable exponent, > 0.
        eps: Floor of the activations, > 0; below it there is no gradient.

    Raises:
        ValueError: ``p`` or ``eps`` is not positive.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        require_number("p", p, above=0)
        require_number("eps", eps, above=0)
        self.p = nn.Parameter(torch.full((1,), p))
        self.eps = eps

    @override
    def forward(self, feature_map: Tensor) -> Tensor:
        # nothing here is among the operations that autocast takes to half precision, and its context knows no meta device
        exact = feature_map.to(torch.promote_types(feature_map.dtype, torch.float32))
        logarithms = exact.clamp(min=self.eps).log().flatten(2)
        means = (self.p * logarithms).logsumexp(2) - math.log(logarithms.shape[2])
        return (means / self.p).exp().to(feature_map.dtype)

    @override
    def extra_repr(self) -> str:
        return f"p={self.p.item():.2f}, eps={self.eps}"


def picture_positions(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """The positions of a feature map that are picture: at least half of their pixels are.

    The authors' code of CF-AAN, which knows boxes only, rounds a box's two ends down to whole positions.

    Args:
        masks: ``[N, H, W]`` bool, true where a pixel is picture and false where it is padding.
        size: (h, w) of the feature map.

    Returns:
        ``[N, h, w]`` bool.
    """
    return F.adaptive_avg_pool2d(masks.to(torch.float32)[:, None], size).squeeze(1) >= 0.5


def mean_over(feature_map: Tensor, positions: Tensor) -> Tensor:
    """Mean over some positions: ``[N, D, h, w]`` and ``[N, h, w]`` bool to ``[N, D]``; a map without any is averaged whole."""
    kept = _or_all(positions)[:, None]
    # selected, not multiplied: what lies under the padding may be infinite
    return torch.where(kept, feature_map, 0).sum((2, 3)) / kept.sum((2, 3))


def max_over(feature_map: Tensor, positions: Tensor) -> Tensor:
    """Maximum over some positions: ``[N, D, h, w]`` and ``[N, h, w]`` bool to ``[N, D]``; of a map without any it is taken over all."""
    return torch.where(_or_all(positions)[:, None], feature_map, -torch.inf).amax((2, 3))


def mask_pooling(feature_map: Tensor, masks: Tensor | None = None) -> Tensor:
    """Mean over the positions that are no padding: ``[N, D, h, w]`` to ``[N, D]``.

    Source: thesis text, section 2.5.3. What counts as picture is said by ``picture_positions``; a frame without any is averaged whole, as
    one in which no person was found.

    Args:
        feature_map: ``[N, D, h, w]``.
        masks: ``[N, H, W]`` bool, true where a pixel is picture; ``None`` is true everywhere.
    """
    if masks is None:
        return feature_map.mean((2, 3))
    return mean_over(feature_map, picture_positions(masks, (feature_map.shape[2], feature_map.shape[3])))


def _or_all(positions: Tensor) -> Tensor:
    """The positions, or all of a map that has none."""
    return positions | ~positions.any(2, keepdim=True).any(1, keepdim=True)


def part_pooling(feature_map: Tensor, num_parts: int = 2) -> Tensor:
    """Means over horizontal stripes, top first: ``[B, C, h, w]`` to ``[B, num_parts, C]``.

    Source: HSR, section 4.3.3 (upper and lower body). Where h is no multiple of ``num_parts``, neighboring stripes share a row.

    Raises:
        ValueError: The map has fewer rows than parts.
    """
    if feature_map.ndim != 4 or not 1 <= num_parts <= feature_map.shape[2]:
        raise ValueError(
            f"cannot pool {num_parts} parts from the rows of a feature map {list(feature_map.shape)}: need [B, C, h, w], h >= parts"
        )
    return F.adaptive_avg_pool2d(feature_map, (num_parts, 1)).squeeze(3).transpose(1, 2)
