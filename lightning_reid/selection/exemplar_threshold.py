"""Up to which distance an image shows the person of its exemplar, told by labeled images that were clustered with the others."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.arguments import require_count
from lightning_reid.clustering.distances import in_full_precision, squared_norms
from lightning_reid.selection.distance_threshold import DistanceThreshold, best_crossing


def exemplar_threshold(embeddings: Tensor, labels: Tensor, exemplars: Tensor, pids: Tensor, *, num_bins: int = 1000) -> DistanceThreshold:
    """Where the distances of labeled images to their exemplar cross, those with an exemplar of the same person and of another.

    Ours, for labeled people who are among the clustered images. The threshold of progressive selection is compared with distances to
    exemplars (SGC-DPL, eq. 3.4), which are much smaller than those of the pairs that the text reads it off: an image's exemplar is the
    nearest of all. Labeled and unlabeled images share no person, so that an unlabeled exemplar is a wrong one.

    Args:
        embeddings: ``[N, D]`` float, those that were clustered, the N_g labeled ones first.
        labels: ``[N]`` int64 clusters ``0..C-1``; -1 is not counted.
        exemplars: ``[C]`` int64, row of the exemplar of each cluster.
        pids: ``[N_g]`` int64 who the first N_g images show, at least 0.
        num_bins: Bins from 0 to just above the largest distance, at least 2.

    Returns:
        The threshold; its ``positives`` are images with a right exemplar, its ``negatives`` with a wrong one, exemplars apart. Where all
        are right it accepts every one of them; where none is, it accepts none, ``crosses`` is false, and the error is 0.5.

    Raises:
        ValueError: Fewer embeddings than pids, labels, pids or exemplars that are not int64, a negative pid, an embedding that is not
            finite, no labeled image in a cluster beside the exemplars, or ``num_bins`` out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.selection.exemplar_threshold import exemplar_threshold
        >>> embeddings = torch.tensor([[0.0], [1.0], [4.0], [9.0], [10.0]])  # the first three show persons 0, 0 and 1
        >>> labels, exemplars = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 3])
        >>> found = exemplar_threshold(embeddings, labels, exemplars, torch.tensor([0, 0, 1]))
        >>> 1 < found.value <= 16, found.error  # squared distances to the exemplar: 1 is right, 16 wrong
        (True, 0.0)
    """
    require_count("num_bins", num_bins, low=2)
    if len(pids) > len(embeddings) or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"need a label per embedding and at most as many pids, got {len(embeddings)} embeddings, {len(labels)} labels and"
            f" {len(pids)} pids"
        )
    if {labels.dtype, pids.dtype, exemplars.dtype} != {torch.int64} or pids.ndim != 1:
        told = f"{labels.dtype}, {pids.dtype} of shape {tuple(pids.shape)} and {exemplars.dtype}"
        raise ValueError(f"labels, pids and exemplars must be rows of int64, got {told}")
    if bool((pids < 0).any()):
        raise ValueError(f"labeled images show somebody, from 0 on, got pid {int(pids.min())}")
    squared_norms(embeddings)  # refuses rows that are not finite
    counted = labels[: len(pids)] >= 0
    counted[exemplars[exemplars < len(pids)]] = False
    rows = counted.nonzero().flatten()
    if not len(rows):
        raise ValueError(
            f"none of {len(pids)} labeled images is in a cluster of which it is not the exemplar: no distance tells a threshold"
        )
    own = exemplars[labels[rows]]
    shown = torch.cat([pids, pids.new_full((len(embeddings) - len(pids),), -1)])
    right = pids[rows] == shown[own]
    embeddings = in_full_precision(embeddings)
    distances = (embeddings[rows] - embeddings[own]).double().square().sum(1)
    top = float(distances.amax()) * (1 + 1 / num_bins) or 1.0
    bins = (distances / top * num_bins).long().clamp_(max=num_bins - 1)
    positives, negatives = (torch.bincount(bins[kind], minlength=num_bins).cpu() for kind in (right, ~right))
    edges = torch.linspace(0, top, num_bins + 1, dtype=torch.float64)
    if not bool(right.any()):
        return DistanceThreshold(0.0, False, 0.5, edges, positives, negatives)
    if bool(right.all()):
        return DistanceThreshold(top, True, 0.0, edges, positives, negatives)
    value, error = best_crossing(edges, positives, negatives)
    return DistanceThreshold(value, error < 0.5, error, edges, positives, negatives)
