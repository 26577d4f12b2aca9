"""A callback that logs what an epoch asked of a store of blocks."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
from typing_extensions import override

from lightning_reid.blocks.counting import SharedCounts
from lightning_reid.blocks.statistics import AccessCounts

logger = logging.getLogger(__name__)


class BlockAccessLogger(pl.Callback):
    """Logs at the end of an epoch what was asked of the store that the data lie in: ``blocks/requests``, ``blocks/bytes_read``, ...

    Sums are of this rank's workers; each worker's are told at level INFO. Nothing is logged of data that lie in no blocks.

    Source: distributed-cloud text, section III.A: statistics of access, by which copies are placed.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import BlockAccessLogger
        >>> trainer = pl.Trainer(max_epochs=1, callbacks=[BlockAccessLogger()], logger=False, enable_checkpointing=False)
    """

    def __init__(self) -> None:
        self._before = AccessCounts()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        counts = _counts(trainer)
        self._before = AccessCounts() if counts is None else counts.total()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        counts = _counts(trainer)
        if counts is None:
            return
        epoch = counts.total() - self._before
        for name, number in epoch.as_plain().items():
            pl_module.log(f"blocks/{name}", float(number), on_epoch=True, reduce_fx="sum", sync_dist=trainer.world_size > 1)
        for worker, told in counts.by_worker().items():
            logger.info("blocks, %s, since the fit began: %s", worker, told.as_plain())


def _counts(trainer: pl.Trainer) -> SharedCounts | None:
    dataset = getattr(getattr(trainer, "datamodule", None), "dataset", None)
    reader = getattr(getattr(dataset, "pictures", None), "reader", None)
    return None if reader is None else reader.counts
