"""Filling a cache of linked tracklets: all ranks share the work, a progress bar tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import pytorch_lightning as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightning_reid.arguments import require_choice, require_count, require_number
from lightning_reid.callbacks.across_ranks import from_all_ranks, once_for_all_ranks
from lightning_reid.callbacks.linked_tracklet_cache import DIGEST_BYTES, LinkedTrackletCache
from lightning_reid.detection import PersonDetector
from lightning_reid.detection.padding import MOST_PADDING, detect_in_padded
from lightning_reid.linking import AlignedTracklet, align_tracklet
from lightning_reid.linking.alignment import EmbedCrops
from lightning_reid.packed_tracklets.format import Encoding
from lightning_reid.packed_tracklets.store import content_digest
from lightning_reid.protocols import TrackletData
from lightning_reid.records import TrackletRecord

Contents = dict[TrackletRecord, str]
"""The tracklets of a datamodule and the ``content_digest`` of each."""


def tracklet_data(trainer: pl.Trainer) -> TrackletData:
    """The Trainer's datamodule, if it holds tracklets.

    Raises:
        ValueError: It does not.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, TrackletData):
        raise ValueError(f"RedetectAndLink wants a datamodule of tracklets, such as VideoReIDDataModule, got {type(data).__name__}")
    return data


def tracklet_contents(trainer: pl.Trainer, data: TrackletData) -> Contents:
    """Read the files of all tracklets, each rank its share; the result is the same on every rank."""
    records = data.tracklet_records()
    mine = records[trainer.global_rank :: trainer.world_size]

    def read() -> list[str]:
        keys = []
        with _progress(trainer, "tracklets") as progress:
            for record in progress.track(mine, description="reading tracklets"):
                keys.append(content_digest(record.paths, DIGEST_BYTES))
        return keys

    contents: Contents = {}
    for rank, keys in enumerate(from_all_ranks(trainer, read)):
        contents |= zip(records[rank :: trainer.world_size], keys)
    return {record: contents[record] for record in records}


@dataclass(frozen=True)
class LinkingWork:
    """How tracklets are processed that a cache does not hold yet; see ``detect_in_padded`` and ``align_tracklet``.

    Attributes:
        detector: Finds people.
        alpha: Share of the old running embedding.
        padding: Border around frames as a share of their height.
        encoding: Of the files.
        batch_size: Frames and crops at a time.

    Raises:
        ValueError: A setting is out of range.
    """

    detector: PersonDetector
    alpha: float = 0.9
    padding: float = 0.5
    encoding: Encoding = "raw"
    batch_size: int = 32

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha, low=0, high=1)
        require_number("padding", self.padding, low=0, high=MOST_PADDING)
        require_count("batch_size", self.batch_size)
        require_choice("encoding", self.encoding, get_args(Encoding))

    def fill(
        self,
        trainer: pl.Trainer,
        data: TrackletData,
        cache: LinkedTrackletCache,
        contents: Mapping[TrackletRecord, str],
        embed: EmbedCrops,
    ) -> None:
        """Process what is missing, each rank its share; each file is there when it is whole, so a killed run loses one tracklet."""
        records = {content: record for record, content in contents.items()}  # equal tracklets share a file
        missing = once_for_all_ranks(trainer, lambda: cache.missing(records))
        if not missing:
            return
        num_frames = sum(len(records[content].paths) for content in missing)
        once_for_all_ranks(trainer, lambda: cache.require_room_for(num_frames, data.image_size, self.encoding))
        mine = {content: records[content] for content in missing[trainer.global_rank :: trainer.world_size]}
        from_all_ranks(trainer, lambda: self._process(trainer, data, cache, mine, embed))

    def _process(
        self,
        trainer: pl.Trainer,
        data: TrackletData,
        cache: LinkedTrackletCache,
        share: Mapping[str, TrackletRecord],
        embed: EmbedCrops,
    ) -> None:
        if trainer.is_global_zero:
            cache.describe()
        with _progress(trainer, "frames") as progress:
            task = progress.add_task("re-detecting and linking", total=sum(len(record.paths) for record in share.values()))
            for content, record in share.items():
                cache.write(content, self._aligned(data, record, embed), self.encoding)
                progress.advance(task, len(record.paths))

    def _aligned(self, data: TrackletData, record: TrackletRecord, embed: EmbedCrops) -> AlignedTracklet:
        frames, size = data.read_frames(record), self.batch_size
        found = detect_in_padded(self.detector, frames, padding=self.padding, batch_size=size, frame_names=record.paths)
        boxes = [people.boxes for people in found]
        return align_tracklet(frames, boxes, embed, image_size=data.image_size, alpha=self.alpha, batch_size=size)


def _progress(trainer: pl.Trainer, unit: str) -> Progress:
    """Of this rank's share; rank 0 alone shows it, where the Trainer has progress bars."""
    if trainer.world_size > 1:
        unit += f" of rank 0 of {trainer.world_size}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
    return Progress(*columns, disable=not shown, transient=True)
