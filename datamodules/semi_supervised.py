"""The DataModule of semi-supervised re-ID: few labeled identities, and images of others whose identities nobody tells."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.arguments import require_count, require_seed
from lightning_reid.datamodules.blocks.data import CACHE_GB
from lightning_reid.datamodules.identity_split import guiding_identities, identity_split, labeled_share
from lightning_reid.datamodules.loaders import Collate
from lightning_reid.datamodules.samplers import EpochPlan, identity_batches
from lightning_reid.datamodules.target_images import TargetImagesDataModule
from lightning_reid.datamodules.unlabeled_views import add_soft_labels, collate_with_views, view_batches
from lightning_reid.normalization import normalize_images
from lightning_reid.records import JUNK_PID, ImageRecord, ReIDDataset, TargetState

logger = logging.getLogger(__name__)


class SemiSupervisedDataModule(TargetImagesDataModule):
    """One image data set, its training identities split into labeled and unlabeled ones that share none (SGC-DPL, section 3.4.2).

    ``dataset.train`` holds the labeled records, then the unlabeled ones in random order, their pid replaced by -1; so do
    ``target_records``, the batches and all loaders. What was replaced is in :meth:`ground_truth`, for reports alone. (The files keep
    their names, in which most data sets write the identity: training code has no business with the names.)

    Train batch before the first published :class:`~lightning_reid.records.TargetState`: P labeled identities x K images: ``images
    [B, 3, H, W]``, ``pids [B]`` in ``0..C_l-1``, ``camids``, ``indices`` (rows of ``dataset.train``), ``rows`` (rows of
    ``target_records``, -1 for a labeled image); and ``"unlabeled"``, a dict of ``images [2U, 3, H, W]`` and ``rows [2U]``, where
    entries 2i and 2i + 1 are two augmentations of one unlabeled image.
    Train batch afterwards: P x K over labeled identities and pseudo-identities together, pseudo-identity c as pid ``C_l + c``; images
    labeled -1 (noise, not reliable) are never drawn. Where the state has soft labels also ``soft_labels [B, C]``, zeros for labeled
    images. An epoch is about one draw an image that can be drawn.

    With ``guides`` some of the labeled identities are not trained on by name: their images are the first of ``target_records``, trained
    on as the unlabeled ones are, and their names, :attr:`guide_pids`, say how finely to cluster and what to select. Labeled images that
    were trained on by name are memorized, and lie closer together than unlabeled ones do.

    Evaluation batch: as :class:`ImageReIDDataModule`.

    Args:
        dataset: Name, generated preset, folder or table, as in :class:`ImageReIDDataModule`.
        root: Folder that holds the named data sets; ``None`` is ``./data``. Generated sets are written there once, then reused.
        labeled: A share of the training identities such as ``"1/6"``, or a number of them.
        guides: How many of the labeled identities only guide (ours), a number or a share of them such as ``"1/3"``, at least 2; 0, as in
            the text: the labeled images are trained on, and guide.
        image_size: (height, width) in pixels.
        p: Identities a batch (section 3.4.3: 16).
        k: Images an identity (section 3.4.3: 4).
        unlabeled_per_batch: U, at most the number of unlabeled images; 0 to train on labeled images alone.
        crop_padding: Pixels of padding before the random crop; 0 for none.
        erasing_probability: Chance of random erasing, in [0, 1].
        num_workers: Worker processes a loader.
        eval_batch_size: Images a batch of an embedding pass.
        seed: Seed of draws and augmentations.
        split_seed: Seed of the choice of labeled identities; ``None`` takes ``seed``.
        unreadable: ``"error"`` or ``"skip"``, as in :class:`ImageReIDDataModule`.
        needs_test: Whether a user's own folder must have queries and a gallery.
        split: Which of ten splits, as in :class:`ImageReIDDataModule`.
        allow_paths_outside: As in :class:`ImageReIDDataModule`.
        storage_options: As in :class:`ImageReIDDataModule`.
        block_cache: As in :class:`ImageReIDDataModule`.
        block_cache_gb: As in :class:`ImageReIDDataModule`.

    Raises:
        ValueError: An argument is out of range (here); fewer than two labeled identities, fewer than P, more than there are, no
            unlabeled image, or guides that leave fewer than two labeled identities (``setup``).

    Example:
        >>> from lightning_reid.datamodules import SemiSupervisedDataModule
        >>> data = SemiSupervisedDataModule(market, labeled="2/5", p=2, unlabeled_per_batch=4)  # market: a folder in the Market naming
        >>> data.setup("fit")
        >>> data.num_classes, {record.pid for record in data.target_records}  # four of ten people are known, the others' pid is hidden
        (4, {-1})
    """

    def __init__(
        self,
        dataset: str = "market1501",
        root: str | None = None,
        labeled: int | str = "1/6",
        guides: int | str = 0,
        image_size: tuple[int, int] = (256, 128),
        p: int = 16,
        k: int = 4,
        unlabeled_per_batch: int = 16,
        crop_padding: int = 10,
        erasing_probability: float = 0.5,
        num_workers: int = 2,
        eval_batch_size: int = 128,
        seed: int = 0,
        split_seed: int | None = None,
        unreadable: Literal["error", "skip"] = "error",
        needs_test: bool = True,
        split: int = 0,
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
            crop_padding=crop_padding,
            erasing_probability=erasing_probability,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
            seed=seed,
            unreadable=unreadable,
            needs_test=needs_test,
            split=split,
            allow_paths_outside=allow_paths_outside,
            storage_options=storage_options,
            block_cache=block_cache,
            block_cache_gb=block_cache_gb,
        )
        labeled_share(labeled)
        if guides != 0:
            labeled_share(guides, "guides")
        require_count("unlabeled_per_batch", unlabeled_per_batch, low=0)
        require_seed("split_seed", split_seed, optional=True)
        self.labeled, self.guides, self.unlabeled_per_batch = labeled, guides, unlabeled_per_batch
        self.split_seed = seed if split_seed is None else split_seed
        self._num_labeled = 0
        self._labeled_identities = self._guide_identities = self._true_pids = torch.empty(0, dtype=torch.int64)

    @override
    def read(self) -> ReIDDataset:
        dataset = super().read()
        split = identity_split(dataset.train, self.labeled, seed=self.split_seed)
        guides = guiding_identities(split.labeled_pids, self.guides, seed=self.split_seed)
        labeled = [dataset.train[row] for row in split.labeled if dataset.train[row].pid not in guides]
        guiding = [dataset.train[row] for row in split.labeled if dataset.train[row].pid in guides]
        target = [*guiding, *(dataset.train[row] for row in split.unlabeled)]
        self._num_labeled = len(labeled)
        self._labeled_identities, self._guide_identities = torch.tensor(split.labeled_pids), torch.tensor(guides, dtype=torch.int64)
        self._true_pids = torch.tensor([record.pid for record in target])
        train = (*labeled, *(replace(record, pid=JUNK_PID) for record in target))
        note = f"{len(split.labeled_pids)} identities labeled (labeled={self.labeled}, split_seed={self.split_seed})"
        if guides:
            note += f", {len(guides)} of which only guide (guides={self.guides})"
        notes = (*dataset.notes, note)
        return ReIDDataset(dataset.name, train, dataset.query, dataset.gallery, notes, dataset.val, dataset.pictures)

    @override
    def check_training_identities(self) -> None:
        if self.num_classes < self.p:
            raise ValueError(
                f"{self.dataset_name} has {self.num_classes} labeled identities, but a batch wants P={self.p}:"
                f" label more, or lower p to {self.num_classes} or less"
            )
        super().check_training_identities()
        alone = int((torch.bincount(self.labeled_pids) == 1).sum())
        if alone:
            logger.warning("%d of %d labeled identities have one image: their positives are its own augmentations", alone, self.num_classes)
        if len(self.target_records) < self.unlabeled_per_batch:
            logger.warning(
                "%s has %d unlabeled images: a batch holds these instead of %d",
                self.dataset_name,
                len(self.target_records),
                self.unlabeled_per_batch,
            )

    @property
    def labeled_records(self) -> tuple[ImageRecord, ...]:
        """The N_l labeled images, in the order of ``labeled_pids``."""
        return self.dataset.train[: self._num_labeled]

    @property
    def labeled_pids(self) -> Tensor:
        """``[N_l]`` int64 in ``0..C_l-1``, row i of ``labeled_records``; C_l is ``num_classes``."""
        return self._labels[: self._num_labeled]

    @property
    @override
    def target_records(self) -> tuple[ImageRecord, ...]:
        """The N_u images that are trained on without a name, with pid -1; those of the guides come first."""
        return self.dataset.train[self._num_labeled :]

    @property
    def guide_pids(self) -> Tensor:
        """``[N_g]`` int64 in ``0..C_g-1``: who the first N_g ``target_records`` show; empty without guides."""
        is_guide = torch.isin(self._true_pids, self._guide_identities)
        return torch.searchsorted(self._guide_identities, self._true_pids[is_guide])

    @override
    def ground_truth(self) -> Tensor:
        """``[N_u]`` int64, the data set's own pids of ``target_records``: to judge pseudo-labels by, never to train on."""
        return self._true_pids.clone()

    @override
    def set_target_state(self, state: TargetState) -> None:
        if state.neighbors is not None:
            raise ValueError("SemiSupervisedDataModule: its batches hold no mined pairs: leave InterCameraMining out")
        super().set_target_state(state)

    def labeled_dataloader(self) -> DataLoader:
        """This rank's share of the labeled images in the test-time transform; ``indices`` are rows of ``labeled_records``."""
        return self.kept_loader("labeled", lambda: self.embedding_loader(self.labeled_records))

    @property
    @override
    def training_collate(self) -> Collate:
        return partial(collate_with_views, num_labeled=self._num_labeled)

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        world_size, labels = self.rank_and_world[1], self._labels_of_the_moment()
        plan = identity_batches(labels, self.p, self.k, generator=np.random.default_rng([self.seed, epoch]), world_size=world_size)
        if self._state is not None:
            soft_labels = self._state.soft_labels
            finish = None if soft_labels is None else partial(add_soft_labels, soft_labels=soft_labels)
            return EpochPlan(plan, labels, epoch, finish=finish)
        if not self.unlabeled_per_batch:
            return EpochPlan(plan, labels, epoch)
        views = self._num_labeled + view_batches(
            len(self.target_records),
            min(self.unlabeled_per_batch, len(self.target_records)),
            num_batches=len(plan),
            generator=np.random.default_rng([self.seed, epoch, 1]),
            world_size=world_size,
        )
        return EpochPlan(plan, labels, epoch, views)

    def _labels_of_the_moment(self) -> Tensor:
        """``[N_l + N_u]``: labeled identities, then ``C_l + c`` or -1."""
        if self._state is None:
            return self._labels
        pseudo_labels = self._state.labels
        return torch.cat([self.labeled_pids, torch.where(pseudo_labels >= 0, self.num_classes + pseudo_labels, -1)])

    @override
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if "unlabeled" in batch and batch["unlabeled"]["images"].dtype == torch.uint8:
            batch["unlabeled"]["images"] = normalize_images(batch["unlabeled"]["images"])
        return batch

    @override
    def state_dict(self) -> dict[str, Any]:
        """Which identities are labeled, which of them guide, and what the state of the moment holds."""
        return super().state_dict() | {"labeled_identities": self._labeled_identities, "guide_identities": self._guide_identities}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        theirs = state_dict["labeled_identities"]
        if not torch.equal(theirs, self._labeled_identities):
            raise ValueError(
                f"the checkpoint was trained with {len(theirs)} labeled identities, and they are not the {len(self._labeled_identities)}"
                f" of labeled={self.labeled!r}, split_seed={self.split_seed}: build the datamodule with the checkpoint's arguments"
            )
        guides = state_dict.get("guide_identities", torch.empty(0, dtype=torch.int64))  # of a checkpoint from before there were any
        if not torch.equal(guides, self._guide_identities):
            raise ValueError(
                f"the checkpoint was trained with {len(guides)} guides among its labeled identities, and they are not the"
                f" {len(self._guide_identities)} of guides={self.guides!r}: build the datamodule with the checkpoint's arguments"
            )
        own = ("labeled_identities", "guide_identities")
        super().load_state_dict({name: value for name, value in state_dict.items() if name not in own})
