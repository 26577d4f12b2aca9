"""From the ranks of the matches to mAP, CMC and mINP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

AveragePrecisionRule = Literal["step", "trapezoid"]


@dataclass(frozen=True, eq=False)
class RetrievalScores:
    """How well queries found their matches. Scores are fractions in [0, 1]; tensors are on the CPU.

    Attributes:
        mAP: Mean of ``average_precision``.
        cmc: ``[max_rank]`` float64, cumulated matching characteristic: ``cmc[r - 1]`` is the share of scored queries whose nearest
            match has rank r or better; constant once r exceeds the gallery.
        mINP: Mean of ``inverse_negative_penalty``.
        average_precision: ``[V]`` float64, one for each scored query.
        first_match_rank: ``[V]`` int64, from 1.
        inverse_negative_penalty: ``[V]`` float64, number of matches over the rank of the last (Ye et al. 2021, arXiv:2001.04193).
        valid_queries: ``[V]`` int64, ascending: the queries that had a match and were scored.
        query_pids: ``[V]`` int64, whom these queries asked for: what ``bootstrap_interval`` draws by.
        num_queries: Q, with those that have no match.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import retrieval_scores
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
        >>> pids, camids = torch.tensor([2, 1, 3]), torch.tensor([2, 2, 2])  # the right one comes second
        >>> scores = retrieval_scores(query, gallery, torch.tensor([1]), pids, torch.tensor([1]), camids)
        >>> scores.mAP, scores.first_match_rank.tolist(), scores.cmc[:3].tolist()
        (0.5, [2], [0.0, 1.0, 1.0])
    """

    mAP: float  # noqa: N815, the name the field gave it
    cmc: Tensor
    mINP: float  # noqa: N815
    average_precision: Tensor
    first_match_rank: Tensor
    inverse_negative_penalty: Tensor
    valid_queries: Tensor
    query_pids: Tensor
    num_queries: int

    @property
    def num_unmatched_queries(self) -> int:
        """Queries without a match in the gallery: reported here, not scored."""
        return self.num_queries - len(self.valid_queries)

    @property
    def num_people(self) -> int:
        """Different people among the queries that were scored."""
        return len(self.query_pids.unique())


def scores_from_ranks(queries: Tensor, ranks: Tensor, query_pids: Tensor, ap: AveragePrecisionRule, max_rank: int) -> RetrievalScores:
    """Scores of the queries that have a match.

    Args:
        queries: ``[P]`` int64 query numbers of the matches, ascending, on the CPU; P at least 1.
        ranks: ``[P]`` int64 ranks of these matches, from 1, ascending within a query.
        query_pids: ``[Q]`` int64 on the CPU, with those of the queries that have no match.
        ap: With the ranks r_1 < ... < r_m of a query, ``"step"`` is the mean over k of ``k / r_k``; ``"trapezoid"`` the mean over k of
            ``(k / r_k + (k - 1) / (r_k - 1)) / 2``, the second term 1 where ``r_k = 1``.
        max_rank: Length of the CMC curve.
    """
    valid, query, matches = queries.unique_consecutive(return_inverse=True, return_counts=True)
    last = matches.cumsum(0) - 1
    first = last - matches + 1
    hits = torch.arange(len(ranks), dtype=torch.float64) - first[query] + 1
    precision = hits / ranks
    if ap == "trapezoid":
        before = torch.where(ranks > 1, (hits - 1) / (ranks - 1).clamp_min(1), 1.0)  # precision just above the match
        precision = (precision + before) / 2
    average_precision = torch.zeros(len(valid), dtype=torch.float64).index_add_(0, query, precision) / matches
    inverse_negative_penalty = matches.double() / ranks[last]
    first_match_rank = ranks[first]
    by_rank = torch.bincount(first_match_rank.clamp_max(max_rank + 1), minlength=max_rank + 2)[1 : max_rank + 1]
    return RetrievalScores(
        mAP=float(average_precision.mean()),
        cmc=by_rank.cumsum(0).double() / len(valid),
        mINP=float(inverse_negative_penalty.mean()),
        average_precision=average_precision,
        first_match_rank=first_match_rank,
        inverse_negative_penalty=inverse_negative_penalty,
        valid_queries=valid,
        query_pids=query_pids[valid],
        num_queries=len(query_pids),
    )
