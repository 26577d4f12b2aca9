"""Rank lists as a picture: what a user would see when searching for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks.crop_sheet import NEUTRAL, RIGHT, WRONG, FramedCrop, draw_crop_sheet
from lightning_reid.callbacks.evaluation_rows import EmbeddedRecords, EvaluationRows
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.files import write_atomically
from lightning_reid.records import JUNK_PID, AnyRecord


class RankListLogger(EvaluationRows):
    """After validation and testing, draw some queries with their nearest gallery images: green frames are right, red ones wrong.

    Images that the protocols ignore (same person in the same camera, junk) are left out, as in scoring; a tracklet is shown by its middle
    crop. Written as a PNG, and shown in W&B and TensorBoard where those loggers are on.

    Args:
        path: PNG to write, anew each time.
        num_queries: Rows, spread evenly over the queries; at least 1.
        top: Gallery images a row, at least 1.
    """

    def __init__(self, path: str | Path = "rank_list.png", num_queries: int = 8, top: int = 10) -> None:
        if num_queries < 1 or top < 1:
            raise ValueError(f"num_queries and top must be at least 1, got {num_queries} and {top}")
        super().__init__()
        self.path, self.num_queries, self.top = Path(path), num_queries, top

    @override
    def use(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str, query: EmbeddedRecords, gallery: EmbeddedRecords) -> None:
        if not trainer.is_global_zero:
            return
        rows = torch.linspace(0, len(query.records) - 1, min(self.num_queries, len(query.records))).round().long()
        asked = [query.records[i] for i in rows.tolist()]
        ranks = nearest_allowed(asked, gallery.records, query.embeddings[rows], gallery.embeddings, self.top)
        picture = draw_rank_lists(asked, [[gallery.records[j] for j in row] for row in ranks])
        write_atomically(self.path, picture.save)
        log_picture(trainer, f"{stage}/rank_list", self.path)


def nearest_allowed(
    query: Sequence[AnyRecord], gallery: Sequence[AnyRecord], query_embeddings: Tensor, gallery_embeddings: Tensor, top: int
) -> list[list[int]]:
    """The ``top`` most similar gallery rows of every query (cosine), without those the Market protocol ignores."""
    similarity = F.normalize(query_embeddings.float(), dim=1) @ F.normalize(gallery_embeddings.float(), dim=1).T
    pids, camids = torch.tensor([record.pid for record in gallery]), torch.tensor([record.camid for record in gallery])
    ranks = []
    for row, record in zip(similarity, query, strict=True):
        ignored = (pids == JUNK_PID) | ((pids == record.pid) & (camids == record.camid))
        ranks.append(
            [j for j in row.masked_fill(ignored, -torch.inf).argsort(descending=True, stable=True)[:top].tolist() if not ignored[j]]
        )
    return ranks


def draw_rank_lists(
    query: Sequence[AnyRecord], ranked: Sequence[Sequence[AnyRecord]], *, height: int = 128, width: int = 64
) -> Image.Image:
    """One row a query: its crop, then its ranked gallery crops in green (same person) or red frames; crops of height x width pixels."""
    rows = [
        [FramedCrop(asked.thumbnail, NEUTRAL)]
        + [FramedCrop(found.thumbnail, RIGHT if found.identities & asked.identities else WRONG) for found in records]
        for asked, records in zip(query, ranked, strict=True)
    ]
    headings = ["query", *(str(rank) for rank in range(1, max(map(len, rows))))]
    return draw_crop_sheet(rows, headings, height=height, width=width)
