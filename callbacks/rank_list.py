"""Rank lists as a picture: what a user would see when searching for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from PIL import Image
from typing_extensions import override

from lightning_reid.arguments import require_count, require_path
from lightning_reid.callbacks.crop_sheet import NEUTRAL, RIGHT, WRONG, FramedCrop, crops_of, draw_crop_sheet
from lightning_reid.callbacks.evaluation_rows import EmbeddedRecords, EvaluationRows
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.files import write_atomically
from lightning_reid.metrics import rank_lists
from lightning_reid.metrics.matching import Matching, ProtocolName
from lightning_reid.metrics.rank_lists import RankList
from lightning_reid.protocols import ScoredModel
from lightning_reid.records import JUNK_PID, AnyRecord, TrackletRecord


class RankListLogger(EvaluationRows):
    """After validation and testing, draw some queries with their nearest gallery images: green frames are right, red ones wrong.

    Ranked, left out and judged right is what the module scores: by its protocol (see ``Matching``), metric and re-ranking. A tracklet is
    shown by its middle crop. Written as a PNG, and shown in W&B and TensorBoard where those loggers are on.

    Args:
        path: PNG to write, anew each time.
        num_queries: Rows, spread evenly over the queries; at least 1.
        top: Gallery images a row, at least 1.

    Raises:
        ValueError: Out of range; or (in ``setup``) the module does not score its embeddings.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import RankListLogger
        >>> from lightning_reid.datamodules import ImageReIDDataModule
        >>> from lightning_reid.modules import SupervisedReID
        >>> model = SupervisedReID(backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
        >>> data = ImageReIDDataModule(market, image_size=(64, 32), p=4, num_workers=0)  # market: a folder in the Market naming
        >>> ranks = RankListLogger(folder / "ranks.png", num_queries=4)
        >>> trainer = pl.Trainer(accelerator="cpu", callbacks=[ranks], logger=False, enable_progress_bar=False)
        >>> scores = trainer.test(model, data, verbose=False)
        >>> ranks.path.exists()
        True
    """

    def __init__(self, path: str | Path = "rank_list.png", num_queries: int = 8, top: int = 10) -> None:
        require_count("num_queries", num_queries)
        require_count("top", top)
        super().__init__()
        require_path("path", path)
        self.path, self.num_queries, self.top = Path(path), num_queries, top

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        _scored(pl_module)

    @override
    def use(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str, query: EmbeddedRecords, gallery: EmbeddedRecords) -> None:
        if not trainer.is_global_zero:
            return
        rows = torch.linspace(0, len(query.records) - 1, min(self.num_queries, len(query.records))).round().long()
        asked = [query.records[i] for i in rows.tolist()]
        scored = _scored(module).retrieval
        if scored.protocol == "leave-one-out":  # the queries are their gallery, and need not come twice
            gallery = query
        lists = rank_lists(
            query.embeddings,
            gallery.embeddings,
            matching_of(query.records, gallery.records, scored.protocol),
            rows.tolist(),
            top=self.top,
            metric=scored.metric,
            rerank=scored.rerank,
        )
        picture = draw_rank_lists(asked, [frames_of(gallery.records, ranked) for ranked in lists], open_crop=crops_of(trainer))
        write_atomically(self.path, picture.save)
        log_picture(trainer, f"{stage}/rank_list", self.path)


def matching_of(query: Sequence[AnyRecord], gallery: Sequence[AnyRecord], protocol: ProtocolName) -> Matching:
    """Which gallery records answer which query records under a protocol."""
    query_pids, gallery_pids = (torch.tensor([record.pid for record in side]) for side in (query, gallery))
    query_camids, gallery_camids = (torch.tensor([record.camid for record in side]) for side in (query, gallery))
    second = [torch.tensor([_second_pid(record) for record in side]) if protocol == "mars-corrected" else None for side in (query, gallery)]
    return Matching(
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
        protocol,
        query_second_pids=second[0],
        gallery_second_pids=second[1],
    )


def frames_of(gallery: Sequence[AnyRecord], ranked: RankList) -> list[FramedCrop]:
    """The crops of a rank list, in green where they are right, in red where not."""
    answers = zip(ranked.columns.tolist(), ranked.right.tolist(), strict=True)
    return [FramedCrop(gallery[column].thumbnail, RIGHT if right else WRONG) for column, right in answers]


def draw_rank_lists(
    query: Sequence[AnyRecord],
    ranked: Sequence[Sequence[FramedCrop]],
    *,
    height: int = 128,
    width: int = 64,
    open_crop: Callable[[str], Image.Image] = Image.open,
) -> Image.Image:
    """One row a query: its crop, then its ranked gallery crops in their frames; crops of height x width pixels, opened by ``open_crop``."""
    rows = [[FramedCrop(asked.thumbnail, NEUTRAL), *found] for asked, found in zip(query, ranked, strict=True)]
    headings = ["query", *(str(rank) for rank in range(1, max(map(len, rows))))]
    return draw_crop_sheet(rows, headings, height=height, width=width, open_crop=open_crop)


def _second_pid(record: AnyRecord) -> int:
    return record.second_pid if isinstance(record, TrackletRecord) else JUNK_PID


def _scored(module: pl.LightningModule) -> ScoredModel:
    if not isinstance(module, ScoredModel):
        raise ValueError(f"RankListLogger shows what a module scores, but {type(module).__name__} has no `retrieval`, as a ReIDModule has")
    return module
