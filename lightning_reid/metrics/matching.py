"""Which gallery images answer a query, and which do not count, under a named protocol."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_reid.records import JUNK_PID

ProtocolName = Literal["market", "no-camera", "leave-one-out"]


class Matching:
    """Gallery images grouped by identity: finds the matches of some queries without comparing every pair of pids.

    Junk, pid -1, counts in no protocol.

    - ``"market"`` (Zheng et al. 2015): gallery images of the query's identity *and* camera are ignored. Distractors, pid 0, stay
      as wrong answers: no query bears that number (one that does is treated like any other identity).
    - ``"no-camera"``: everything else counts; the camids are not looked at and may be ``None``.
    - ``"leave-one-out"``: as ``"no-camera"``, for data sets whose queries are their gallery (CUB-200-2011): query i is gallery
      image i, and is not shown to itself.

    Args:
        query_pids: ``[Q]`` integers.
        gallery_pids: ``[G]`` integers; the other labels are moved to their device.
        query_camids: ``[Q]`` integers.
        gallery_camids: ``[G]`` integers.
        protocol: One of the above.

    Raises:
        ValueError: Unknown protocol, labels of the wrong shape or dtype, camids missing, no query or no
            gallery image, or ``"leave-one-out"`` with queries that are not the gallery.
    """

    def __init__(
        self, query_pids: Tensor, gallery_pids: Tensor, query_camids: Tensor | None, gallery_camids: Tensor | None, protocol: ProtocolName
    ) -> None:
        if protocol not in get_args(ProtocolName):
            raise ValueError(f"protocol must be one of {get_args(ProtocolName)}, got {protocol!r}")
        _check_labels(query_pids, "query_pids", None)
        _check_labels(gallery_pids, "gallery_pids", None)
        if protocol == "market":
            _check_labels(query_camids, "query_camids", query_pids)
            _check_labels(gallery_camids, "gallery_camids", gallery_pids)
        if protocol == "leave-one-out" and not torch.equal(query_pids.to(gallery_pids), gallery_pids):
            raise ValueError(
                "leave-one-out takes query i for gallery image i, but query_pids and gallery_pids differ: "
                "pass the same rows twice, or choose the protocol 'market' or 'no-camera'"
            )
        device = gallery_pids.device
        self.query_pids, self.gallery_pids = query_pids.to(device, torch.int64), gallery_pids.long()
        self.query_camids = None if query_camids is None else query_camids.to(device)
        self.gallery_camids = None if gallery_camids is None else gallery_camids.to(device)
        self.protocol = protocol
        self.junk = (self.gallery_pids == JUNK_PID).nonzero().flatten()
        sorted_pids, self._columns = self.gallery_pids.sort(stable=True)
        self._first = torch.searchsorted(sorted_pids, self.query_pids)
        self._counts = torch.searchsorted(sorted_pids, self.query_pids, right=True) - self._first
        self._counts[self.query_pids == JUNK_PID] = 0

    def without_junk(self) -> tuple[Matching, Tensor]:
        """The same protocol over the gallery images that are not junk, and their positions in this gallery, ``[G']`` int64.

        Raises:
            ValueError: Everything is junk; or the protocol is ``"leave-one-out"``, where a query's number is its gallery position.
        """
        if self.protocol == "leave-one-out":
            raise ValueError("under 'leave-one-out' the gallery must keep its positions: mask the junk columns instead")
        counted = (self.gallery_pids != JUNK_PID).nonzero().flatten()
        if not len(counted):
            raise ValueError(f"all {len(self.gallery_pids)} gallery images are junk (pid -1): check the pids of the gallery")
        camids = None if self.gallery_camids is None else self.gallery_camids[counted]
        return Matching(self.query_pids, self.gallery_pids[counted], self.query_camids, camids, self.protocol), counted

    def pairs(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """The gallery images that bear the identity of queries ``start..stop-1``.

        Returns:
            ``rows`` ``[P]`` int64 in ``0..stop-start-1``, ``columns`` ``[P]`` int64 gallery positions, ascending by row and then by
            column, and ``ignored`` ``[P]`` bool, whether the protocol takes that image out instead of calling it a match.
        """
        first, counts = self._first[start:stop], self._counts[start:stop]
        rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        columns = self._columns[first[rows] + place]
        return rows, columns, self._ignored(rows + start, columns)

    def _ignored(self, queries: Tensor, columns: Tensor) -> Tensor:
        if self.protocol == "market" and self.query_camids is not None and self.gallery_camids is not None:
            return self.query_camids[queries] == self.gallery_camids[columns]
        if self.protocol == "leave-one-out":
            return queries == columns
        return torch.zeros_like(columns, dtype=torch.bool)


def _check_labels(labels: Tensor | None, name: str, pids: Tensor | None) -> None:
    if labels is None:
        raise ValueError(f"the protocol 'market' needs {name}; a data set without cameras takes the protocol 'no-camera'")
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"{name} must be a non-empty list of integers, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {labels.dtype}")
    if pids is not None and labels.shape != pids.shape:
        raise ValueError(f"{name} must be as many as there are pids, got {len(labels)} for {len(pids)}")
