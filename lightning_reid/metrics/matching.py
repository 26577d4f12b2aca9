"""Which gallery images answer a query, and which do not count, under a named protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, AnyRecord

ProtocolName = Literal["market", "mars", "mars-excluding-queries", "mars-corrected", "no-camera", "leave-one-out"]

CAMERA_PROTOCOLS = ("market", "mars", "mars-excluding-queries", "mars-corrected")
"""Those that take the query's own camera out, and hence need camids."""


_QUERIES_AT_ONCE = 256


class Matching:
    """Gallery images grouped by identity: finds the matches of some queries without comparing every pair of pids.

    Junk, pid -1, counts in no protocol.

    - ``"market"`` (Zheng et al. 2015): gallery images of the query's identity *and* camera are ignored. Distractors, pid 0, stay
      as wrong answers: no query bears that number (one that does is treated like any other identity).
    - ``"mars"``: the same rule for tracklets, over a gallery that holds the queries too (each is ignored for itself).
    - ``"mars-excluding-queries"``: the same rule over a gallery without the queries. Queries that lose their only match are not scored.
      Whoever makes the gallery leaves them out; the name tells one number from the other.
    - ``"mars-corrected"`` (thesis text, section 2.6.4): distractors of the query's camera are ignored too, since many show the query
      itself; and an image of two people may bear a second identity: it matches by either.
    - ``"no-camera"``: everything else counts; the camids are not looked at and may be ``None``.
    - ``"leave-one-out"``: as ``"no-camera"``, for data sets whose queries are their gallery (CUB-200-2011): query i is gallery
      image i, and is not shown to itself.

    Args:
        query_pids: ``[Q]`` integers.
        gallery_pids: ``[G]`` integers; the other labels are moved to their device.
        query_camids: ``[Q]`` integers.
        gallery_camids: ``[G]`` integers.
        protocol: One of the above.
        query_second_pids: ``[Q]`` integers, -1 or the first identity where there is no second; ``"mars-corrected"`` only.
        gallery_second_pids: ``[G]`` integers, likewise.

    Raises:
        ValueError: Unknown protocol, labels of the wrong shape or dtype, camids missing, no query or no gallery image, second identities
            under a protocol that knows none, or ``"leave-one-out"`` with queries that are not the gallery.
    """

    def __init__(
        self,
        query_pids: Tensor,
        gallery_pids: Tensor,
        query_camids: Tensor | None,
        gallery_camids: Tensor | None,
        protocol: ProtocolName,
        *,
        query_second_pids: Tensor | None = None,
        gallery_second_pids: Tensor | None = None,
    ) -> None:
        if protocol not in get_args(ProtocolName):
            raise ValueError(f"protocol must be one of {get_args(ProtocolName)}, got {protocol!r}")
        _check_labels(query_pids, "query_pids", None)
        _check_labels(gallery_pids, "gallery_pids", None)
        if protocol in CAMERA_PROTOCOLS:
            _check_camids(query_camids, "query_camids", query_pids, protocol)
            _check_camids(gallery_camids, "gallery_camids", gallery_pids, protocol)
        for name, second, pids in (
            ("query_second_pids", query_second_pids, query_pids),
            ("gallery_second_pids", gallery_second_pids, gallery_pids),
        ):
            if second is not None:
                _check_labels(second, name, pids)
                if protocol != "mars-corrected":
                    raise ValueError(f"{name} are known to the protocol 'mars-corrected' only, got protocol {protocol!r}")
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
        self.query_second_pids = None if query_second_pids is None else query_second_pids.to(device, torch.int64)
        self.gallery_second_pids = None if gallery_second_pids is None else gallery_second_pids.to(device, torch.int64)
        self.junk = (self.gallery_pids == JUNK_PID).nonzero().flatten()
        self._distractors = (self.gallery_pids == DISTRACTOR_PID).nonzero().flatten()
        self._sorted_pids, self._columns = self._columns_by_pid()

    @classmethod
    def of_records(cls, query: Sequence[AnyRecord], gallery: Sequence[AnyRecord], protocol: ProtocolName) -> Matching:
        """The matching of the records that are to be embedded, by their labels."""
        pids, camids, second = (
            [torch.tensor([getattr(record, name, JUNK_PID) for record in side]) for side in (query, gallery)]
            for name in ("pid", "camid", "second_pid")
        )
        corrected = protocol == "mars-corrected"
        return cls(
            *(pids[0], pids[1], camids[0], camids[1], protocol),
            query_second_pids=second[0] if corrected else None,
            gallery_second_pids=second[1] if corrected else None,
        )

    def _columns_by_pid(self) -> tuple[Tensor, Tensor]:
        """Ascending pids, and the gallery position of each; positions with a second identity stand there twice."""
        sorted_pids, columns = self.gallery_pids.sort(stable=True)
        if self.gallery_second_pids is None:
            return sorted_pids, columns
        twofold = ((self.gallery_second_pids != JUNK_PID) & (self.gallery_pids != JUNK_PID)).nonzero().flatten()
        sorted_pids, order = torch.cat([sorted_pids, self.gallery_second_pids[twofold]]).sort(stable=True)
        return sorted_pids, torch.cat([columns, twofold])[order]

    def without_junk(self) -> tuple[Matching, Tensor]:
        """The matching over the gallery images that are not junk, and their positions in this gallery, ``[G']`` int64.

        Raises:
            ValueError: Everything is junk; or the protocol is ``"leave-one-out"``, where a query's number is its gallery position.
        """
        if self.protocol == "leave-one-out":
            raise ValueError("under 'leave-one-out' the gallery must keep its positions: mask the junk columns instead")
        counted = (self.gallery_pids != JUNK_PID).nonzero().flatten()
        if not len(counted):
            raise ValueError(f"all {len(self.gallery_pids)} gallery images are junk (pid -1): check the pids of the gallery")
        camids, second = (None if labels is None else labels[counted] for labels in (self.gallery_camids, self.gallery_second_pids))
        kept = Matching(
            self.query_pids,
            self.gallery_pids[counted],
            self.query_camids,
            camids,
            self.protocol,
            query_second_pids=self.query_second_pids,
            gallery_second_pids=second,
        )
        return kept, counted

    def pairs(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """The gallery images that bear the identity of queries ``start..stop-1``, or that the protocol takes out for them.

        Returns:
            ``rows`` ``[P]`` int64 in ``0..stop-start-1``, ``columns`` ``[P]`` int64 gallery positions, ascending by row and then by
            column, and ``ignored`` ``[P]`` bool, whether the protocol takes that image out instead of calling it a match.
        """
        rows, columns = self._bearing(self.query_pids[start:stop])
        if self.protocol == "mars-corrected":
            rows, columns = self._corrected(rows, columns, start, stop)
        return rows, columns, self._ignored(rows + start, columns)

    def _bearing(self, pids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of ``pids`` and the gallery positions that bear the same number; nothing bears junk's."""
        first = torch.searchsorted(self._sorted_pids, pids)
        counts = torch.searchsorted(self._sorted_pids, pids, right=True) - first
        counts[pids == JUNK_PID] = 0
        rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        return rows, self._columns[first[rows] + place]

    def _corrected(self, rows: Tensor, columns: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Also what the second identities of the queries find, and the distractors of their cameras; each pair once."""
        assert self.query_camids is not None
        assert self.gallery_camids is not None
        found = [(rows, columns)]
        if self.query_second_pids is not None:
            found.append(self._bearing(self.query_second_pids[start:stop]))
        same_camera = self.query_camids[start:stop, None] == self.gallery_camids[self._distractors]
        near, which = same_camera.nonzero(as_tuple=True)
        found.append((near, self._distractors[which]))
        num_gallery = len(self.gallery_pids)
        pairs = torch.cat([row * num_gallery + column for row, column in found]).unique()
        return pairs // num_gallery, pairs % num_gallery

    def _ignored(self, queries: Tensor, columns: Tensor) -> Tensor:
        if self.protocol in CAMERA_PROTOCOLS and self.query_camids is not None and self.gallery_camids is not None:
            return self.query_camids[queries] == self.gallery_camids[columns]
        if self.protocol == "leave-one-out":
            return queries == columns
        return torch.zeros_like(columns, dtype=torch.bool)


def require_matches(matching: Matching) -> None:
    """Refuse to score queries of which not one has a match: the metric does, and whoever trains for its scores, before that.

    Raises:
        ValueError: Not one has.
    """
    num_queries = len(matching.query_pids)
    for start in range(0, num_queries, _QUERIES_AT_ONCE):
        _, _, ignored = matching.pairs(start, min(start + _QUERIES_AT_ONCE, num_queries))
        if not ignored.all():
            return
    raise ValueError(
        f"not one of {num_queries} queries has a match among {len(matching.gallery_pids)} gallery images under the protocol"
        f" {matching.protocol!r}: compare the pids of both (junk is -1), and whether the matches share the query's camera. Where all come"
        " from one camera, the protocol 'no-camera' scores them"
    )


def _check_camids(camids: Tensor | None, name: str, pids: Tensor, protocol: str) -> None:
    if camids is None:
        raise ValueError(f"the protocol {protocol!r} needs {name}; a data set without cameras takes the protocol 'no-camera'")
    _check_labels(camids, name, pids)


def _check_labels(labels: Tensor, name: str, pids: Tensor | None) -> None:
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"{name} must be a non-empty list of integers, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {labels.dtype}")
    if pids is not None and labels.shape != pids.shape:
        raise ValueError(f"{name} must be as many as there are pids, got {len(labels)} for {len(pids)}")
