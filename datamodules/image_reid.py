"""The DataModule of one labelled image data set: P x K training batches, queries and a gallery."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.datamodules.catalog import prepare_dataset, read_prepared
from lightning_reid.datamodules.images import (
    EvaluationImages,
    TrainImages,
    collate_images,
    require_readable,
    without_unreadable,
)
from lightning_reid.datamodules.samplers import PlannedBatches, identity_batches, shard_rows
from lightning_reid.datamodules.transforms import EvaluationTransform, TrainTransform, normalize_images
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.records import JUNK_PID, ImageRecord, ReIDDataset

logger = logging.getLogger(__name__)


class ImageReIDDataModule(pl.LightningDataModule):
    """One image re-ID data set: training batches of P identities x K images, and its test protocol.

    Train batch: ``images [B, 3, H, W]`` ImageNet-normalised, ``pids [B]`` in ``0..num_classes-1``, ``camids [B]``, ``indices [B]``.
    Evaluation batch: the same with the data set's own pids, and ``is_query [B]``; ``indices`` count queries and gallery apart.

    Give the ``Trainer`` ``use_distributed_sampler=False`` (the batches are dealt to the ranks here) and
    ``reload_dataloaders_every_n_epochs=1`` (each epoch's plan is a loader of its own).

    Args:
        dataset: A data set's name (a key of ``lightning_reid.datamodules.catalog.FOLDERS``), ``"duke-like"`` or ``"market-like"`` for a
            generated one, or the path of a folder in the Market naming or of a CSV/Parquet table.
        root: Folder that holds the named data sets; ``None`` is ``./data``. Generated sets are written there once, then reused.
        image_size: (height, width) in pixels.
        p: Identities a training batch.
        k: Images an identity.
        crop_padding: Pixels of padding before the random crop; 0 for none.
        erasing_probability: Chance of random erasing, in [0, 1].
        num_workers: Worker processes a loader.
        eval_batch_size: Images an evaluation batch.
        seed: Seed of the draws, the augmentations and of generated data's splits.
        unreadable: ``"error"``, or ``"skip"`` to decode every image once beforehand and leave out those that fail, with a count.
        needs_test: Whether a user's own folder must have queries and a gallery.

    Raises:
        ValueError: P, K, sizes or probabilities are out of range (here); fewer training identities than P (``setup``).
    """

    def __init__(
        self,
        dataset: str = "market1501",
        root: str | None = None,
        image_size: tuple[int, int] = (256, 128),
        p: int = 16,
        k: int = 4,
        crop_padding: int = 10,
        erasing_probability: float = 0.5,
        num_workers: int = 2,
        eval_batch_size: int = 128,
        seed: int = 0,
        unreadable: Literal["error", "skip"] = "error",
        needs_test: bool = True,
    ) -> None:
        super().__init__()
        if p < 1 or k < 1 or min(image_size) < 1 or eval_batch_size < 1:
            raise ValueError(
                f"need p, k, image_size and eval_batch_size of at least 1, got p={p}, k={k}, image_size={image_size}, {eval_batch_size}"
            )
        if crop_padding < 0 or not 0 <= erasing_probability <= 1:
            raise ValueError(f"need crop_padding >= 0 and 0 <= erasing_probability <= 1, got {crop_padding} and {erasing_probability}")
        self.dataset_name, self.root, self.p, self.k = dataset, root, p, k
        self.image_size = (image_size[0], image_size[1])
        self.crop_padding, self.erasing_probability = crop_padding, erasing_probability
        self.num_workers, self.eval_batch_size, self.seed, self.unreadable = num_workers, eval_batch_size, seed, unreadable
        self.needs_test = needs_test
        self._dataset: ReIDDataset | None = None
        self._labels = torch.empty(0, dtype=torch.int64)

    @property
    def dataset(self) -> ReIDDataset:
        """The records as read; available after ``setup``."""
        if self._dataset is None:
            raise RuntimeError(f"{self.dataset_name} has not been read yet: call prepare_data() and setup() first")
        return self._dataset

    @property
    def num_classes(self) -> int:
        """Number of training identities."""
        return max(0, int(self._labels.max()) + 1) if len(self._labels) else 0

    @override
    def prepare_data(self) -> None:
        prepare_dataset(self.dataset_name, self.root)

    @override
    def setup(self, stage: str | None = None) -> None:
        if self._dataset is not None:
            return
        self._dataset = self._readable(read_prepared(self.dataset_name, self.root, needs_test=self.needs_test))
        self._labels = training_labels(self._dataset.train)
        self.check_training_identities()

    def check_training_identities(self) -> None:
        """Refuse fewer identities than P; say when identities have fewer than K images."""
        sizes = torch.bincount(self._labels[self._labels >= 0])
        if len(sizes) < self.p:
            raise ValueError(
                f"{self.dataset_name} has {len(sizes)} training identities, but a batch wants P={self.p}: lower p to {len(sizes)} or less"
            )
        few = int((sizes < self.k).sum())
        if few:
            logger.warning(
                "%d of %d identities of %s have fewer than K=%d images: theirs are repeated in a batch",
                few,
                len(sizes),
                self.dataset_name,
                self.k,
            )

    def _readable(self, dataset: ReIDDataset) -> ReIDDataset:
        if self.unreadable == "error":
            require_readable([*dataset.train, *dataset.query, *dataset.gallery])
            return dataset
        train, query, gallery = (without_unreadable(records) for _, records in dataset.splits())
        num_skipped = sum(len(records) for _, records in dataset.splits()) - len(train) - len(query) - len(gallery)
        notes = (*dataset.notes, f"{num_skipped} unreadable images left out")
        return ReIDDataset(dataset.name, train, query, gallery, notes)

    @override
    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        rank, world_size, epoch = self.trainer.global_rank, self.trainer.world_size, self.trainer.current_epoch
        plan = identity_batches(self._labels, self.p, self.k, generator=np.random.default_rng([self.seed, epoch]), world_size=world_size)
        return self.training_loader(self._labels, PlannedBatches(plan, rank=rank, world_size=world_size), epoch=epoch)

    def training_loader(self, labels: Tensor, batches: PlannedBatches, *, epoch: int, collate: Any = collate_images) -> DataLoader:
        """A loader over augmented training images that follows a plan."""
        transform = TrainTransform(self.image_size, self.crop_padding, self.erasing_probability)
        images = TrainImages(self.dataset.train, labels, transform, seed=self.seed, epoch=epoch)
        return DataLoader(images, batch_sampler=batches, collate_fn=collate, **self._worker_options())

    def embedding_loader(self, query: tuple[ImageRecord, ...], gallery: tuple[ImageRecord, ...] = ()) -> DataLoader:
        """A loader over this rank's share of some images in the test-time transform."""
        images = EvaluationImages(query, gallery, EvaluationTransform(self.image_size))
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        rows = shard_rows(len(images), rank, world_size)
        return DataLoader(images, batch_size=self.eval_batch_size, sampler=rows, collate_fn=collate_images, **self._worker_options())

    def _worker_options(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}

    @override
    def val_dataloader(self) -> DataLoader:
        return self.embedding_loader(*self.evaluation_records())

    @override
    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def evaluation_records(self) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
        """Query and gallery records.

        Raises:
            ValueError: The data set has no queries or no gallery (it can be trained on, not scored).
        """
        query, gallery = self.dataset.query, self.dataset.gallery
        if not query or not gallery:
            raise ValueError(
                f"{self.dataset_name} has {len(query)} queries and {len(gallery)} gallery images: nothing to score; "
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
            transform=f"resize {self.image_size[0]}x{self.image_size[1]}, ImageNet normalisation",
            seed=self.seed,
        )

    @override
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        if batch["images"].dtype == torch.uint8:
            batch["images"] = normalize_images(batch["images"])
        return batch


def training_labels(records: Sequence[ImageRecord]) -> Tensor:
    """``[N]`` int64 classes ``0..C-1`` in the order of the pids; -1, which no batch draws, for images without identity (pid 0 or -1)."""
    pids = torch.tensor([record.pid for record in records], dtype=torch.int64)
    labels = torch.full_like(pids, -1)
    labels[pids > 0] = torch.unique(pids[pids > 0], return_inverse=True)[1]
    return labels
