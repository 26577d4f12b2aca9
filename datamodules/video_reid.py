"""The DataModule of one video data set: P x K batches of clips, and queries and a gallery of tracklets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_path, require_switch
from lightning_reid.datamodules.blocks.data import CACHE_GB
from lightning_reid.datamodules.catalog import SETS_WITH_SPLITS, prepare_video_dataset, read_prepared_video, video_folder
from lightning_reid.datamodules.clips import (
    ClipChoice,
    EvaluationClips,
    FrameReader,
    TrainClips,
    collate_evaluation_clips,
    collate_train_clips,
)
from lightning_reid.datamodules.generated.people_data import PeopleTracklets
from lightning_reid.datamodules.images import ResizedCrops
from lightning_reid.datamodules.labeled_data import LabeledDataModule
from lightning_reid.datamodules.loaders import PlannedLoader, fixed_loader
from lightning_reid.datamodules.packing import PackedCache
from lightning_reid.datamodules.readers.corrections import corrected, read_corrections
from lightning_reid.datamodules.samplers import EpochPlan, evaluation_batches, identity_batches
from lightning_reid.datamodules.sparse_tracklets import one_tracklet_per_person
from lightning_reid.datamodules.tracklet_check import require_readable_frames, without_unreadable_frames
from lightning_reid.datamodules.transforms import EvaluationTransform
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.normalization import normalize_images
from lightning_reid.packed_tracklets.format import Encoding, picture_masks
from lightning_reid.records import Paths, Splits, TrackletDataset, TrackletRecord

_CLIPS_IN_WORDS: dict[ClipChoice, str] = {
    "rrs": "RRS, T={}, first of each chunk",
    "all": "all frames in interleaved clips, T={}, mean of the clips",
    "even": "T={} evenly spaced frames",
}


class VideoReIDDataModule(LabeledDataModule[TrackletRecord]):
    """One video re-ID data set: training batches of P identities x K clips, and its test protocol.

    Train batch: ``clips [B, T, 3, H, W]`` ImageNet-normalized, ``pids [B]`` in ``0..num_classes-1``, ``camids [B]``, ``indices [B]``.
    Evaluation batch, of B tracklets: ``clips [N, T, 3, H, W]``, the clips of one tracklet after those of another, ``num_clips [B]``, N in
    sum; the data set's own ``pids``, ``camids``, ``indices`` (queries and gallery apart), ``is_query``, ``second_pids`` ``[B]``. While
    processed tracklets are served, both hold ``masks [B or N, T, H, W]`` bool, true where a pixel is picture and not padding.

    Training clips are drawn by restricted random sampling (RRS): one random frame of each of T equal chunks. Shorter tracklets repeat their
    last frame.

    Args:
        dataset: A data set's name (a key of ``datamodules.readers.by_name.VIDEO_FOLDERS``), ``"mars-like"`` or ``"dukev-like"`` for
            a generated one, ``"generated-people"`` for people without end, other walks of them in each epoch (with options as in
            ``"generated-people,people=5000"``, see ``PeopleTracklets``), or the path of a folder in the layout of MARS or of a CSV/Parquet
            table of tracklets.
        root: Folder that holds the named data sets; ``None`` is ``./data``. Generated sets are written there once, then reused.
        image_size: (height, width) in pixels.
        clip_length: T, frames a clip.
        p: Identities a training batch.
        k: Clips an identity, of different tracklets where it has as many.
        test_clips: Which frames stand for a tracklet when it is tested: ``"rrs"`` the first of each chunk, ``"all"`` interleaved clips that
            cover every frame, ``"even"`` T evenly spaced ones.
        erasing_probability: Chance of random erasing of each training frame, in [0, 1]; the text has none, the code of CF-AAN 0.5.
        num_workers: Worker processes a loader.
        eval_batch_size: Clips an evaluation batch; a tracklet of more clips is a batch of its own.
        seed: Seed of the draws and augmentations.
        split: Which of the ten splits of iLIDS-VID and PRID-2011; 0 for other sets.
        epoch: Length of an epoch: ``"identities"`` shows every identity once, as in the text; ``"tracklets"`` draws about as many clips as
            there are training tracklets.
        sparse_tracklets: Train on one tracklet, drawn by ``seed``, of each person in each camera (SSTT of a labeled set).
        corrections: CSV file of corrected test labels; ``datamodules/readers/mars_corrections_sample.csv`` documents the format.
        packed: Folder of a cache of decoded and resized frames, made on first use in a sub-folder of its own for each size and encoding, so
            that a clip costs one read; ``None`` decodes the image files each time.
        packed_encoding: ``"raw"``, the resized pixels, read without decoding: 98 KB a frame of 256x128, 117 GB for all of MARS; or
            ``"jpeg"``, about a twelfth of that, which spares opening files and resizing but not decoding, and changes pixels slightly.
        unreadable: ``"error"``, or ``"skip"`` to decode every frame once beforehand and leave out those that fail, with a count.
        needs_test: Whether a user's own table must have queries and a gallery.
        val_identities: People held out of training to validate on, as in :class:`ImageReIDDataModule`.
        allow_paths_outside: Whether a table may list files that do not lie below its folder.
        storage_options: Of a set of blocks at an address, as fsspec's file system takes them (``endpoint_url``, ``key``, ``secret``); in no
            log, stamp or checkpoint. fsspec's own configuration and the usual variables of the environment serve, too.
        block_cache: Folder on a local disk for whole blocks of an address; ``None`` for ``~/.cache/lightning-reid/blocks``.
        block_cache_gb: Gigabytes (10^9 bytes) that it may hold; where it is smaller than the set, frames come in ranges. 0: no cache.

    Raises:
        ValueError: A number or name is out of range (here); fewer training identities than P, corrections of unknown tracklets, too few
            people to hold out, or a Trainer that draws for itself (``setup``). Or ``packed`` with people who are drawn anew.

    Example:
        >>> from lightning_reid.datamodules import VideoReIDDataModule
        >>> data = VideoReIDDataModule(mars, image_size=(64, 32), clip_length=4, p=2, k=2, num_workers=0)
        >>> data.setup("fit")  # mars: a folder in the layout of MARS
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["clips"].shape, batch["pids"].shape
        (torch.Size([4, 4, 3, 64, 32]), torch.Size([4]))
    """

    noun: ClassVar[str] = "tracklets"

    def __init__(
        self,
        dataset: str = "mars",
        root: str | None = None,
        image_size: tuple[int, int] = (256, 128),
        clip_length: int = 8,
        p: int = 8,
        k: int = 4,
        test_clips: ClipChoice = "rrs",
        erasing_probability: float = 0.0,
        num_workers: int = 2,
        eval_batch_size: int = 32,
        seed: int = 0,
        split: int = 0,
        epoch: Literal["identities", "tracklets"] = "identities",
        sparse_tracklets: bool = False,
        corrections: str | None = None,
        packed: str | None = None,
        packed_encoding: Encoding = "raw",
        unreadable: Literal["error", "skip"] = "error",
        needs_test: bool = True,
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
        require_count("clip_length", clip_length)
        require_number("erasing_probability", erasing_probability, low=0, high=1)
        require_choice("test_clips", test_clips, get_args(ClipChoice))
        require_choice("epoch", epoch, ("identities", "tracklets"))
        require_choice("packed_encoding", packed_encoding, get_args(Encoding))
        require_choice("unreadable", unreadable, ("error", "skip"))
        require_count("split", split, low=0)
        require_switch("needs_test", needs_test)
        require_switch("allow_paths_outside", allow_paths_outside)
        require_path("block_cache", block_cache, optional=True)
        require_number("block_cache_gb", block_cache_gb, low=0)
        require_switch("sparse_tracklets", sparse_tracklets)
        require_path("corrections", corrections, optional=True)
        require_path("packed", packed, optional=True)
        if packed is not None and PeopleTracklets.named(dataset) is not None:
            raise ValueError(f"{dataset} is drawn anew in every epoch, and packed={packed!r} would keep one of them: leave packed out")
        self.clip_length, self.test_clips, self.erasing_probability = clip_length, test_clips, erasing_probability
        self.split, self.epoch, self.sparse_tracklets, self.corrections = split, epoch, sparse_tracklets, corrections
        self.cache = None if packed is None else PackedCache(Path(packed), self.image_size, packed_encoding)
        self.storage = {"storage_options": storage_options, "cache": block_cache, "cache_gb": block_cache_gb}
        self.unreadable, self.needs_test, self.allow_paths_outside = unreadable, needs_test, allow_paths_outside
        self._packed: Mapping[Paths, Path] = {}
        self._processed: Mapping[Paths, Path] | None = None

    @property
    def folder(self) -> Path:
        """Where the data set lies, or will lie once it is generated."""
        return video_folder(self.dataset_name, self.root)

    @override
    def prepare_data(self) -> None:
        prepare_video_dataset(self.dataset_name, self.root)
        if self.cache is not None:
            records = [record for _, split in self._records().splits() for record in split]
            self.cache.make(records, num_threads=max(1, self.num_workers))

    @override
    def serve(self, dataset: Splits[TrackletRecord]) -> None:
        num_frames = sum(len(record.paths) for _, records in dataset.splits() for record in records)
        self._crops = ResizedCrops(self.image_size, num_frames, dataset.pictures)
        super().serve(dataset)

    @override
    def read(self) -> TrackletDataset:
        dataset = self._records()
        if self.cache is not None:
            self._packed = self.cache.files(record for _, split in dataset.splits() for record in split)
        return dataset

    def _records(self) -> TrackletDataset:
        dataset = read_prepared_video(
            self.dataset_name,
            self.root,
            split=self.split,
            needs_test=self.needs_test,
            allow_paths_outside=self.allow_paths_outside,
            storage=self.storage,
        )
        if self.cache is not None and dataset.pictures is not None:
            raise ValueError(f"{self.dataset_name} is packed in blocks, and packed= keeps decoded frames of files: leave packed out")
        if self.corrections is not None:
            dataset = corrected(dataset, read_corrections(self.corrections), Path(self.corrections).name)
        if self.sparse_tracklets:
            dataset = self._sparse(dataset)
        progress = self.rank_and_world[0] == 0
        if self.unreadable == "skip":
            return without_unreadable_frames(dataset, progress=progress)
        if self.cache is None:  # packing decodes every frame, it needs no check before
            require_readable_frames(dataset, progress=progress)
        return dataset

    def _sparse(self, dataset: TrackletDataset) -> TrackletDataset:
        chosen = one_tracklet_per_person(dataset.train, np.random.default_rng(self.seed))
        note = f"trained on {len(chosen)} of {len(dataset.train)} tracklets, one a person and camera, drawn by seed {self.seed}"
        notes = (*dataset.notes, note)
        return TrackletDataset(dataset.name, chosen, dataset.query, dataset.gallery, notes, dataset.val, dataset.pictures, dataset.names)

    def tracklet_records(self) -> tuple[TrackletRecord, ...]:
        """Training, validation, query and gallery tracklets; one that is in several of them comes once."""
        held_out = [] if self._validation is None else [self._validation.query, self._validation.gallery]
        records = (record for split in (*(split for _, split in self.dataset.splits()), *held_out) for record in split)
        return tuple({record.paths: record for record in records}.values())

    def read_frames(self, record: TrackletRecord) -> list[Tensor]:
        """The original frames of a tracklet, ``[3, h, w]`` uint8 RGB each, of their own sizes.

        Raises:
            CorruptImageError: A file does not decode; the message names it.
        """
        return [self.picture(path) for path in record.paths]

    def serve_processed(self, files: Mapping[Paths, Path] | None) -> None:
        """Serve packed tracklets in the place of the original frames, with masks; loaders that a Trainer holds already are not affected.

        Args:
            files: By the ``paths`` of the records, for all of ``tracklet_records()``; ``None`` for the originals again.

        Raises:
            ValueError: A tracklet has none.
        """
        if files is not None:
            missing = [record for record in self.tracklet_records() if record.paths not in files]
            if missing:
                raise ValueError(
                    f"{len(missing)} of {len(self.tracklet_records())} tracklets of {self.dataset_name} have no processed one, the first "
                    f"begins with {missing[0].paths[0]}: process all of tracklet_records()"
                )
        self._processed = files
        self.forget_loaders()

    def _reader(self) -> FrameReader:
        if self._processed is not None:
            return FrameReader(self.image_size, self._processed, padded=True)
        return FrameReader(self.image_size, self._packed, load=self._crops)

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        rows = identity_batches(
            self._labels,
            self.p,
            self.k,
            generator=np.random.default_rng([self.seed, epoch]),
            world_size=self.rank_and_world[1],
            epoch="identities" if self.epoch == "identities" else "records",
        )
        return EpochPlan(rows, self._labels, epoch)

    @override
    def training_loader(self, plan: Callable[[int], EpochPlan], **options: Any) -> PlannedLoader:
        clips = TrainClips(
            self.dataset.train,
            self._reader(),
            clip_length=self.clip_length,
            erasing_probability=self.erasing_probability,
            seed=self.seed,
        )
        return PlannedLoader(clips, plan, collate=collate_train_clips, **options)

    @override
    def embedding_loader(self, query: tuple[TrackletRecord, ...], gallery: tuple[TrackletRecord, ...] = ()) -> DataLoader:
        clips, (rank, world_size) = self._evaluation_clips(query, gallery), self.rank_and_world
        batches = evaluation_batches(clips.num_clips(), self.eval_batch_size, rank, world_size)
        return fixed_loader(clips, batches, collate=collate_evaluation_clips, rank=rank, world_size=world_size, **self.worker_options())

    def _evaluation_clips(self, query: tuple[TrackletRecord, ...], gallery: tuple[TrackletRecord, ...]) -> EvaluationClips:
        return EvaluationClips(query, gallery, self._reader(), clip_length=self.clip_length, clips=self.test_clips)

    @override
    def transform_text(self) -> str:
        parts = [_CLIPS_IN_WORDS[self.test_clips].format(self.clip_length), EvaluationTransform(self.image_size).in_words]
        if self._processed is not None:
            parts.insert(1, "processed tracklets")
        elif self.cache is not None and self.cache.encoding == "jpeg":
            parts.append("compressed again as JPEG")
        if self.corrections is not None:
            parts.append(f"labels corrected by {Path(self.corrections).name}")
        return ", ".join(parts)

    @override
    def protocol_stamp(self) -> ProtocolStamp:
        stamp = super().protocol_stamp()
        return replace(stamp, dataset=f"{stamp.dataset}, split {self.split}") if self.dataset_name in SETS_WITH_SPLITS else stamp

    @override
    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        if batch["clips"].dtype == torch.uint8:
            batch["clips"] = normalize_images(batch["clips"])
        if "pictures" in batch:
            batch["masks"] = picture_masks(batch.pop("pictures"), *self.image_size)
        return batch
