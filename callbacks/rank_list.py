"""Rank lists as a picture: what a user would see when searching for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks.crop_sheet import NEUTRAL, RIGHT, WRONG, FramedCrop, draw_crop_sheet
from lightning_reid.callbacks.embedding_pass import gather_rows
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.files import write_atomically
from lightning_reid.protocols import EvaluatedData
from lightning_reid.records import JUNK_PID, AnyRecord


class RankListLogger(pl.Callback):
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
        self.path, self.num_queries, self.top = Path(path), num_queries, top
        self._batches: list[dict[str, Tensor]] = []

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._batches.append({name: values.cpu() for name, values in outputs.items()})

    @override
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, "val/rank_list")

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, "test/rank_list")

    def _draw(self, trainer: pl.Trainer, name: str) -> None:
        rows = {
            key: gather_rows(trainer, torch.cat([batch[key] for batch in self._batches])) for key in ("embeddings", "indices", "is_query")
        }
        self._batches = []
        data = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if not isinstance(data, EvaluatedData):
            raise ValueError(f"RankListLogger wants a datamodule with queries and a gallery, got {type(data).__name__}")
        query, gallery = data.evaluation_records()
        queries = torch.linspace(0, len(query) - 1, min(self.num_queries, len(query))).round().long()
        embeddings = [_by_index(rows, part, len(records)) for part, records in ((True, query), (False, gallery))]
        ranks = nearest_allowed([query[i] for i in queries.tolist()], gallery, embeddings[0][queries], embeddings[1], self.top)
        picture = draw_rank_lists([query[i] for i in queries.tolist()], [[gallery[j] for j in row] for row in ranks])
        write_atomically(self.path, picture.save)
        log_picture(trainer, name, self.path)


def _by_index(rows: dict[str, Tensor], is_query: bool, count: int) -> Tensor:
    chosen = rows["is_query"] == is_query
    ordered = torch.empty(count, rows["embeddings"].shape[1], dtype=rows["embeddings"].dtype)
    ordered[rows["indices"][chosen]] = rows["embeddings"][chosen]
    return ordered


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
