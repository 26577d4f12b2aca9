"""Soft pseudo-labels: how much an image belongs to each cluster."""

from __future__ import annotations

from typing import Literal, get_args

import torch
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


def own_exemplar_distance(embeddings: Tensor, labels: Tensor, exemplars: Tensor, *, distance: SoftLabelDistance = "squared") -> float:
    """How far the images of the clusters lie from their own exemplar, in the median: a temperature for eq. 3.5 that is tied to the data.

    Ours. With the text's temperature of 1 labels come out one-hot wherever embeddings are long, as squared distances between them are then
    in the hundreds. Under this one the exemplar of an image stands out by as much as that image is nearer to it than to others, measured in
    units of how near images are to their exemplars; it does not change when all embeddings are made longer.

    Args:
        embeddings: ``[N, D]`` float.
        labels: ``[N]`` int64, row of its exemplar in ``exemplars``; -1 belongs to none.
        exemplars: ``[C']`` int64, rows of ``embeddings``.
        distance: ``"squared"``, or ``"euclidean"`` for its root.

    Returns:
        The median over the images that are in a cluster and are no exemplars, above 0.

    Raises:
        ValueError: There are no such images, or they all coincide with their exemplars.

    Example:
        >>> import torch
        >>> from lightning_reid.selection.soft_labels import own_exemplar_distance
        >>> embeddings, labels, exemplars = torch.tensor([[0.0], [1.0], [3.0]]), torch.zeros(3).long(), torch.tensor([0])
        >>> own_exemplar_distance(embeddings, labels, exemplars)  # the median of 1 and 9
        5.0
    """
    others = labels >= 0
    others[exemplars] = False
    embeddings = in_full_precision(embeddings)
    gaps = (embeddings[others] - embeddings[exemplars[labels[others]]]).double().square().sum(1)
    if distance == "euclidean":
        gaps = gaps.sqrt()
    found = float(torch.quantile(gaps, 0.5)) if len(gaps) else 0.0
    if not found > 0:
        raise ValueError(
            f"the images of {len(exemplars)} clusters lie at their exemplars ({len(gaps)} images beside them, median distance {found}),"
            " which gives no temperature: give a number"
        )
    return found
