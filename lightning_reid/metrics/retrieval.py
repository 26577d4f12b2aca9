"""Mean average precision, CMC and mINP of queries against a gallery: the scores of re-identification."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_switch
from lightning_reid.metrics.matching import Matching, ProtocolName, require_matches
from lightning_reid.metrics.ranks import ranks_in_chunk
from lightning_reid.metrics.reranking import k_reciprocal_rerank
from lightning_reid.metrics.scores import AveragePrecisionRule, RetrievalScores, scores_from_ranks
from lightning_reid.metrics.similarity import MetricName, checked_embeddings, default_chunk_size, similarity_chunks


def retrieval_scores(
    query: Tensor,
    gallery: Tensor,
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor | None,
    gallery_camids: Tensor | None,
    *,
    metric: MetricName = "cosine",
    protocol: ProtocolName = "market",
    ap: AveragePrecisionRule = "step",
    max_rank: int = 50,
    rerank: bool = False,
    chunk_size: int | None = None,
    query_second_pids: Tensor | None = None,
    gallery_second_pids: Tensor | None = None,
) -> RetrievalScores:
    """Score the ranking of the gallery that the embeddings give to each query.

    Gallery images of equal similarity rank in gallery order, as in a stable sort. Memory beyond the inputs is one chunk of
    similarities, a normalized copy of the embeddings, and one more where they are half precision or the gallery holds junk.
    Autocast is switched off inside; ``torch.set_float32_matmul_precision`` below ``"highest"`` does blur the ranking.

    Args:
        query: ``[Q, D]`` embeddings, any floating dtype; half precision is compared in float32.
        gallery: ``[G, D]`` embeddings, same dtype and device.
        query_pids: ``[Q]`` integers; -1 is never scored.
        gallery_pids: ``[G]`` integers; -1 junk is ignored, 0 are distractors.
        query_camids: ``[Q]`` integers; ``None`` where the protocol does not look at cameras.
        gallery_camids: ``[G]`` integers, or ``None``.
        metric: ``"cosine"`` or ``"euclidean"``.
        protocol: ``"market"``, ``"mars"``, ``"mars-excluding-queries"``, ``"mars-corrected"``, ``"no-camera"`` or ``"leave-one-out"``: what
            counts for a query, see ``Matching``.
        ap: ``"step"``, the mean of the precisions at the matches; or ``"trapezoid"``, the area under the precision-recall curve
            with straight lines between the matches, from precision 1 (the rule of Market-1501's own evaluation).
        max_rank: Length of the CMC curve.
        rerank: Rank by ``k_reciprocal_rerank`` with its default settings. It compares L2-normalized embeddings, so it goes with
            the metric ``"cosine"``.
        chunk_size: Queries in a chunk; ``None`` takes what fills about 64 MiB on the CPU, 256 MiB elsewhere.
        query_second_pids: ``[Q]`` integers, a second identity of images that show two people, -1 where there is none; only under
            ``"mars-corrected"``. A match by either identity is a match.
        gallery_second_pids: ``[G]`` integers, likewise.

    Raises:
        ValueError: Shapes, dtypes or devices that do not fit together, an unknown option, nothing to score, NaN or infinite
            embeddings (how many, and the first row), or not one query with a match.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import retrieval_scores
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
        >>> query_pids, gallery_pids = torch.tensor([1]), torch.tensor([2, 1, 1])  # matches come second and third
        >>> scores = retrieval_scores(query, gallery, query_pids, gallery_pids, torch.tensor([1]), torch.tensor([2, 2, 3]))
        >>> round(scores.mAP, 4), round(scores.mINP, 4)  # (1/2 + 2/3) / 2, and 2/3
        (0.5833, 0.6667)
    """
    check_options(metric, protocol, ap, max_rank, rerank)
    query, gallery = checked_embeddings(query, "query"), checked_embeddings(gallery, "gallery")
    matching = Matching(
        query_pids,
        gallery_pids.to(gallery.device),
        query_camids,
        gallery_camids,
        protocol,
        query_second_pids=query_second_pids,
        gallery_second_pids=gallery_second_pids,
    )
    for name, rows, pids in (("query", query, matching.query_pids), ("gallery", gallery, matching.gallery_pids)):
        if len(rows) != len(pids):
            raise ValueError(f"need one pid for each {name} embedding, got {len(rows)} embeddings and {len(pids)} pids")
    if len(matching.junk) and protocol != "leave-one-out":  # there, a query's position in the gallery must stay what it is
        matching, counted = matching.without_junk()
        gallery = gallery[counted]
    # Under mixed precision the products would turn into bfloat16 unasked.
    with torch.autocast(gallery.device.type, enabled=False):
        if rerank:
            distances = k_reciprocal_rerank(F.normalize(query), F.normalize(gallery), chunk_size=chunk_size)
            return _score((chunk.neg_() for chunk in distances), matching, ap, max_rank)
        return _score(similarity_chunks(query, gallery, metric, chunk_size), matching, ap, max_rank)


def scores_from_similarities(
    chunks: Iterable[Tensor],
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor | None,
    gallery_camids: Tensor | None,
    *,
    protocol: ProtocolName = "market",
    ap: AveragePrecisionRule = "step",
    max_rank: int = 50,
    query_second_pids: Tensor | None = None,
    gallery_second_pids: Tensor | None = None,
) -> RetrievalScores:
    """Score a ranking by any similarity at all: of re-ranking, of a matcher, of a negated distance matrix in one piece.

    Args:
        chunks: Floating-point tensors ``[c, G]``, the rows of the ``[Q, G]`` similarity matrix in order, large = near, on the
            device of ``gallery_pids``. They stay as they are: a copy of about 64 MiB at a time (256 MiB on an accelerator) is worked on,
            however large a chunk is.
        query_pids: As in ``retrieval_scores``, like all that follow.
        gallery_pids: ``[G]`` integers.
        query_camids: ``[Q]`` integers, or ``None``.
        gallery_camids: ``[G]`` integers, or ``None``.
        protocol: What counts for a query.
        ap: Rule of the average precision.
        max_rank: Length of the CMC curve.
        query_second_pids: ``[Q]`` integers, or ``None``.
        gallery_second_pids: ``[G]`` integers, or ``None``.

    Raises:
        ValueError: As ``retrieval_scores``; also when the chunks do not make ``[Q, G]``, or hold NaN or infinities.
    """
    check_options("cosine", protocol, ap, max_rank, rerank=False)
    matching = Matching(
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
        protocol,
        query_second_pids=query_second_pids,
        gallery_second_pids=gallery_second_pids,
    )
    return _score(_checked_chunks(chunks), matching, ap, max_rank)


def check_options(metric: str, protocol: str, ap: str, max_rank: int, rerank: bool) -> None:
    """Refuse options that ``retrieval_scores`` does not know, before any embedding is made.

    Raises:
        ValueError: Which option it is, what it may be, and what came.
    """
    for name, value, known in (("metric", metric, MetricName), ("protocol", protocol, ProtocolName), ("ap", ap, AveragePrecisionRule)):
        require_choice(name, value, get_args(known))
    require_count("max_rank", max_rank)
    require_switch("rerank", rerank)
    if rerank and metric != "cosine":
        raise ValueError(f"rerank=True compares L2-normalized embeddings: leave metric at 'cosine', got {metric!r}")


def _checked_chunks(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Finite chunks, each a copy of moderate size."""
    row = 0
    for chunk in chunks:
        if chunk.ndim != 2:
            yield chunk  # to be refused by its shape
            return
        broken = (~chunk.isfinite().all(1)).nonzero().flatten()
        if len(broken):
            raise ValueError(
                f"the similarities of {len(broken)} queries hold NaN or infinite values, the first is query {row + int(broken[0])}"
            )
        for part in chunk.split(default_chunk_size(chunk.shape[1], chunk.device)):
            yield part.clone()  # what is ignored is overwritten below
        row += len(chunk)


def _score(chunks: Iterable[Tensor], matching: Matching, ap: AveragePrecisionRule, max_rank: int) -> RetrievalScores:
    require_matches(matching)
    queries, ranks = _ranks_of_matches(chunks, matching)
    return scores_from_ranks(queries, ranks, matching.query_pids.cpu(), ap, max_rank)


@torch.no_grad()
def _ranks_of_matches(chunks: Iterable[Tensor], matching: Matching) -> tuple[Tensor, Tensor]:
    """Query number and rank of every match, ``[P]`` int64 on the CPU, ascending by query, then by rank; overwrites the chunks."""
    num_queries, num_gallery = len(matching.query_pids), len(matching.gallery_pids)
    queries, ranks, start = [], [], 0
    for chunk in chunks:
        if chunk.ndim != 2 or chunk.shape[1] != num_gallery or start + len(chunk) > num_queries:
            raise ValueError(f"{num_queries} x {num_gallery} similarities were due, got {tuple(chunk.shape)} from query {start} on")
        rows, columns, ignored = matching.pairs(start, start + len(chunk))
        chunk[rows[ignored], columns[ignored]] = -torch.inf
        chunk.index_fill_(1, matching.junk, -torch.inf)
        rows, columns = rows[~ignored], columns[~ignored]
        found = ranks_in_chunk(chunk, rows, columns)
        order = (rows * (num_gallery + 1) + found).argsort()
        queries.append((rows[order] + start).cpu())
        ranks.append(found[order].cpu())
        start += len(chunk)
    if start != num_queries:
        raise ValueError(f"similarities of {num_queries} queries were due, got {start}")
    return torch.cat(queries), torch.cat(ranks)
