"""The DataModule of domain adaptation: a labeled source, and a target known by its pseudo-labels of the moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_count, require_path
from lightning_reid.clustering.pair_masks import inter_camera_masks
from lightning_reid.datamodules.blocks.data import CACHE_GB
from lightning_reid.datamodules.image_reid import ImageReIDDataModule
from lightning_reid.datamodules.images import collate_parts
from lightning_reid.datamodules.loaders import Collate
from lightning_reid.datamodules.samplers import EpochPlan, identity_batches, inter_camera_batches
from lightning_reid.datamodules.target_images import TargetImagesDataModule
from lightning_reid.normalization import normalize_images
from lightning_reid.records import ImageRecord, InterCameraPairs

logger = logging.getLogger(__name__)


class CrossDomainDataModule(TargetImagesDataModule):
    """A target data set whose training identities are unknown, beside a labeled source.

    Fit on ``data.source`` for the source model; fit and evaluate on this module itself for the target. Train batches hold P
    pseudo-identities x K images of the published :class:`~lightning_reid.records.TargetState`: ``images``, ``pids`` (pseudo-labels
    ``0..C-1``), ``camids``, ``indices``. Once cross-camera neighbors were mined they also hold ``"icm"``: a dict of ``images
    [B', 3, H, W]``, ``anchors [B']`` (rows of ``images``), ``positives`` and ``negatives`` ``[B', B']`` bool.

    The true target identities are used for reports only (cluster quality), never for a batch.

    Args:
        source: Labeled data set: name, generated preset, folder or table, as in :class:`ImageReIDDataModule`.
        target: Unlabeled data set, likewise; or images without labels, as :class:`UnlabeledDataModule` takes them.
        root: Folder that holds the named data sets; ``None`` is ``./data``. Generated sets are written there once, then reused.
        image_size: (height, width) in pixels.
        p: Pseudo-identities a batch of the target (section 4.4.2: 8); fewer in an iteration that found fewer.
        k: Images a pseudo-identity (section 4.4.2: 4).
        source_p: Identities a batch of the source.
        crop_padding: Pixels of padding before the random crop; 0, as in the thesis, leaves the crop out.
        erasing_probability: Chance of random erasing, in [0, 1].
        num_workers: Worker processes a loader.
        eval_batch_size: Images a batch of an embedding pass.
        seed: Seed of draws and augmentations.
        unreadable: ``"error"`` or ``"skip"``, as in :class:`ImageReIDDataModule`.
        split: Which of the target's ten splits, where it has so many.
        allow_paths_outside: As in :class:`ImageReIDDataModule`.
        storage_options: As in :class:`ImageReIDDataModule`.
        block_cache: As in :class:`ImageReIDDataModule`.
        block_cache_gb: As in :class:`ImageReIDDataModule`.

    Example:
        >>> from lightning_reid.datamodules import CrossDomainDataModule
        >>> data = CrossDomainDataModule(source=duke, target=market, image_size=(64, 32), source_p=4)  # folders in the Market naming
        >>> data.setup("fit")
        >>> data.source.setup("fit")
        >>> data.source.num_classes > 0, len(data.target_records) > 0, data.target_state  # nothing is believed of the target yet
        (True, True, None)
    """

    takes_unlabeled: ClassVar[bool] = True

    def __init__(
        self,
        source: str = "dukemtmc-reid",
        target: str = "market1501",
        root: str | None = None,
        image_size: tuple[int, int] = (256, 128),
        p: int = 8,
        k: int = 4,
        source_p: int = 16,
        crop_padding: int = 0,
        erasing_probability: float = 0.5,
        num_workers: int = 2,
        eval_batch_size: int = 128,
        seed: int = 0,
        unreadable: Literal["error", "skip"] = "error",
        split: int = 0,
        allow_paths_outside: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        block_cache: str | None = None,
        block_cache_gb: float = CACHE_GB,
    ) -> None:
        require_count("source_p", source_p)
        require_path("source", source)
        require_path("target", target)
        shared: dict[str, Any] = dict(
            root=root, image_size=image_size, k=k, crop_padding=crop_padding, erasing_probability=erasing_probability
        )
        shared |= dict(num_workers=num_workers, eval_batch_size=eval_batch_size, seed=seed, unreadable=unreadable)
        shared |= dict(allow_paths_outside=allow_paths_outside, storage_options=storage_options)
        shared |= dict(block_cache=block_cache, block_cache_gb=block_cache_gb)
        super().__init__(dataset=target, p=p, split=split, **shared)
        # nothing is selected on the source: its model is its last one
        self.source = ImageReIDDataModule(dataset=source, p=source_p, needs_test=False, val_identities=0, **shared)

    @override
    def check_training_identities(self) -> None:
        """Nothing to check: the target's identities are unknown, P follows what clustering finds."""
        if not self.dataset.train:
            raise ValueError(f"{self.dataset_name} has no training images to adapt to")

    @property
    @override
    def target_records(self) -> tuple[ImageRecord, ...]:
        """The unlabeled images, in the order of the rows of the state."""
        return self.dataset.train

    @property
    @override
    def training_collate(self) -> Collate:
        return partial(collate_parts, name="icm")

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        state, world_size = self._state, self.rank_and_world[1]
        if state is None:
            raise RuntimeError(
                "the target images have no labels yet: add PseudoLabelClustering to the callbacks, or call set_target_state()"
            )
        p = min(self.p, state.num_clusters)
        if p < self.p:
            logger.warning(
                "only %d pseudo-identities in iteration %d: a batch holds P=%d instead of %d",
                state.num_clusters,
                state.iteration,
                p,
                self.p,
            )
        generator = np.random.default_rng([self.seed, epoch])
        labeled = identity_batches(state.labels, p, self.k, generator=generator, world_size=world_size)
        pairs = state.neighbors
        if pairs is None:
            return EpochPlan(labeled, state.labels, epoch)
        sizes = {"num_batches": len(labeled), "world_size": world_size}
        mined = inter_camera_batches(pairs, state.labels, self.p, self.k, generator=generator, noise=pairs.with_noise, **sizes)
        return EpochPlan(labeled, state.labels, epoch, mined, partial(add_masks, labels=state.labels, pairs=pairs))

    @override
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if "icm" in batch and batch["icm"]["images"].dtype == torch.uint8:
            batch["icm"]["images"] = normalize_images(batch["icm"]["images"])
        return batch


def add_masks(batch: dict[str, Any], labels: Tensor, pairs: InterCameraPairs) -> dict[str, Any]:
    """Tell which of the images that were drawn for inter-camera mining are positives and negatives, by the labels of the moment."""
    if "icm" not in batch:
        return batch
    mined = batch["icm"]
    positives, negatives = inter_camera_masks(mined["indices"], labels, pairs)
    anchors = torch.arange(len(mined["indices"]))
    return batch | {"icm": {"images": mined["images"], "anchors": anchors, "positives": positives, "negatives": negatives}}
