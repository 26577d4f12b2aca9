"""What a score was measured on and how: the line that stands beside every number."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from typing_extensions import override


@dataclass(frozen=True, slots=True)
class ProtocolStamp:
    """How scores were measured: without these facts two of them cannot be compared.

    Attributes:
        dataset: Name of the data set, with its version or split where it has several.
        num_query: Queries.
        num_gallery: Gallery entries that count: with distractors, without junk.
        num_query_ids: Different identities among the queries.
        protocol: ``"market"``, ``"mars"`` and others, see ``Matching``.
        ap: ``"step"`` or ``"trapezoid"``.
        metric: ``"cosine"`` or ``"euclidean"``.
        transform: What the test images went through, e.g. ``"resize 256x128, ImageNet normalization"``.
        seed: Seed of the run; ``None`` where nothing was drawn.
        reranked: Whether k-reciprocal re-ranking was applied.
        unit: What the gallery consists of, ``"images"`` or ``"tracklets"``.
        num_val_ids: Training identities that were held out to select by; 0 where validation, if any, was on the test part.
        interval: How an interval that stands beside the scores was found, e.g. ``"95 % intervals of mAP by bootstrap over 120 people"``;
            empty where there is none.

    Example:
        >>> from lightning_reid.metrics import ProtocolStamp
        >>> stamp = ProtocolStamp("market1501", num_query=3368, num_gallery=15913, num_query_ids=750, seed=0)
        >>> print(stamp)
        market1501: 3,368 queries of 750 ids, 15,913 gallery images | protocol market, AP by step, cosine, not re-ranked
        | transform not stated | seed 0
    """

    dataset: str
    num_query: int
    num_gallery: int
    num_query_ids: int
    protocol: str = "market"
    ap: str = "step"
    metric: str = "cosine"
    transform: str = ""
    seed: int | None = None
    reranked: bool = False
    unit: str = "images"
    num_val_ids: int = 0
    interval: str = ""

    @override
    def __str__(self) -> str:
        """One line for tables and logs."""
        parts = [
            f"{self.dataset}: {self.num_query:,} queries of {self.num_query_ids:,} ids, {self.num_gallery:,} gallery {self.unit}",
            f"protocol {self.protocol}, AP by {self.ap}, {self.metric}, {'re-ranked' if self.reranked else 'not re-ranked'}",
            self.transform or "transform not stated",
            "no seed" if self.seed is None else f"seed {self.seed}",
            f"validated on {self.num_val_ids:,} training ids" if self.num_val_ids else "",
            self.interval,
        ]
        return " | ".join(part for part in parts if part)

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """All attributes by name, for JSON."""
        return asdict(self)
