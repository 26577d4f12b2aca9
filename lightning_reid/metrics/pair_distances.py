"""How far apart pictures of one person lie, and of two: what a threshold has to tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.arguments import require_count, require_number
from lightning_reid.metrics.judged_rows import judged_rows
from lightning_reid.metrics.matching import Matching
from lightning_reid.metrics.verification import OpenSetRates, rates_from_scores

FARTHEST = 2.0
"""Cosine distance of opposite directions."""


@dataclass(frozen=True, eq=False)
class PairDistances:
    """Cosine distances, ``1 - cosine`` in [0, 2], of a query and a gallery image that counts for it.

    Attributes:
        edges: ``[B + 1]`` float64, ends of the bins, from 0 to 2.
        same: ``[B]`` int64 pairs of one person in each bin.
        different: ``[B]`` int64 pairs of two.
        false_match_rate: Share of the pairs of two people that may lie within the threshold.
        threshold: Largest distance at which no more do; ``None`` where there are too few pairs to tell such a rate from 0.
        true_match_rate: Share of the pairs of one person within the threshold; ``None`` without one.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import pair_distances
        >>> from lightning_reid.metrics.matching import Matching
        >>> matching = Matching(torch.tensor([1]), torch.tensor([1, 2, 2]), None, None, "no-camera")
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])  # 0, 0.4 and 2 away
        >>> found = pair_distances(query, gallery, matching, bins=4, false_match_rate=0.5)
        >>> found.same.tolist(), found.different.tolist(), found.threshold, found.true_match_rate
        ([1, 0, 0, 0], [1, 0, 0, 1], 2.0, 1.0)
    """

    edges: Tensor
    same: Tensor
    different: Tensor
    false_match_rate: float
    threshold: float | None
    true_match_rate: float | None


def pair_distances(query: Tensor, gallery: Tensor, matching: Matching, *, false_match_rate: float = 0.01, bins: int = 100) -> PairDistances:
    """Sort the distances of all pairs into bins, and find the threshold of a false match rate; memory is that of few pairs.

    A pair lies within the threshold where its distance is less; at the threshold itself lies the next pair of two people.

    Args:
        query: ``[Q, D]`` embeddings.
        gallery: ``[G, D]`` embeddings, same dtype and device.
        matching: Of these Q queries and G images: junk and what its protocol takes out are no pairs.
        false_match_rate: In (0, 1).
        bins: At least 1.

    Raises:
        ValueError: As ``retrieval_scores``, of the embeddings; an option is out of range; or there is no pair of one of the two kinds.

    Example:
        See ``PairDistances``, which it gives.

        >>> import torch
        >>> from lightning_reid.metrics import pair_distances
        >>> from lightning_reid.metrics.matching import Matching
        >>> matching = Matching(torch.tensor([1]), torch.tensor([1, 2]), None, None, "no-camera")
        >>> pair_distances(torch.eye(2)[:1], torch.eye(2), matching, bins=2).threshold is None  # one pair of two people: 1 % of what?
        True
    """
    require_number("false_match_rate", false_match_rate, above=0, below=1)
    require_count("bins", bins)
    held = int(false_match_rate * len(query) * len(gallery)) + 1
    same, different = (torch.zeros(bins, dtype=torch.int64) for _ in range(2))
    genuine, largest = list[Tensor](), query.new_empty(0)
    for rows in judged_rows(query, gallery, matching):
        cosines = rows.similarity.clamp(-1, 1)
        alike, apart = cosines[rows.right], cosines[rows.counted & ~rows.right]
        genuine.append(alike)
        same += _in_bins(alike, bins)
        different += _in_bins(apart, bins)
        largest = torch.cat([largest, apart])
        largest = largest.topk(held).values if len(largest) > held else largest
    rates = _rates(torch.cat(genuine), largest, false_match_rate, int(different.sum()))
    return PairDistances(
        torch.linspace(0, FARTHEST, bins + 1, dtype=torch.float64),
        same,
        different,
        false_match_rate,
        None if rates is None else 1 - float(rates.thresholds[0]),
        None if rates is None else float(rates.true[0]),
    )


def _in_bins(cosines: Tensor, bins: int) -> Tensor:
    places = ((1 - cosines.double()) / FARTHEST * bins).long().clamp(0, bins - 1)
    return torch.bincount(places, minlength=bins).cpu()


def _rates(genuine: Tensor, largest: Tensor, rate: float, num_different: int) -> OpenSetRates | None:
    if not len(genuine) or not num_different:
        raise ValueError(f"distances want pairs of one person and of two, got {len(genuine)} and {num_different}")
    if rate * num_different * (1 + 1e-12) < 1:
        return None
    return rates_from_scores(genuine, largest, [rate], num_impostor=num_different)
