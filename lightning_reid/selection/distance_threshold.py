"""Up to which distance labeled images are of one identity: the threshold tau_l of progressive selection."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision, squared_distances, squared_norms


@dataclass(frozen=True)
class DistanceThreshold:
    """A threshold on squared distances and the two histograms it was read off (SGC-DPL, Fig. 3.3).

    Attributes:
        value: tau_l, a squared distance; 0 when the histograms do not cross.
        crosses: Whether there is a distance below which pairs are likelier of one identity than of two.
        error: Share of wrongly assigned pairs at ``value``, the mean of the shares among positive and among negative pairs; 0.5 is chance.
        edges: ``[bins + 1]`` float64, squared distances from 0, equally spaced.
        positives: ``[bins]`` int64, pairs of one identity in ``[edges[b], edges[b + 1])``.
        negatives: ``[bins]`` int64, pairs of two identities.
    """

    value: float
    crosses: bool
    error: float
    edges: Tensor
    positives: Tensor
    negatives: Tensor


def distance_threshold(
    embeddings: Tensor, pids: Tensor, *, num_bins: int = 1000, chunk_size: int = 1024, quantile: float | None = None
) -> DistanceThreshold:
    """Where the histogram of positive-pair distances of labeled images crosses that of negative pairs (SGC-DPL, section 3.3.6).

    Every pair is measured once; each histogram counts as its share of its own pairs, since negative pairs are hundreds of times as many.
    See ``best_crossing`` for histograms that cross several times, or never. Memory is ``chunk_size * N``, never ``N * N``.

    Args:
        embeddings: ``[N, D]`` float of labeled images.
        pids: ``[N]`` int64; images of a negative pid are left out.
        num_bins: Bins from 0 to just above the largest distance; the threshold is one of their edges, or lies in a gap between pairs.
        chunk_size: Rows measured at a time.
        quantile: ``None`` reads off the crossing, as the text does. A share in (0, 1) takes the distance at or below which that share
            of the positive pairs lies, whatever the bins are: ours, for labeled images that were memorized, whose histograms do not
            touch, so that the crossing may lie anywhere in the gap between them.

    Raises:
        ValueError: There is no pair of one identity or none of two, a row is not finite, or an argument does not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.selection import distance_threshold
        >>> embeddings, pids = torch.tensor([[0.0], [1.0], [5.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = distance_threshold(embeddings, pids)
        >>> found.crosses, found.error, 1 < found.value <= 16  # squared distances: 1 within, 16 and more between
        (True, 0.0, True)
    """
    if pids.shape != embeddings.shape[:1]:
        raise ValueError(f"need one pid per embedding, got pids {tuple(pids.shape)} for embeddings {tuple(embeddings.shape)}")
    if quantile is not None and not 0 < quantile < 1:
        raise ValueError(f"quantile must be above 0 and below 1, got {quantile}")
    if num_bins < 2 or chunk_size < 1:
        raise ValueError(f"need num_bins >= 2 and chunk_size >= 1, got {num_bins} and {chunk_size}")
    embeddings, pids = in_full_precision(embeddings[pids >= 0]), pids[pids >= 0]
    sizes = torch.unique(pids, return_counts=True)[1]
    if len(sizes) < 2 or int(sizes.max()) < 2:
        raise ValueError(
            f"a distance threshold is read off pairs of one identity and pairs of two, but {len(pids)} labeled images of {len(sizes)}"
            " identities hold no such pairs of both kinds: label more identities, or give the threshold yourself"
        )
    norms = squared_norms(embeddings)
    largest = max(float(distances.amax()) for _, distances, _ in _pairs(embeddings, norms, chunk_size))
    top = largest * (1 + 1 / num_bins) or 1.0  # above the largest distance, so that the last edge accepts every pair
    counts = torch.zeros(2 * num_bins, dtype=torch.int64, device=embeddings.device)
    for start, distances, counted in _pairs(embeddings, norms, chunk_size):
        bins = (distances / top * num_bins).long().clamp_(max=num_bins - 1)
        bins += num_bins * (pids[start : start + len(distances), None] == pids[None, start:])
        counts += torch.bincount(bins[counted], minlength=2 * num_bins)
    negatives, positives = counts.cpu().split(num_bins)
    edges = torch.linspace(0, top, num_bins + 1, dtype=torch.float64)
    value, error = best_crossing(edges, positives, negatives)
    if quantile is None:
        return DistanceThreshold(value, error < 0.5, error, edges, positives, negatives)
    value = _quantile_of_positives(embeddings, pids, norms, chunk_size, quantile)
    shares = _shares_below(embeddings, pids, norms, chunk_size, value)
    return DistanceThreshold(value, error < 0.5, (1 - shares[0] + shares[1]) / 2, edges, positives, negatives)


def best_crossing(edges: Tensor, positives: Tensor, negatives: Tensor) -> tuple[float, float]:
    """The crossing of two histograms that assigns fewest pairs wrongly, and that error in [0, 0.5].

    The error of a threshold t is ``(share of positive pairs at or above t + share of negative pairs below t) / 2``. It falls while the
    positive histogram is the higher one and rises after they cross, so its minimum over the edges *is* a crossing, the best one where
    noise makes many. Among equal ones the first is taken; where no pair lies between two edges, as in the gap between histograms that
    do not overlap, the middle of that gap. Histograms that never cross from positive to negative leave no threshold better than chance:
    then it is the lowest edge, which accepts no pair, with error 0.5.

    Args:
        edges: ``[bins + 1]`` float64, ascending.
        positives: ``[bins]`` int64 counts, at least one pair.
        negatives: ``[bins]`` int64 counts, at least one pair.
    """
    num_positives, num_negatives = int(positives.sum()), int(negatives.sum())
    accepted, wrongly = (torch.cat([counts.new_zeros(1), counts.cumsum(0)]) for counts in (positives, negatives))
    # in whole numbers, so that ties are ties
    errors = (num_positives - accepted) * num_negatives + wrongly * num_positives
    first = int(errors.argmin())
    if int(errors[first]) == num_positives * num_negatives:
        return float(edges[0]), 0.5
    last = first
    while last + 1 < len(edges) and not int(positives[last] + negatives[last]):
        last += 1
    return float(edges[first] + edges[last]) / 2, int(errors[first]) / (2 * num_positives * num_negatives)


def _pairs(embeddings: Tensor, norms: Tensor, chunk_size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First row, squared distances ``[c, N - start]`` of a chunk to itself and all later rows, and which of them count: each pair once."""
    for start in range(0, len(embeddings), chunk_size):
        rows = slice(start, start + chunk_size)
        distances = squared_distances(embeddings[rows], embeddings[start:], norms[rows], norms[start:])
        counted = torch.ones_like(distances, dtype=torch.bool).triu(1)
        yield start, distances.masked_fill_(~counted, 0), counted


def _quantile_of_positives(embeddings: Tensor, pids: Tensor, norms: Tensor, chunk_size: int, quantile: float) -> float:
    """The least squared distance such that at least a share ``quantile`` of the pairs of one identity is as near."""
    found = []
    for start, distances, counted in _pairs(embeddings, norms, chunk_size):
        found.append(distances[counted & (pids[start : start + len(distances), None] == pids[None, start:])])
    positives = torch.cat(found)
    return float(positives.kthvalue(max(1, math.ceil(quantile * len(positives)))).values)


def _shares_below(embeddings: Tensor, pids: Tensor, norms: Tensor, chunk_size: int, value: float) -> tuple[float, float]:
    """Shares of the pairs of one identity, and of two, whose squared distance is at most ``value``."""
    counts = torch.zeros(2, 2, dtype=torch.int64)  # of one identity or two; all, and those that are near
    for start, distances, counted in _pairs(embeddings, norms, chunk_size):
        same = pids[start : start + len(distances), None] == pids[None, start:]
        for row, kind in enumerate((same & counted, ~same & counted)):
            counts[row] += torch.tensor([int(kind.sum()), int((kind & (distances <= value)).sum())])
    (of_one, near), (of_two, wrongly) = counts.tolist()
    return near / of_one, wrongly / of_two
