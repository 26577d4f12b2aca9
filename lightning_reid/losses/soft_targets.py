"""Classification against soft labels."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_target_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``-mean_i sum_c t_ic log softmax(logits_i)_c``, in nats.

    Source: SGC-DPL, section 3.3.8, with the soft pseudo-labels of eq. 3.5 behind the labeled classes and one-hot rows for labeled
    images. With one-hot targets it is plain cross-entropy; a batch of 0 images gives 0 with a gradient graph, where torch gives NaN.

    Args:
        logits: ``[B, C]`` float, with gradient; half precision is computed in float32.
        targets: ``[B, C]`` float, each row non-negative with sum 1 (not checked: it would stall a GPU each step); no gradient flows
            into them.

    Returns:
        Scalar, float32 or the dtype of ``logits`` if wider.

    Raises:
        ValueError: The shapes differ, or the targets are integers.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import soft_target_cross_entropy
        >>> logits, targets = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]])
        >>> soft_target_cross_entropy(logits, targets)  # -(0.5 log 0.75 + 0.5 log 0.25)
        tensor(0.8370)
    """
    if logits.ndim != 2 or logits.shape != targets.shape or not targets.is_floating_point():
        raise ValueError(
            "logits and soft targets must be float [B, C] of one shape,"
            f" got {tuple(logits.shape)} and {targets.dtype} {tuple(targets.shape)}; class numbers go to label_smoothed_cross_entropy"
        )
    with torch.autocast(logits.device.type, enabled=False):
        log_probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
        return -(targets.detach().to(log_probabilities.dtype) * log_probabilities).sum() / max(1, len(logits))
