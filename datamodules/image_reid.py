"""The DataModule of one labeled image data set: P x K training batches, queries and a gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_path, require_switch
from lightning_reid.datamodules.blocks.data import CACHE_GB
from lightning_reid.datamodules.catalog import IMAGE_SETS_WITH_SPLITS, prepare_dataset, read_prepared
from lightning_reid.datamodules.generated.people_address import of_epoch
from lightning_reid.datamodules.images import (
    EvaluationImages,
    ResizedCrops,
    TrainImages,
    collate_images,
    require_readable,
    without_unreadable,
)
from lightning_reid.datamodules.labeled_data import LabeledDataModule
from lightning_reid.datamodules.loaders import Collate, PlannedLoader, fixed_loader
from lightning_reid.datamodules.samplers import EpochPlan, identity_batches, shard_rows
from lightning_reid.datamodules.transforms import EvaluationTransform, TrainTransform
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.normalization import normalize_images
from lightning_reid.records import ImageRecord, ReIDDataset, Splits


class ImageReIDDataModule(LabeledDataModule[ImageRecord]):
    """One image re-ID data set: training batches of P identities x K images, and its test protocol.

    Train batch: ``images [B, 3, H, W]`` ImageNet-normalized, ``pids [B]`` in ``0..num_classes-1``, ``camids [B]``, ``indices [B]``.
    Evaluation batch: the same with the data set's own pids, and ``is_query [B]``; ``indices`` count queries and gallery apart.

    Args:
        dataset: A data set's name (a key of ``datamodules.readers.by_name.FOLDERS``), ``"duke-like"`` or ``"market-like"`` for a
            generated one, ``"generated-people"`` for one that is drawn while it is trained on, without files and without end (options as
            in ``"generated-people,people=5000"``, see ``PeopleData``); or the path of a folder in the Market naming or of a CSV/Parquet
            table.
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
        split: Which of the ten splits of CUHK01, VIPeR, PRID-2011, GRID, i-LIDS and 3DPeS; 0 for other sets.
        val_identities: People held out of training to validate on: a share of the training identities or their number, drawn by seed
            among those that two cameras have seen; 0 trains on all and validates on the test part, as papers do. Where a table tells
            people to validate on (split ``val``), it is always they.
        allow_paths_outside: Whether a table may list files that do not lie below its folder.
        storage_options: Of a set of blocks at an address, as fsspec's file system takes them (``endpoint_url``, ``key``, ``secret``); in no
            log, stamp or checkpoint. fsspec's own configuration and the usual variables of the environment serve, too.
        block_cache: Folder on a local disk for whole blocks of an address; ``None`` for ``~/.cache/lightning-reid/blocks``.
        block_cache_gb: Gigabytes (10^9 bytes) that it may hold; where it is smaller than the set, frames come in ranges. 0: no cache.

    Raises:
        ValueError: P, K, sizes or probabilities are out of range (here); fewer training identities than P, too few people to hold out,
            or a Trainer that draws for itself (``setup``).

    Example:
        >>> from lightning_reid.datamodules import ImageReIDDataModule
        >>> data = ImageReIDDataModule(market, image_size=(64, 32), p=4, k=2, num_workers=0)  # market: a folder in the Market naming
        >>> data.setup("fit")
        >>> data.num_classes, len(data.people.held_out)
        (8, 2)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["images"].shape, batch["pids"].tolist()
        (torch.Size([8, 3, 64, 32]), [2, 2, 4, 4, 3, 3, 6, 6])
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
        split: int = 0,
        val_identities: int | float = 0.1,
        allow_paths_outside: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        block_cache: str | None = None,
        block_cache_gb: float = CACHE_GB,
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
            val_identities=val_identities,
        )
        require_count("crop_padding", crop_padding, low=0)
        require_number("erasing_probability", erasing_probability, low=0, high=1)
        require_number("flip_probability", flip_probability, low=0, high=1)
        require_choice("unreadable", unreadable, ("error", "skip"))
        require_count("split", split, low=0)
        require_switch("needs_test", needs_test)
        require_switch("allow_paths_outside", allow_paths_outside)
        require_path("block_cache", block_cache, optional=True)
        require_number("block_cache_gb", block_cache_gb, low=0)
        self.train_transform = TrainTransform(self.image_size, crop_padding, erasing_probability, flip_probability)
        self.storage = {"storage_options": storage_options, "cache": block_cache, "cache_gb": block_cache_gb}
        self.unreadable, self.needs_test, self.split = unreadable, needs_test, split
        self.allow_paths_outside = allow_paths_outside

    @property
    def repeats_images(self) -> bool:
        """Whether an epoch has the pixels of the one before: nothing random is done to training images, and they are not drawn anew."""
        anew = self.drawn_anew and any(of_epoch(record.path, 1) != record.path for record in self.dataset.train)
        return not self.train_transform.is_random and not anew

    @property
    def drawn_anew(self) -> bool:
        """Whether generated people are drawn anew in every epoch: a pseudo-label is of a picture, not of the person in the next one."""
        return not self.labels_change

    @override
    def prepare_data(self) -> None:
        if self._dataset is None:
            prepare_dataset(self.dataset_name, self.root)

    @override
    def read(self) -> ReIDDataset:
        dataset = read_prepared(
            self.dataset_name,
            self.root,
            split=self.split,
            needs_test=self.needs_test,
            allow_paths_outside=self.allow_paths_outside,
            unlabeled=self.takes_unlabeled,
            storage=self.storage,
        )
        if self.unreadable == "error":
            require_readable([record for _, records in dataset.splits() for record in records])
            return dataset
        kept = {split: without_unreadable(records) for split, records in dataset.splits()}
        num_skipped = sum(len(records) - len(kept[split]) for split, records in dataset.splits())
        notes = (*dataset.notes, f"{num_skipped} unreadable images left out")
        return ReIDDataset(
            dataset.name, kept["train"], kept["query"], kept["gallery"], notes, kept.get("val", ()), dataset.pictures, dataset.names
        )

    @override
    def serve(self, dataset: Splits[ImageRecord]) -> None:
        self._crops = ResizedCrops(self.image_size, sum(len(records) for _, records in dataset.splits()), dataset.pictures)
        super().serve(dataset)

    @property
    def training_collate(self) -> Collate:
        """Items of a planned batch to a batch, in a worker."""
        return collate_images

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        generator = np.random.default_rng([self.seed, epoch])
        rows = identity_batches(self._labels, self.p, self.k, generator=generator, world_size=self.rank_and_world[1])
        return EpochPlan(rows, self._labels, epoch)

    @override
    def training_loader(self, plan: Callable[[int], EpochPlan], **options: Any) -> PlannedLoader:
        images = TrainImages(self.dataset.train, self.train_transform, seed=self.seed, load=self._crops, drawn_anew=self.drawn_anew)
        return PlannedLoader(images, plan, collate=self.training_collate, **options)

    @override
    def embedding_loader(self, query: tuple[ImageRecord, ...], gallery: tuple[ImageRecord, ...] = ()) -> DataLoader:
        images = EvaluationImages(query, gallery, EvaluationTransform(self.image_size), self._crops)
        rank, world_size = self.rank_and_world
        rows, size = shard_rows(len(images), rank, world_size), self.eval_batch_size
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]
        return fixed_loader(images, batches, collate=collate_images, rank=rank, world_size=world_size, **self.worker_options())

    @override
    def transform_text(self) -> str:
        return EvaluationTransform(self.image_size).in_words

    @override
    def protocol_stamp(self) -> ProtocolStamp:
        stamp = super().protocol_stamp()
        return replace(stamp, dataset=f"{stamp.dataset}, split {self.split}") if self.dataset_name in IMAGE_SETS_WITH_SPLITS else stamp

    @override
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        if batch["images"].dtype == torch.uint8:
            batch["images"] = normalize_images(batch["images"])
        return batch
