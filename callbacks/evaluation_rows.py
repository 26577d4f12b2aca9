"""What callbacks need to look at all embeddings of a validation or a test."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks.embedding_pass import gather_rows
from lightning_reid.protocols import EvaluatedData
from lightning_reid.records import AnyRecord

logger = logging.getLogger(__name__)

ROWS = ("embeddings", "indices", "is_query")


class EmbeddedRecords(NamedTuple):
    """Records and their embeddings ``[n, D]``, on the CPU."""

    records: tuple[AnyRecord, ...]
    embeddings: Tensor


class EvaluationRows(pl.Callback, ABC):
    """Keeps what the evaluation steps returned and hands it to its child, query and gallery apart and in the order of the records."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    @abstractmethod
    def use(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str, query: EmbeddedRecords, gallery: EmbeddedRecords) -> None:
        """Do what the callback is for; called on every rank, ``stage`` is ``"val"`` or ``"test"``."""

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not isinstance(outputs, Mapping) or not set(ROWS) <= set(outputs):
            raise ValueError(
                f"{type(self).__name__} looks at what evaluation steps return: those of {type(pl_module).__name__} must give a dict with"
                f" {', '.join(ROWS)}"
            )
        self._batches.append({name: outputs[name].cpu() for name in ROWS})

    @override
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hand_over(trainer, pl_module, "val")

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hand_over(trainer, pl_module, "test")

    def _hand_over(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        rows = {name: gather_rows(trainer, torch.cat([batch[name] for batch in self._batches])) for name in ROWS}
        self._batches = []
        data = getattr(trainer, "datamodule", None)
        if trainer.sanity_checking:
            return
        if not isinstance(data, EvaluatedData):
            raise ValueError(f"{type(self).__name__} wants a datamodule with queries and a gallery, got {type(data).__name__}")
        query, gallery = data.evaluation_records("test" if stage == "test" else "val")
        of_query, of_gallery = _by_index(rows, True, len(query)), _by_index(rows, False, len(gallery))
        if of_query is None or of_gallery is None:
            logger.warning("%s is left out: it is for a whole evaluation, and this was of a part of the records", type(self).__name__)
            return
        self.use(trainer, pl_module, stage, EmbeddedRecords(query, of_query), EmbeddedRecords(gallery, of_gallery))


def _by_index(rows: dict[str, Tensor], is_query: bool, count: int) -> Tensor | None:
    """``[count, D]`` of one side; ``None`` where some of its rows were never embedded."""
    chosen = rows["is_query"] == is_query
    if len(rows["indices"][chosen].unique()) < count:
        return None
    ordered = torch.empty(count, rows["embeddings"].shape[1], dtype=rows["embeddings"].dtype)
    ordered[rows["indices"][chosen]] = rows["embeddings"][chosen]
    return ordered
