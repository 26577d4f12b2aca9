"""Rows of similarities with a verdict beside each: which gallery images count for a query, and which of them are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.metrics.matching import Matching
from lightning_reid.metrics.reranking import k_reciprocal_rerank
from lightning_reid.metrics.similarity import MetricName, checked_embeddings, similarity_chunks


class JudgedRows(NamedTuple):
    """Some queries against the whole gallery.

    Attributes:
        start: Number of the first of them.
        similarity: ``[c, G]`` float, large is near; minus infinity where an image does not count.
        counted: ``[c, G]`` bool, whether an image counts for the query: junk and what the protocol takes out do not.
        right: ``[c, G]`` bool, whether it is a match; each of them counts.
    """

    start: int
    similarity: Tensor
    counted: Tensor
    right: Tensor


@torch.no_grad()
def judged_rows(
    query: Tensor, gallery: Tensor, matching: Matching, *, metric: MetricName = "cosine", rerank: bool = False
) -> Iterator[JudgedRows]:
    """Go through all queries, some at a time, as ``retrieval_scores`` does; each part is to be used before the next is asked for.

    Args:
        query: ``[Q, D]`` embeddings.
        gallery: ``[G, D]`` embeddings, same dtype and device.
        matching: Of these queries and images, under the protocol that scores.
        metric: ``"cosine"`` or ``"euclidean"``.
        rerank: Give the similarities of ``k_reciprocal_rerank``, to which junk does not contribute.

    Raises:
        ValueError: As ``retrieval_scores``, of the embeddings; or ``matching`` is of other images.
    """
    query, gallery = checked_embeddings(query, "query"), checked_embeddings(gallery, "gallery")
    for name, rows, pids in (("query", query, matching.query_pids), ("gallery", gallery, matching.gallery_pids)):
        if len(rows) != len(pids):
            raise ValueError(f"need one pid for each {name} embedding, got {len(rows)} embeddings and {len(pids)} pids")
    start = 0
    for chunk in _similarities(query, gallery, matching, metric, rerank):
        yield _judged(chunk, start, matching)
        start += len(chunk)


def _similarities(query: Tensor, gallery: Tensor, matching: Matching, metric: MetricName, rerank: bool) -> Iterator[Tensor]:
    if not rerank:
        yield from similarity_chunks(query, gallery, metric)
        return
    kept = torch.ones(len(gallery), dtype=torch.bool, device=gallery.device)
    if matching.protocol != "leave-one-out":  # there, as in scoring, a query's position in the gallery must stay what it is
        kept[matching.junk] = False
    for chunk in k_reciprocal_rerank(F.normalize(query), F.normalize(gallery[kept])):
        whole = chunk.new_zeros(len(chunk), len(gallery))
        whole[:, kept] = -chunk
        yield whole


def _judged(chunk: Tensor, start: int, matching: Matching) -> JudgedRows:
    rows, columns, ignored = matching.pairs(start, start + len(chunk))
    counted, right = torch.ones_like(chunk, dtype=torch.bool), torch.zeros_like(chunk, dtype=torch.bool)
    counted[rows[ignored], columns[ignored]] = False
    counted[:, matching.junk] = False
    right[rows[~ignored], columns[~ignored]] = True
    right &= counted
    chunk[~counted] = -torch.inf  # the buffer is this generator's
    return JudgedRows(start, chunk, counted, right)
