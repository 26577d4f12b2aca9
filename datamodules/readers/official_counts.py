"""What the authors of a data set counted, and the warning when a copy on disk differs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from lightning_reid.records import ImageRecord, ReIDDataset, TrackletDataset, TrackletRecord

Dataset = TypeVar("Dataset", ReIDDataset, TrackletDataset)

Figure = int | tuple[int, ...] | None
"""A published figure; several where publications differ, the commonest first; ``None`` where there is none."""


class DatasetCountWarning(UserWarning):
    """What was read differs from the official figures: scores on this copy compare with nothing published."""


@dataclass(frozen=True)
class OfficialCounts:
    """Published figures of a data set; identities are counted without distractors (0) and junk (-1).

    Attributes:
        train_images: Images to train on; of tracklets, their frames.
        train_pids: Identities to train on.
        query_images: Queries.
        query_pids: Identities among the queries.
        gallery_images: Files of the gallery; distractors, junk and queries within it included.
        gallery_pids: Identities of the gallery.
        cameras: Cameras over all splits.
        images: Images of the set, whether a split uses them or not.
        pids: Identities of the set, whether a split uses them or not.
        train_tracklets: Tracklets to train on; these and the following of video sets only.
        query_tracklets: Queries.
        gallery_tracklets: Tracklets of the gallery.
    """

    train_images: Figure = None
    train_pids: Figure = None
    query_images: Figure = None
    query_pids: Figure = None
    gallery_images: Figure = None
    gallery_pids: Figure = None
    cameras: Figure = None
    images: Figure = None
    pids: Figure = None
    train_tracklets: Figure = None
    query_tracklets: Figure = None
    gallery_tracklets: Figure = None


def warn_unless_official(dataset: Dataset, official: OfficialCounts, everything: Sequence[ImageRecord] = ()) -> Dataset:
    """Return ``dataset`` unchanged; warn, naming both figures of each count, where it agrees with none of the published ones.

    Args:
        dataset: What was read.
        official: What should have been.
        everything: All images found, counted for ``images`` and ``pids``, where the splits leave some out.

    Warns:
        DatasetCountWarning: At least one figure differs.
    """
    differing = differences(dataset, official, everything)
    if differing:
        # 3: this function, the reader, and then the line of the user
        warnings.warn(f"{dataset.name}: {'; '.join(differing)}", DatasetCountWarning, stacklevel=3)
    return dataset


def differences(dataset: ReIDDataset | TrackletDataset, official: OfficialCounts, everything: Sequence[ImageRecord] = ()) -> list[str]:
    """Both figures of each count that agrees with none of the published ones, in words; arguments as of ``warn_unless_official``."""
    read = _count(dataset) | {"images": len(everything), "pids": _num_pids(everything)}
    differing = []
    for name, figure in asdict(official).items():
        published = (figure,) if isinstance(figure, int) else figure or ()
        if published and read[name] not in published:
            known = " or ".join(f"{value:,}" for value in published)
            differing.append(f"{name.replace('_', ' ')}: read {read[name]:,}, official {known}")
    return differing


def _count(dataset: ReIDDataset | TrackletDataset) -> dict[str, int]:
    counts = {}
    for split, records in dataset.splits():
        counts[f"{split}_tracklets"] = sum(isinstance(record, TrackletRecord) for record in records)
        counts[f"{split}_images"] = sum(len(record.paths) if isinstance(record, TrackletRecord) else 1 for record in records)
        counts[f"{split}_pids"] = _num_pids(records)
    counts["cameras"] = len({record.camid for _, records in dataset.splits() for record in records})
    return counts


def _num_pids(records: Sequence[ImageRecord | TrackletRecord]) -> int:
    return len({record.pid for record in records if record.pid > 0})
