"""Soft pseudo-labels: how much an image belongs to each cluster."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision, squared_distances, squared_norms

SoftLabelDistance = Literal["squared", "euclidean"]


def soft_pseudo_labels(
    embeddings: Tensor, exemplars: Tensor, *, distance: SoftLabelDistance = "squared", temperature: float = 1.0
) -> Tensor:
    """``softmax_j(-d(x, exemplar j) / temperature)`` over the C' exemplars (SGC-DPL, eq. 3.5).

    The text calls d the "feature distance", as it calls the squared distance of eq. 3.4 and of the similarities: ``"squared"`` makes
    the logits the very similarities that were clustered. How soft the labels come out depends on the scale of the embeddings.

    Args:
        embeddings: ``[N, D]`` float.
        exemplars: ``[C', D]`` float, embeddings of the exemplars.
        distance: ``"squared"``, or ``"euclidean"`` for its root.
        temperature: Above 0; the text has 1. Large is soft.

    Returns:
        ``[N, C']``, rows of sum 1, without gradient; float32 for half precision, else the dtype of the embeddings.

    Raises:
        ValueError: There are no exemplars, embeddings are not finite, or an argument does not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.selection import soft_pseudo_labels
        >>> embeddings, exemplars = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
        >>> soft_pseudo_labels(embeddings, exemplars)  # softmax of (0, -4), and of (-1, -1)
        tensor([[0.9820, 0.0180],
                [0.5000, 0.5000]])
    """
    if distance not in get_args(SoftLabelDistance):
        raise ValueError(f"distance must be one of {get_args(SoftLabelDistance)}, got {distance!r}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if embeddings.ndim != 2 or exemplars.ndim != 2 or embeddings.shape[1] != exemplars.shape[1] or not len(exemplars):
        raise ValueError(
            f"need embeddings [N, D] and at least one exemplar [C, D] of one D, got {tuple(embeddings.shape)} and {tuple(exemplars.shape)}"
        )
    embeddings, exemplars = in_full_precision(embeddings), in_full_precision(exemplars)
    distances = squared_distances(embeddings, exemplars, squared_norms(embeddings), squared_norms(exemplars, "exemplars"))
    if distance == "euclidean":
        distances = distances.sqrt_()
    return distances.div_(-temperature).softmax(1)
