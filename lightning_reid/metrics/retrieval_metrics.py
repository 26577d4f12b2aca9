"""Retrieval scores as a torchmetrics ``Metric``: collects rows, synchronizes ranks, calls ``retrieval_scores``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.metrics.matching import Matching, ProtocolName, require_matches
from lightning_reid.metrics.retrieval import check_options, retrieval_scores
from lightning_reid.metrics.scores import AveragePrecisionRule, RetrievalScores
from lightning_reid.metrics.similarity import MetricName
from lightning_reid.metrics.stamp import ProtocolStamp
from lightning_reid.records import JUNK_PID, AnyRecord


class RetrievalMetrics(Metric):
    """mAP, CMC and mINP of queries against a gallery under a named protocol (see ``retrieval_scores``). Values in [0, 1].

    Rows may come in any order and on any rank. Each carries its index in its data set, queries and gallery numbered apart: a row that
    a distributed sampler repeated counts once, and ties rank in data-set order whatever the number of processes. Every rank
    must have had at least one row when ``compute`` is called.

    Under ``"leave-one-out"`` each image is passed once, as a query, and serves as gallery too; or twice, under the same index.

    Args:
        protocol: ``"market"``, ``"mars"`` and others, see ``Matching``.
        metric: ``"cosine"`` or ``"euclidean"``.
        ap: ``"step"`` or ``"trapezoid"``.
        max_rank: Length of the CMC curve, at least 10.
        rerank: Whether to re-rank with ``k_reciprocal_rerank``.
        **kwargs: Of ``torchmetrics.Metric``; ``compute_on_cpu=True`` keeps the embeddings of a long evaluation off the device.

    Raises:
        ValueError: An unknown option.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import RetrievalMetrics
        >>> metric = RetrievalMetrics()
        >>> embeddings, pids, camids = torch.eye(2)[[0, 0, 1]], torch.tensor([1, 1, 2]), torch.tensor([1, 2, 2])
        >>> metric.update(embeddings, pids, camids, indices=torch.tensor([0, 0, 1]), is_query=torch.tensor([True, False, False]))
        >>> round(float(metric.compute()["mAP"]), 3)  # the query's nearest image is the right one
        1.0
    """

    is_differentiable, higher_is_better, full_state_update = False, True, False
    rows = ("embeddings", "pids", "camids", "indices", "is_query", "second_pids")
    embeddings: list[Tensor]
    pids: list[Tensor]
    camids: list[Tensor]
    indices: list[Tensor]
    is_query: list[Tensor]
    second_pids: list[Tensor]

    def __init__(
        self,
        protocol: ProtocolName = "market",
        metric: MetricName = "cosine",
        ap: AveragePrecisionRule = "step",
        max_rank: int = 50,
        rerank: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_count("max_rank", max_rank, low=10)  # R10 is reported
        check_options(metric, protocol, ap, max_rank, rerank)
        self.protocol, self.metric, self.ap, self.max_rank, self.rerank = protocol, metric, ap, max_rank, rerank
        self._scores: RetrievalScores | None = None
        self._counts = (0, 0, 0)
        for name in self.rows:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @override
    def update(
        self,
        embeddings: Tensor,
        pids: Tensor,
        camids: Tensor,
        indices: Tensor,
        is_query: Tensor | bool,
        second_pids: Tensor | None = None,
    ) -> None:
        """Take in the rows of a batch.

        Args:
            embeddings: ``[B, D]`` float.
            pids: ``[B]`` int64.
            camids: ``[B]`` int64.
            indices: ``[B]`` int64 position in the query set or in the gallery.
            is_query: ``[B]`` bool, or one bool for the whole batch.
            second_pids: ``[B]`` int64, a second identity or -1, for the protocol ``"mars-corrected"``; ``None`` is -1 for all.

        Raises:
            ValueError: The rows are not B each.
        """
        if isinstance(is_query, bool):
            is_query = torch.full_like(indices, is_query, dtype=torch.bool)
        if second_pids is None:
            second_pids = torch.full_like(pids, JUNK_PID)
        batch = dict(zip(self.rows, (embeddings, pids, camids, indices, is_query, second_pids), strict=True))
        shapes = {name: tuple(rows.shape) for name, rows in batch.items()}
        if embeddings.ndim != 2 or any(shapes[name] != (len(embeddings),) for name in self.rows[1:]):
            raise ValueError(f"need embeddings [B, D] and [B] of everything else, got {shapes}")
        for name, rows in batch.items():
            getattr(self, name).append(rows.detach())

    def require_scorable(self, query: Sequence[AnyRecord], gallery: Sequence[AnyRecord]) -> None:
        """Refuse what ``compute`` would refuse by the labels alone: before anything is embedded, or trained.

        Raises:
            ValueError: As ``Matching``, or no query has a match.
        """
        require_matches(Matching.of_records(query, gallery, self.protocol))

    @override
    def compute(self) -> dict[str, Tensor]:
        """``mAP``, ``R1``, ``R5``, ``R10`` and ``mINP`` over all ranks, float32 scalars on the device of the metric.

        Raises:
            ValueError: As ``retrieval_scores``; also if one index came with two different pids or camids.
            RuntimeError: No rows at all.
        """
        if not len(self.indices):
            raise RuntimeError("RetrievalMetrics has no rows yet: call update() with query and gallery batches before compute()")
        rows = {name: dim_zero_cat(getattr(self, name)) for name in self.rows}
        query, gallery = _data_set_rows(rows, is_query=True), _data_set_rows(rows, is_query=False)
        if self.protocol == "leave-one-out":
            gallery = _same_images(query, gallery)
        sides = (side[name] for name in ("embeddings", "pids", "camids") for side in (query, gallery))
        corrected = self.protocol == "mars-corrected"
        scores = retrieval_scores(
            *sides,
            metric=self.metric,
            protocol=self.protocol,
            ap=self.ap,
            max_rank=self.max_rank,
            rerank=self.rerank,
            query_second_pids=query["second_pids"] if corrected else None,
            gallery_second_pids=gallery["second_pids"] if corrected else None,
        )
        self._scores = scores
        self._counts = len(query["pids"]), int((gallery["pids"] != JUNK_PID).sum()), len(query["pids"].unique())
        values = {"mAP": scores.mAP, **{f"R{rank}": float(scores.cmc[rank - 1]) for rank in (1, 5, 10)}, "mINP": scores.mINP}
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    @override
    def reset(self) -> None:
        """Forget all rows and the last scores."""
        super().reset()
        self._scores, self._counts = None, (0, 0, 0)

    def scores(self) -> RetrievalScores:
        """The full ``RetrievalScores`` behind ``compute``, for tables with intervals; call it on all ranks or on none."""
        self.compute()
        assert self._scores is not None  # compute() has just set it, or found its cached result of the same rows
        return self._scores

    def stamp(self, dataset: str, transform: str = "", seed: int | None = None) -> ProtocolStamp:
        """What the scores were measured on; call it on all ranks or on none."""
        self.compute()
        return ProtocolStamp(
            dataset,
            *self._counts,
            protocol=self.protocol,
            ap=self.ap,
            metric=self.metric,
            transform=transform,
            seed=seed,
            reranked=self.rerank,
        )


def _data_set_rows(rows: dict[str, Tensor], *, is_query: bool) -> dict[str, Tensor]:
    """The rows of one side in data-set order, each index once."""
    positions = (rows["is_query"] == is_query).nonzero().flatten()
    indices, order = rows["indices"][positions].sort(stable=True)
    positions = positions[order]
    repeated = torch.zeros_like(indices, dtype=torch.bool)
    repeated[1:] = indices[1:] == indices[:-1]
    for name in ("pids", "camids"):
        labels = rows[name][positions]
        clash = (repeated[1:] & (labels[1:] != labels[:-1])).nonzero().flatten()
        if len(clash):
            k = int(clash[0])
            raise ValueError(
                f"index {int(indices[k])} of the {'query set' if is_query else 'gallery'} came with {name} {int(labels[k])} and "
                f"{int(labels[k + 1])}: indices must number one data set, give each evaluation set its own RetrievalMetrics"
            )
    return {name: rows[name][positions[~repeated]] for name in rows}


def _same_images(query: dict[str, Tensor], gallery: dict[str, Tensor]) -> dict[str, Tensor]:
    if len(gallery["indices"]) and not torch.equal(query["indices"], gallery["indices"]):
        raise ValueError(
            f"leave-one-out needs the same images as queries and as gallery, got {len(query['indices'])} and "
            f"{len(gallery['indices'])} with different indices: pass each image once, with is_query=True"
        )
    return query
