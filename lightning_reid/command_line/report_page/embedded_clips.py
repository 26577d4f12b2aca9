"""A network of clips on the tracklets that its run was scored on, embedded as they were scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks.evaluation_rows import EmbeddedRecords, EvaluationRows
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.evaluation import EmbeddedTest
from lightning_reid.modules.video import VideoReID, load_video_network
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.records import AnyRecord, TrackletRecord


class _Kept(EvaluationRows):
    """Both sides with their embeddings."""

    sides: tuple[EmbeddedRecords, EmbeddedRecords]

    @override
    def use(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str, query: EmbeddedRecords, gallery: EmbeddedRecords) -> None:
        self.sides = query, gallery


def embed_clips(
    checkpoint: Path, data: VideoReIDDataModule, *, device: str, quiet: bool
) -> tuple[VideoNetwork, EmbeddedTest[TrackletRecord]]:
    """Embed queries and gallery by a Trainer, as they were when the run was scored.

    Args:
        checkpoint: Of ``VideoReID``.
        data: Of the test part.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        quiet: Show no progress bar.

    Raises:
        OSError: The checkpoint is gone.
        ValueError: It is of another module, or an embedding is not finite.
    """
    kept = _Kept()
    accelerator = {"cuda": "gpu"}.get(device, device)
    module = VideoReID.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        callbacks=[kept],
        logger=False,
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.test(module, data, verbose=False)
    query, gallery = kept.sides
    for side in (query, gallery):
        broken = (~side.embeddings.isfinite().all(1)).nonzero().flatten().tolist()
        if broken:
            raise ValueError(f"the embedding of {side.records[broken[0]].thumbnail} holds NaN or infinite values: {checkpoint} diverged")
    name, transform = data.dataset.name, data.transform_text()
    records = _tracklets(query.records), _tracklets(gallery.records)
    return load_video_network(checkpoint), EmbeddedTest(name, *records, query.embeddings.float(), gallery.embeddings.float(), transform)


def first_clips(data: VideoReIDDataModule, records: Sequence[AnyRecord]) -> Tensor:
    """The first clip ``[N, T, 3, H, W]`` of each of N tracklets, uint8, as it is tested."""
    asked, clips = _tracklets(records), dict[int, Tensor]()
    for batch in data.embedding_loader(asked):
        firsts = (batch["num_clips"].cumsum(0) - batch["num_clips"]).tolist()
        clips |= dict(zip(batch["indices"].tolist(), batch["clips"][firsts]))
    return torch.stack([clips[number] for number in range(len(asked))])


def _tracklets(records: Sequence[AnyRecord]) -> tuple[TrackletRecord, ...]:
    return tuple(one for one in records if isinstance(one, TrackletRecord))
