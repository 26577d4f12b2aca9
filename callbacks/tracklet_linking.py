"""Filling a cache of linked tracklets: all ranks share the work, a progress bar tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytorch_lightning as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightning_reid.callbacks.across_ranks import from_all_ranks, once_for_all_ranks
from lightning_reid.callbacks.linked_tracklet_cache import DIGEST_BYTES, LinkedTrackletCache
from lightning_reid.linking import AlignedTracklet
from lightning_reid.packed_tracklets.format import Encoding
from lightning_reid.packed_tracklets.store import content_digest
from lightning_reid.protocols import TrackletData
from lightning_reid.records import DRAWN, TrackletRecord

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


def clip_length(data: TrackletData) -> int:
    """How many frames the clips have that the module under training embeds.

    Raises:
        ValueError: The datamodule does not say it.
    """
    length = getattr(data, "clip_length", None)
    if not isinstance(length, int):
        raise ValueError(
            f"the module under training embeds clips, and {type(data).__name__} does not say their length: it needs the attribute "
            f"clip_length, got {length!r}. Leave every_n_epochs=None to link with the extractor alone"
        )
    return length


def tracklet_contents(trainer: pl.Trainer, data: TrackletData) -> Contents:
    """Read the files of all tracklets, each rank its share; the result is the same on every rank.

    Raises:
        ValueError: They are no files, but frames of generated people, who walk anew in every epoch.
    """
    records = data.tracklet_records()
    drawn = [record.paths[0] for record in records if record.paths[0].startswith(DRAWN)]
    if drawn:
        raise ValueError(f"RedetectAndLink wants tracklets in files: {drawn[0]} is drawn when it is asked for, in every epoch anew")
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


def fill_cache(
    trainer: pl.Trainer,
    data: TrackletData,
    cache: LinkedTrackletCache,
    contents: Mapping[TrackletRecord, str],
    align: Callable[[TrackletRecord], AlignedTracklet],
    encoding: Encoding,
) -> None:
    """Process what is missing, each rank its share; each file is there when it is whole, so a killed run loses one tracklet."""
    records = {content: record for record, content in contents.items()}  # equal tracklets share a file
    missing = once_for_all_ranks(trainer, lambda: cache.missing(records))
    if not missing:
        return
    num_frames = sum(len(records[content].paths) for content in missing)
    once_for_all_ranks(trainer, lambda: cache.require_room_for(num_frames, data.image_size, encoding))

    def process() -> None:
        share = missing[trainer.global_rank :: trainer.world_size]
        if trainer.is_global_zero:
            cache.describe()
        with _progress(trainer, "frames") as progress:
            task = progress.add_task("re-detecting and linking", total=sum(len(records[content].paths) for content in share))
            for content in share:
                cache.write(content, align(records[content]), encoding)
                progress.advance(task, len(records[content].paths))

    from_all_ranks(trainer, process)


def _progress(trainer: pl.Trainer, unit: str) -> Progress:
    """Of this rank's share; rank 0 alone shows it, where the Trainer has progress bars."""
    if trainer.world_size > 1:
        unit += f" of rank 0 of {trainer.world_size}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
    return Progress(*columns, disable=not shown, transient=True)
