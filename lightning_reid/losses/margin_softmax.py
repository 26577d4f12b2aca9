"""Classification on the hypersphere: CosFace's additive margin, and one-vs-all heads of a decoupled feature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_number


def cosface_loss(cosines: Tensor, labels: Tensor, *, scale: float = 30.0, margin: float = 0.4) -> Tensor:
    """``-mean_i log softmax(s (cos_i - m onehot(y_i)))_{y_i}``, in nats.

    Source: Wang et al. 2018 (arXiv:1801.09414); thesis, eq. 7.1, and eq. 7.3 where the columns are public and local identities.

    Args:
        cosines: ``[B, C]`` float in [-1, 1], of embeddings and class proxies; half precision is computed in float32.
        labels: ``[B]`` int64 in ``0..C-1``; rows of -1 do not count.
        scale: s, above 0.
        margin: m, at least 0.

    Returns:
        Scalar; 0 with a gradient graph where no row counts.

    Raises:
        ValueError: A shape or a number is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import cosface_loss
        >>> cosines, labels = torch.tensor([[0.8, 0.2]]), torch.tensor([0])
        >>> cosface_loss(cosines, labels, scale=10.0, margin=0.3)  # of logits 5 and 2: log(1 + exp(-3))
        tensor(0.0486)
    """
    _check_scale(scale, margin)
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1]:
        raise ValueError(f"need cosines [B, C] and labels [B], got {tuple(cosines.shape)} and {tuple(labels.shape)}")
    with torch.autocast(cosines.device.type, enabled=False):
        logits = cosines.to(torch.promote_types(cosines.dtype, torch.float32))
        counts = labels >= 0
        # a row that does not count gets no margin, and ignore_index leaves it out of the sum
        taken_off = F.one_hot(labels.clamp(min=0), cosines.shape[1]).to(logits.dtype) * (margin * counts.to(logits.dtype))[:, None]
        total = F.cross_entropy(scale * (logits - taken_off), labels, ignore_index=-1, reduction="sum")
        return total / counts.sum().clamp(min=1)


def one_vs_all_loss(
    cosines: Tensor, bias: Tensor, labels: Tensor, *, scale: float = 30.0, margin: float = 0.4, share: float = 0.7, exponent: float = 3.0
) -> Tensor:
    """Margin-based binary cross-entropy of K heads, mean over the batch: each knows one identity from everybody else.

    ``lambda / s log(1 + exp(-s (g(cos_y) - m) - b_y)) + (1 - lambda) / s sum_{j != y} log(1 + exp(s (g(cos_j) + m) + b_j))`` with
    ``g(z) = 2 ((z + 1) / 2)^t - 1``.

    Source: thesis, eq. 7.6, after Wen et al. 2022 (SphereFace2, arXiv:2108.01513); ``g`` is misprinted in the text and here as in both
    codes.

    Args:
        cosines: ``[B, K]`` float in [-1, 1], of transformed features and the heads' vectors; half precision is computed in float32.
        bias: ``[K]`` float.
        labels: ``[B]`` int64 in ``0..K-1``; any other number is of nobody here, and all heads shall say no.
        scale: s', above 0.
        margin: m', at least 0.
        share: lambda, weight of the positive head, in (0, 1).
        exponent: t', at least 1.

    Returns:
        Scalar; 0 for a batch of 0 images.

    Raises:
        ValueError: A shape or a number is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import one_vs_all_loss
        >>> cosines, bias, labels = torch.zeros(1, 2), torch.zeros(2), torch.tensor([0])
        >>> one_vs_all_loss(cosines, bias, labels, scale=1.0, margin=0.0, share=0.5, exponent=1.0)  # two heads that do not know: log 2
        tensor(0.6931)
    """
    _check_scale(scale, margin)
    require_number("share", share, above=0, below=1)
    require_number("exponent", exponent, low=1)
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1] or bias.shape != cosines.shape[1:]:
        raise ValueError(
            f"need cosines [B, K], bias [K] and labels [B], got {tuple(cosines.shape)}, {tuple(bias.shape)} and {tuple(labels.shape)}"
        )
    with torch.autocast(cosines.device.type, enabled=False):
        dtype = torch.promote_types(cosines.dtype, torch.float32)
        # rounding takes cosines past -1, where a power that is no integer has no value
        stretched = 2 * ((cosines.to(dtype) + 1).clamp(min=0) / 2) ** exponent - 1
        positive = labels[:, None] == torch.arange(cosines.shape[1], device=labels.device)
        of_positive = -F.logsigmoid(scale * (stretched - margin) + bias.to(dtype))
        of_negative = -F.logsigmoid(-(scale * (stretched + margin) + bias.to(dtype)))
        losses = torch.where(positive, share * of_positive, (1 - share) * of_negative) / scale
        return losses.sum() / max(1, len(cosines))


def _check_scale(scale: float, margin: float) -> None:
    require_number("scale", scale, above=0)
    require_number("margin", margin, low=0)
