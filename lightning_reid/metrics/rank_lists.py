"""The gallery in the order in which it answers a query, without what the protocol leaves out: what a score is made of, to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.metrics.matching import Matching
from lightning_reid.metrics.reranking import k_reciprocal_rerank
from lightning_reid.metrics.similarity import MetricName, checked_embeddings, similarity_chunks


class RankList(NamedTuple):
    """The nearest answers to one query.

    Attributes:
        columns: ``[k]`` int64 gallery positions, nearest first; k is ``top``, or less where fewer images count.
        right: ``[k]`` bool, whether each is a match.
    """

    columns: Tensor
    right: Tensor


@torch.no_grad()
def rank_lists(
    query: Tensor,
    gallery: Tensor,
    matching: Matching,
    queries: Sequence[int],
    *,
    top: int,
    metric: MetricName = "cosine",
    rerank: bool = False,
) -> list[RankList]:
    """The ``top`` nearest gallery images of some queries, ranked and judged as ``retrieval_scores`` does with the same arguments.

    Args:
        query: ``[Q, D]`` embeddings.
        gallery: ``[G, D]`` embeddings, same dtype and device.
        matching: Of these Q queries and G images, under the protocol that scores.
        queries: Numbers of the queries to be answered, in 0..Q-1.
        top: Answers of each, at least 1.
        metric: ``"cosine"`` or ``"euclidean"``.
        rerank: Rank by ``k_reciprocal_rerank``.

    Raises:
        ValueError: As ``retrieval_scores``, of the embeddings; or ``top`` is below 1, or ``matching`` is of other images.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import rank_lists
        >>> from lightning_reid.metrics.matching import Matching
        >>> matching = Matching(torch.tensor([1]), torch.tensor([2, 1, 1]), torch.tensor([1]), torch.tensor([2, 2, 1]), "market")
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.0]])
        >>> (answers,) = rank_lists(query, gallery, matching, queries=[0], top=3)
        >>> answers.columns.tolist(), answers.right.tolist()  # image 2 is of the query's person and camera: ignored
        ([0, 1], [False, True])
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    query, gallery = checked_embeddings(query, "query"), checked_embeddings(gallery, "gallery")
    for name, rows, pids in (("query", query, matching.query_pids), ("gallery", gallery, matching.gallery_pids)):
        if len(rows) != len(pids):
            raise ValueError(f"need one pid for each {name} embedding, got {len(rows)} embeddings and {len(pids)} pids")
    kept = torch.ones(len(gallery), dtype=torch.bool, device=gallery.device)
    if matching.protocol != "leave-one-out":  # junk takes no part, as in scoring: re-ranking would count it among the neighbors
        kept[matching.junk] = False
    counted = kept.nonzero().flatten()
    similarities = _similarities(query, gallery[counted], queries, metric, rerank)
    return [_rank_list(row, number, matching, counted, top) for number, row in zip(queries, similarities, strict=True)]


def _similarities(query: Tensor, gallery: Tensor, queries: Sequence[int], metric: MetricName, rerank: bool) -> Iterator[Tensor]:
    """Rows ``[G']`` of similarities of the queries asked for, in their order; each is to be used before the next is asked for."""
    if not rerank:
        for chunk in similarity_chunks(query[list(queries)], gallery, metric):
            yield from chunk
        return
    rows: dict[int, Tensor] = {}
    start = 0
    for chunk in k_reciprocal_rerank(F.normalize(query), F.normalize(gallery)):  # of all queries: they are each other's neighbors
        rows |= {number: -chunk[number - start] for number in queries if start <= number < start + len(chunk)}
        start += len(chunk)
    yield from (rows[number] for number in queries)


def _rank_list(similarity: Tensor, number: int, matching: Matching, counted: Tensor, top: int) -> RankList:
    _, columns, ignored = matching.pairs(number, number + 1)
    out, right = (torch.zeros(len(matching.gallery_pids), dtype=torch.bool, device=similarity.device) for _ in range(2))
    out[columns[ignored]] = True
    out[matching.junk] = True
    right[columns[~ignored]] = True
    order = counted[similarity.argsort(descending=True, stable=True)]
    found = order[~out[order]][:top]
    return RankList(found, right[found])
