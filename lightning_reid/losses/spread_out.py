"""Class proxies kept apart, for a server that sees the proxies of clients who never see each other's images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_number


def spread_out_loss(proxies: Tensor, margin: float = 0.7) -> Tensor:
    """``sum_{c != c'} max(0, margin - |w_c - w_c'|)^2`` of proxies of length 1.

    Source: Yu et al. 2020 (federated learning with only positive labels, arXiv:2004.10342), the geometric regularizer that FedFace takes
    (Aggarwal et al. 2021, arXiv:2104.03008); thesis, section 7.4.3, names it.

    Args:
        proxies: ``[K, D]`` float, of any length but 0; two that are equal get no gradient from each other.
        margin: Distance from which on two proxies leave each other alone, in (0, 2).

    Returns:
        Scalar, at least 0; 0 for fewer than two proxies.

    Raises:
        ValueError: The margin is out of range.
    """
    require_number("margin", margin, above=0, below=2)  # proxies of length 1 are between 0 and 2 apart
    distances = F.pdist(F.normalize(proxies, dim=1))
    return 2 * (margin - distances).clamp(min=0).square().sum()
