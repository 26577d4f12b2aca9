"""What the DataModules of images and of tracklets share: identities, ranks, and what is said of the test part."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.metrics import ProtocolStamp
from lightning_reid.records import JUNK_PID, Record, Splits

logger = logging.getLogger(__name__)


class LabelledDataModule(pl.LightningDataModule, Generic[Record], ABC):
    """One labelled data set with a test protocol; its children say how records are read and what they become in a batch.

    Attributes:
        noun: What a record is called in messages, in the plural.
        epochs_before: Epochs of earlier fits on the same data: draws and augmentations go on from there, as in a federation, which fits
            once a round.

    Args:
        dataset: Name or path of the data set.
        root: Folder of the named data sets.
        image_size: (height, width) in pixels.
        p: Identities a training batch.
        k: Records an identity.
        num_workers: Worker processes a loader.
        eval_batch_size: Size of an evaluation batch.
        seed: Seed of whatever is drawn.

    Raises:
        ValueError: A size is below 1, or ``num_workers`` below 0.
    """

    noun: ClassVar[str] = "records"

    def __init__(
        self,
        *,
        dataset: str,
        root: str | None,
        image_size: tuple[int, int],
        p: int,
        k: int,
        num_workers: int,
        eval_batch_size: int,
        seed: int,
    ) -> None:
        super().__init__()
        if p < 1 or k < 1 or min(image_size) < 1 or eval_batch_size < 1:
            raise ValueError(
                f"need p, k, image_size and eval_batch_size of at least 1, got p={p}, k={k}, image_size={image_size}, {eval_batch_size}"
            )
        if num_workers < 0:
            raise ValueError(f"need num_workers >= 0, got {num_workers}")
        self.dataset_name, self.root, self.p, self.k = dataset, root, p, k
        self.image_size = (image_size[0], image_size[1])
        self.num_workers, self.eval_batch_size, self.seed = num_workers, eval_batch_size, seed
        self.epochs_before = 0
        self._dataset: Splits[Record] | None = None
        self._labels = torch.empty(0, dtype=torch.int64)

    @abstractmethod
    def read(self) -> Splits[Record]:
        """The records of the data set, checked as far as may be before training."""

    @abstractmethod
    def transform_text(self) -> str:
        """What the test images went through, as the stamp of a score tells it."""

    def serve(self, dataset: Splits[Record]) -> None:
        """Serve these records, in place of those that the data set's name stands for."""
        self._dataset, self._labels = dataset, training_labels(dataset.train)
        self.check_training_identities()

    @property
    def current_epoch(self) -> int:
        """Epochs that were drawn before this one, those of earlier fits included.

        Raises:
            RuntimeError: There is no Trainer.
        """
        if self.trainer is None:
            raise RuntimeError("training batches are drawn for a Trainer's epoch: fit with this datamodule")
        return self.epochs_before + self.trainer.current_epoch

    @property
    def dataset(self) -> Splits[Record]:
        """The records as read; available after ``setup``."""
        if self._dataset is None:
            raise RuntimeError(f"{self.dataset_name} has not been read yet: call prepare_data() and setup() first")
        return self._dataset

    @property
    def num_images(self) -> int:
        """Training records: the weight of these data in a federation."""
        return len(self.dataset.train)

    @property
    def num_classes(self) -> int:
        """Number of training identities."""
        return max(0, int(self._labels.max()) + 1) if len(self._labels) else 0

    @override
    def setup(self, stage: str | None = None) -> None:
        if self._dataset is not None:
            return
        self.serve(self.read())

    def check_training_identities(self) -> None:
        """Refuse fewer identities than P; say when identities have fewer than K records."""
        sizes = torch.bincount(self._labels[self._labels >= 0])
        if len(sizes) < self.p:
            raise ValueError(
                f"{self.dataset_name} has {len(sizes)} training identities, but a batch wants P={self.p}: lower p to {len(sizes)} or less"
            )
        few = int((sizes < self.k).sum())
        if few:
            logger.warning(
                "%d of %d identities of %s have fewer than K=%d %s: theirs are repeated in a batch",
                few,
                len(sizes),
                self.dataset_name,
                self.k,
                self.noun,
            )

    @property
    def rank_and_world(self) -> tuple[int, int]:
        """This process and how many there are; (0, 1) outside a Trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def worker_options(self) -> dict[str, Any]:
        """What every loader is made with."""
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}

    @abstractmethod
    def embedding_loader(self, query: tuple[Record, ...], gallery: tuple[Record, ...] = ()) -> DataLoader:
        """A loader over this rank's share of some records in the test-time transform."""

    @override
    def val_dataloader(self) -> DataLoader:
        return self.embedding_loader(*self.evaluation_records())

    @override
    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def evaluation_records(self) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """Query and gallery records.

        Raises:
            ValueError: The data set has no queries or no gallery (it can be trained on, not scored).
        """
        query, gallery = self.dataset.query, self.dataset.gallery
        if not query or not gallery:
            raise ValueError(
                f"{self.dataset_name} has {len(query)} queries and {len(gallery)} gallery {self.noun}: nothing to score; "
                "name a data set with a test part"
            )
        return query, gallery

    def protocol_stamp(self) -> ProtocolStamp:
        """What scores on this data must be read with."""
        query, gallery = self.evaluation_records()
        return ProtocolStamp(
            dataset=self.dataset.name,
            num_query=len(query),
            num_gallery=sum(record.pid != JUNK_PID for record in gallery),
            num_query_ids=len({record.pid for record in query}),
            transform=self.transform_text(),
            seed=self.seed,
            unit=self.noun,
        )


def training_labels(records: Sequence[Record]) -> Tensor:
    """``[N]`` int64 classes ``0..C-1`` in the order of the pids; -1, which no batch draws, for records without identity (pid 0 or -1)."""
    pids = torch.tensor([record.pid for record in records], dtype=torch.int64)
    labels = torch.full_like(pids, -1)
    labels[pids > 0] = torch.unique(pids[pids > 0], return_inverse=True)[1]
    return labels
