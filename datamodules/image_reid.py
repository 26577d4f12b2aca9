"""The DataModule of one labelled image data set: P x K training batches, queries and a gallery."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
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
from lightning_reid.datamodules.labelled_data import LabelledDataModule
from lightning_reid.datamodules.samplers import PlannedBatches, identity_batches, shard_rows
from lightning_reid.datamodules.transforms import EvaluationTransform, TrainTransform, normalize_images
from lightning_reid.records import ImageRecord, ReIDDataset


class ImageReIDDataModule(LabelledDataModule[ImageRecord]):
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
        flip_probability: Chance of mirroring left and right, in [0, 1].
        num_workers: Worker processes a loader.
        eval_batch_size: Images an evaluation batch.
        seed: Seed of the draws, the augmentations and of generated data's splits.
        unreadable: ``"error"``, or ``"skip"`` to decode every image once beforehand and leave out those that fail, with a count.
        needs_test: Whether a user's own folder must have queries and a gallery.

    Raises:
        ValueError: P, K, sizes or probabilities are out of range (here); fewer training identities than P (``setup``).
    """

    noun: ClassVar[str] = "images"

    def __init__(
        self,
        dataset: str = "market1501",
        root: str | None = None,
        image_size: tuple[int, int] = (256, 128),
        p: int = 16,
        k: int = 4,
        crop_padding: int = 10,
        erasing_probability: float = 0.5,
        flip_probability: float = 0.5,
        num_workers: int = 2,
        eval_batch_size: int = 128,
        seed: int = 0,
        unreadable: Literal["error", "skip"] = "error",
        needs_test: bool = True,
    ) -> None:
        super().__init__(
            dataset=dataset,
            root=root,
            image_size=image_size,
            p=p,
            k=k,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
            seed=seed,
        )
        chances = (erasing_probability, flip_probability)
        if crop_padding < 0 or not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(
                "need crop_padding >= 0, and erasing_probability and flip_probability in [0, 1],"
                f" got {crop_padding}, {erasing_probability} and {flip_probability}"
            )
        self.train_transform = TrainTransform(self.image_size, crop_padding, erasing_probability, flip_probability)
        self.unreadable, self.needs_test = unreadable, needs_test

    @property
    def repeats_images(self) -> bool:
        """Whether nothing random is done to training images."""
        return not self.train_transform.is_random

    @override
    def prepare_data(self) -> None:
        if self._dataset is None:
            prepare_dataset(self.dataset_name, self.root)

    @override
    def read(self) -> ReIDDataset:
        dataset = read_prepared(self.dataset_name, self.root, needs_test=self.needs_test)
        if self.unreadable == "error":
            require_readable([*dataset.train, *dataset.query, *dataset.gallery])
            return dataset
        train, query, gallery = (without_unreadable(records) for _, records in dataset.splits())
        num_skipped = sum(len(records) for _, records in dataset.splits()) - len(train) - len(query) - len(gallery)
        notes = (*dataset.notes, f"{num_skipped} unreadable images left out")
        return ReIDDataset(dataset.name, train, query, gallery, notes)

    @override
    def train_dataloader(self) -> DataLoader:
        epoch, (rank, world_size) = self.current_epoch, self.rank_and_world
        plan = identity_batches(self._labels, self.p, self.k, generator=np.random.default_rng([self.seed, epoch]), world_size=world_size)
        return self.training_loader(self._labels, PlannedBatches(plan, rank=rank, world_size=world_size), epoch=epoch)

    def training_loader(self, labels: Tensor, batches: PlannedBatches, *, epoch: int, collate: Any = collate_images) -> DataLoader:
        """A loader over augmented training images that follows a plan."""
        images = TrainImages(self.dataset.train, labels, self.train_transform, seed=self.seed, epoch=epoch)
        return DataLoader(images, batch_sampler=batches, collate_fn=collate, **self.worker_options())

    @override
    def embedding_loader(self, query: tuple[ImageRecord, ...], gallery: tuple[ImageRecord, ...] = ()) -> DataLoader:
        images = EvaluationImages(query, gallery, EvaluationTransform(self.image_size))
        rows = shard_rows(len(images), *self.rank_and_world)
        return DataLoader(images, batch_size=self.eval_batch_size, sampler=rows, collate_fn=collate_images, **self.worker_options())

    @override
    def transform_text(self) -> str:
        return f"resize {self.image_size[0]}x{self.image_size[1]}, ImageNet normalisation"

    @override
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        if batch["images"].dtype == torch.uint8:
            batch["images"] = normalize_images(batch["images"])
        return batch
