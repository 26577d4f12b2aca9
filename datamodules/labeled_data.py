"""What the DataModules of images and of tracklets share: identities, ranks, and what is said of the test part."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.arguments import checked_image_size, require_count, require_path, require_seed
from lightning_reid.datamodules.loaders import PlannedLoader
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers.unlabeled import WAY_ON
from lightning_reid.datamodules.samplers import EpochPlan
from lightning_reid.datamodules.validation_split import Validation, check_val_identities, hold_out_people, told_validation
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.records import JUNK_PID, Record, Splits, TrainedPeople

logger = logging.getLogger(__name__)

Part = Literal["val", "test"]
MOST_WORKERS = 1024
"""Processes a loader; more are a slip of the pen that takes the machine down."""


class LabeledDataModule(pl.LightningDataModule, Generic[Record], ABC):
    """One labeled data set with a test protocol; its children say how records are read and what they become in a batch.

    An ordinary ``Trainer`` is enough: a loader's epochs are planned when they begin, from (seed, epoch, labels of the moment), and dealt
    to the processes here, whatever ``use_distributed_sampler`` says. ``overfit_batches`` is refused.

    Validation is on people held out of training, so that what is selected by ``val/...`` is selected on others than the test's.

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
        val_identities: People held out of training to validate on: a share of the training identities or their number; 0 validates on
            the test part, as papers do. Where the data set tells people to validate on, it is always they.

    Raises:
        ValueError: A size is below 1, ``num_workers`` below 0 or ``val_identities`` no share or number (here); the Trainer does what
            cannot be right, or too few people can be held out (``setup``).
    """

    noun: ClassVar[str] = "records"
    can_hold_out: ClassVar[bool] = True
    """Whether identities are known of whom some could be held out."""
    takes_unlabeled: ClassVar[bool] = False
    """Whether data will do that do not say who is seen; images of such data need no queries and gallery."""
    labels_change: ClassVar[bool] = False
    """Whether an epoch's length may change within a fit, with the labels."""

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
        val_identities: int | float,
    ) -> None:
        super().__init__()
        check_val_identities(val_identities)
        for name, count in (("p", p), ("k", k), ("eval_batch_size", eval_batch_size)):
            require_count(name, count)
        require_count("num_workers", num_workers, low=0, high=MOST_WORKERS)
        require_seed("seed", seed)
        require_path("dataset", dataset)
        require_path("root", root, optional=True)
        self.dataset_name, self.root, self.p, self.k = dataset, root, p, k
        self.image_size = checked_image_size("image_size", image_size)
        self.num_workers, self.eval_batch_size, self.seed = num_workers, eval_batch_size, seed
        self.epochs_before, self.val_identities = 0, val_identities
        self._dataset: Splits[Record] | None = None
        self._validation: Validation[Record] | None = None
        self._told_of_validation = False
        self._labels = torch.empty(0, dtype=torch.int64)
        self._loaders: dict[tuple[Any, ...], DataLoader] = {}
        self._planned: tuple[tuple[Any, ...], EpochPlan] | None = None
        self._label_version = 0

    @abstractmethod
    def read(self) -> Splits[Record]:
        """The records of the data set, checked as far as may be before training."""

    @abstractmethod
    def transform_text(self) -> str:
        """What the test images went through, as the stamp of a score tells it."""

    def picture(self, path: str) -> Tensor:
        """The crop of a record as it was recorded, ``[3, h, w]`` uint8 RGB; errors as of ``load_image``."""
        pictures = None if self._dataset is None else self._dataset.pictures
        return (pictures or load_image)(path)

    def serve(self, dataset: Splits[Record]) -> None:
        """Serve these records, in place of those that the data set's name stands for; people to validate on are held out of them."""
        if dataset.train and not (dataset.has_labels or self.takes_unlabeled):
            raise ValueError(
                f"{type(self).__name__} trains on people who are known, and the {len(dataset.train)} training {self.noun} of"
                f" {self.dataset_name} have no labels: {WAY_ON}"
            )
        if dataset.val:
            self._validation = told_validation(dataset, seed=self.seed, unit=self.noun)
        elif self.val_identities:
            self._validation = hold_out_people(dataset, self.val_identities, seed=self.seed, unit=self.noun)
        else:
            self._validation = None
        self._dataset = dataset if self._validation is None else replace(dataset, train=self._validation.train)
        self._labels = training_labels(self._dataset.train)
        self.labels_changed()
        self.forget_loaders()
        self.check_training_identities()

    def labels_changed(self) -> None:
        """Epochs that were not begun are to be planned anew."""
        self._label_version += 1

    def forget_loaders(self) -> None:
        """Make loaders anew when they are next asked for: what they read has changed."""
        self._loaders = {}

    @property
    def epoch_of_the_fit(self) -> int:
        """The Trainer's epoch; 0 outside a Trainer."""
        return 0 if self.trainer is None else self.trainer.current_epoch

    @property
    def current_epoch(self) -> int:
        """Epochs that were drawn before this one, those of earlier fits included."""
        return self.epochs_before + self.epoch_of_the_fit

    @abstractmethod
    def plan_epoch(self, epoch: int) -> EpochPlan:
        """Plan an epoch for all processes, by what is believed at the moment; ``epoch`` counts those of earlier fits too."""

    @abstractmethod
    def training_loader(self, plan: Callable[[int], EpochPlan], **options: Any) -> PlannedLoader:
        """A loader over augmented training records; ``options`` are those of ``PlannedLoader`` that are the same for all data."""

    def planned(self, epoch: int) -> EpochPlan:
        """``plan_epoch`` of an epoch of the fit, made once as long as the labels are the same."""
        key = (self.epochs_before + epoch, self._label_version, self.p, self.k, self.rank_and_world[1])
        if self._planned is None or self._planned[0] != key:
            self._planned = (key, self.plan_epoch(self.epochs_before + epoch))
        return self._planned[1]

    @override
    def train_dataloader(self) -> DataLoader:
        rank, world_size = self.rank_and_world
        processes = self.trainer.world_size if self.trainer is not None else 1
        dealt = {"rank": rank, "world_size": world_size, "processes": processes}
        options = {"epoch": self.epoch_of_the_fit, **dealt, **self.worker_options()}
        loader = self.kept_loader("train", lambda: self.training_loader(self.planned, **options))
        assert isinstance(loader, PlannedLoader)
        loader.epoch_batches.set_epoch(self.epoch_of_the_fit)
        return loader

    def kept_loader(self, name: str, make: Callable[[], DataLoader]) -> DataLoader:
        """A loader that is made once a fit: asked for again, it comes with its workers."""
        key = (name, self.rank_and_world, self.num_workers, self.eval_batch_size)
        if key not in self._loaders:
            self._loaders[key] = make()
        return self._loaders[key]

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
        """How many identities are trained on."""
        return max(0, int(self._labels.max()) + 1) if len(self._labels) else 0

    @property
    def people(self) -> TrainedPeople:
        """Who the classes are, and who is held out to validate on."""
        held = [] if self._validation is None else [self._validation.query, self._validation.gallery]
        return TrainedPeople(
            self.dataset.name,
            tuple(sorted({record.pid for record in self.dataset.train if record.pid > 0})),
            tuple(sorted({record.pid for records in held for record in records})),
        )

    @override
    def setup(self, stage: str | None = None) -> None:
        if self._dataset is None:
            self.serve(self.read())
        self.forget_loaders()
        if self.trainer is not None and stage == "fit":
            self._set_up_fit(self.trainer)
        if self.trainer is not None and stage in ("fit", "validate"):
            self._tell_of_validation(self.trainer)

    def _set_up_fit(self, trainer: pl.Trainer) -> None:
        overfit = getattr(trainer, "overfit_batches")  # noqa: B009  (the attribute is set dynamically)
        if overfit:
            raise ValueError(
                f"Trainer(overfit_batches={overfit}) replaces the sampler that draws P identities x K {self.noun}, and would train on"
                f" batches without a positive pair: give Trainer(limit_train_batches={overfit}) instead"
            )
        if self.labels_change:
            # an epoch is as long as the labels of the moment make it; asked anew, the loader is the same, with its workers
            setattr(trainer, "reload_dataloaders_every_n_epochs", 1)  # noqa: B010

    def _tell_of_validation(self, trainer: pl.Trainer) -> None:
        if self._told_of_validation:
            return
        if self._validation is None and trainer.limit_val_batches and self.dataset.query and trainer.is_global_zero:
            self._told_of_validation = True  # once, however many fits there are on these data
            logger.warning(
                "val/ scores are those of %s's test part (%s): select nothing by them",
                self.dataset_name,
                "the papers' protocol, val_identities=0" if self.can_hold_out else "who its training images show is not known",
            )

    @override
    def teardown(self, stage: str) -> None:
        self.forget_loaders()

    def check_training_identities(self) -> None:
        """Refuse fewer identities than P; say when identities have fewer than K records."""
        sizes = torch.bincount(self._labels[self._labels >= 0])
        if len(sizes) < self.p:
            raise ValueError(
                f"{self.dataset_name} has {len(sizes)} training identities{self._held_out_text()}, but a batch wants P={self.p}:"
                f" lower p to {len(sizes)} or less"
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
        """Whose batches this process gets, and among how many they are dealt; (0, 1) outside a Trainer.

        It is this process among all, but where several compute one network: those get the same batches.
        """
        if self.trainer is None:
            return 0, 1
        dealt = getattr(self.trainer, "distributed_sampler_kwargs", None)  # of one process there are none
        return (dealt["rank"], dealt["num_replicas"]) if dealt else (self.trainer.global_rank, self.trainer.world_size)

    def worker_options(self) -> dict[str, Any]:
        """What every loader is made with."""
        workers = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}
        return workers | {"pin_memory": torch.cuda.is_available()}

    @abstractmethod
    def embedding_loader(self, query: tuple[Record, ...], gallery: tuple[Record, ...] = ()) -> DataLoader:
        """A loader over this rank's share of some records in the test-time transform."""

    @override
    def val_dataloader(self) -> DataLoader:
        return self.kept_loader("val", lambda: self.embedding_loader(*self.evaluation_records("val")))

    @override
    def test_dataloader(self) -> DataLoader:
        return self.kept_loader("test", lambda: self.embedding_loader(*self.evaluation_records("test")))

    @override
    def predict_dataloader(self) -> DataLoader:
        """What ``trainer.predict`` embeds: queries and gallery of the test part, each row with its ``indices``."""
        return self.kept_loader("predict", lambda: self.embedding_loader(*self.evaluation_records("test")))

    def evaluation_records(self, part: Part = "test") -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """Query and gallery records of the test part, or of the people that validation is on (the test part, where none are held out).

        Raises:
            ValueError: The data set has no queries or no gallery (it can be trained on, not scored).
        """
        if part == "val" and self._validation is not None:
            return self._validation.query, self._validation.gallery
        query, gallery = self.dataset.query, self.dataset.gallery
        if not query or not gallery:
            raise ValueError(
                f"{self.dataset_name} has {len(query)} queries and {len(gallery)} gallery {self.noun}: nothing to score; "
                "name a data set with a test part"
            )
        return query, gallery

    def _held_out_text(self) -> str:
        if self._validation is None:
            return ""
        told = "split val" if self.dataset.val else f"val_identities={self.val_identities}"
        return f" beside {self._validation.num_people} that are held out for validation ({told})"

    def protocol_stamp(self) -> ProtocolStamp:
        """What scores on the test part must be read with."""
        query, gallery = self.evaluation_records()
        return ProtocolStamp(
            dataset=self.dataset.name,
            num_query=len(query),
            num_gallery=sum(record.pid != JUNK_PID for record in gallery),
            num_query_ids=len({record.pid for record in query}),
            transform=self.transform_text(),
            seed=self.seed,
            unit=self.noun,
            num_val_ids=0 if self._validation is None else self._validation.num_people,
        )


def training_labels(records: Sequence[Record]) -> Tensor:
    """``[N]`` int64 classes ``0..C-1`` in the order of the pids; -1, which no batch draws, for records without identity (pid 0 or -1)."""
    pids = torch.tensor([record.pid for record in records], dtype=torch.int64)
    labels = torch.full_like(pids, -1)
    labels[pids > 0] = torch.unique(pids[pids > 0], return_inverse=True)[1]
    return labels
