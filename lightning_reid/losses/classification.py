"""The loss of identity classification: cross-entropy with smoothed labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_number


def label_smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """``-mean_i sum_c q_ic log softmax(logits_i)_c`` with ``q_i = (1 - smoothing) onehot(y_i) + smoothing / C``, in nats.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7; for re-ID Luo et al. 2019 (arXiv:1903.07071), eq. 3. There the true
    class gets ``1 - smoothing + smoothing / C`` as here. It is ``torch.nn.functional.cross_entropy`` with the field's default
    smoothing and its range checked: torch takes any value up to 1, and at 1 the labels no longer matter.

    Args:
        logits: ``[B, C]`` float.
        labels: ``[B]`` int64 in ``0..C-1``; noise (-1) must have been left out of the batch.
        smoothing: Share of the target spread evenly over all C classes, in [0, 1); 0 is plain cross-entropy.

    Raises:
        ValueError: ``smoothing`` is out of range, or, on a CPU, a label is.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import label_smoothed_cross_entropy
        >>> logits = torch.tensor([[0.75, 0.25]]).log()
        >>> label_smoothed_cross_entropy(logits, torch.tensor([0]), smoothing=0.2)  # -(0.9 log 0.75 + 0.1 log 0.25)
        tensor(0.3975)
    """
    require_number("smoothing", smoothing, low=0, below=1)
    try:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    except IndexError:
        require_labels(labels, logits.shape[1])
        raise


def require_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels that a classifier has no class for, which CUDA tells by an assertion of the device, naming neither.

    Waits for the device: of the first batch of an epoch, not of every one.

    Raises:
        ValueError: A label lies outside of ``0..num_classes-1``.
    """
    if len(labels):
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < 0 or highest >= num_classes:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f"pid {wrong} has no class: with num_classes={num_classes}, the pids of training batches must lie in 0..{num_classes - 1}."
                " Number the people of your loader so, or raise num_classes"
            )
