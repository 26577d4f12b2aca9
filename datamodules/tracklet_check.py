"""Finding the frames of tracklets that are no images before a training run does."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace

from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.readers.image_check import find_unreadable_files
from lightning_reid.records import PACKED, TrackletDataset, TrackletRecord

logger = logging.getLogger(__name__)


def require_readable_frames(dataset: TrackletDataset, *, progress: bool = False) -> None:
    """Find missing, empty and foreign files; reads the headers only.

    Raises:
        CorruptImageError: Names the first such file and counts the others.
    """
    paths = _paths(dataset)
    bad = find_unreadable_files(paths, progress=progress)
    if bad:
        raise CorruptImageError(
            f"{bad[0].path} is no readable image: {bad[0].reason} ({len(bad)} of {len(paths)} frames are so). "
            "Restore them, or leave them out with unreadable='skip' (of a command: --unreadable skip, or --data.unreadable skip)"
        )


def without_unreadable_frames(dataset: TrackletDataset, *, progress: bool = False) -> TrackletDataset:
    """Decode every frame once, leave out those that fail, and tracklets of which nothing is left; a note and a warning count them."""
    paths = _paths(dataset)
    bad = {image.path: image.reason for image in find_unreadable_files(paths, decode=True, progress=progress)}
    kept = {split: tuple(_shortened(records, bad)) for split, records in dataset.splits()}
    lost = sum(len(records) - len(kept[split]) for split, records in dataset.splits())
    note = f"{len(bad)} unreadable frames left out, and {lost} tracklets that had no other"
    if bad:
        path, reason = next(iter(bad.items()))
        logger.warning("%s (first: %s, %s)", note, path, reason)
    notes = (*dataset.notes, note)
    parts = (kept["train"], kept["query"], kept["gallery"])
    return TrackletDataset(dataset.name, *parts, notes, kept.get("val", ()), dataset.pictures, dataset.names)


def _paths(dataset: TrackletDataset) -> list[str]:
    """Each file once; what is packed was looked at before it was, and of its million addresses none is made."""
    records = (record for _, split in dataset.splits() for record in split if not record.thumbnail.startswith(PACKED))
    return list(dict.fromkeys(path for record in records for path in record.paths))


def _shortened(records: Iterable[TrackletRecord], bad: Collection[str]) -> Iterable[TrackletRecord]:
    for record in records:
        paths = tuple(path for path in record.paths if path not in bad)
        if paths:
            yield record if len(paths) == len(record.paths) else replace(record, paths=paths)
