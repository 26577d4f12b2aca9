"""Official figures of the video data sets, and the warning when a copy differs from them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lightning_reid.datamodules.readers.official_counts import DatasetCountWarning, Figure
from lightning_reid.datamodules.readers.tracklet_dataset import TrackletDataset
from lightning_reid.records import TrackletRecord


@dataclass(frozen=True)
class VideoCounts:
    """Published figures of a video data set; identities are counted without distractors (0) and junk (-1).

    Attributes:
        train_tracklets: Tracklets to train on.
        train_images: Their frames.
        train_pids: Their identities.
        query_tracklets: Queries.
        query_pids: Identities among the queries.
        gallery_tracklets: Tracklets of the gallery, distractors, junk and queries within it included.
        gallery_images: Their frames.
        gallery_pids: Identities of the gallery.
        cameras: Cameras over all splits.
    """

    train_tracklets: Figure = None
    train_images: Figure = None
    train_pids: Figure = None
    query_tracklets: Figure = None
    query_pids: Figure = None
    gallery_tracklets: Figure = None
    gallery_images: Figure = None
    gallery_pids: Figure = None
    cameras: Figure = None


# The paper's 636 test identities count distractors and junk as two: the info files name 634 people, 8 of whom are never queried.
MARS = VideoCounts(
    train_tracklets=8_298,
    train_images=509_914,
    train_pids=625,
    query_tracklets=1_980,
    query_pids=626,
    gallery_tracklets=12_180,
    gallery_images=681_089,
    gallery_pids=(634, 636),
    cameras=6,
)
DUKEMTMC_VIDEO = VideoCounts(
    train_tracklets=2_196, train_pids=702, query_tracklets=702, query_pids=702, gallery_tracklets=2_636, gallery_pids=1_110, cameras=8
)
ILIDS_VID = VideoCounts(
    train_tracklets=300, train_pids=150, query_tracklets=150, query_pids=150, gallery_tracklets=150, gallery_pids=150, cameras=2
)
PRID2011_VIDEO = VideoCounts(
    train_tracklets=178, train_pids=89, query_tracklets=89, query_pids=89, gallery_tracklets=89, gallery_pids=89, cameras=2
)


def warn_unless_official_video(dataset: TrackletDataset, official: VideoCounts) -> TrackletDataset:
    """Return ``dataset`` unchanged; warn, naming both figures of each count, where it agrees with none of the published ones.

    Warns:
        DatasetCountWarning: At least one figure differs.
    """
    read, differing = _count(dataset), []
    for name, figure in asdict(official).items():
        published = (figure,) if isinstance(figure, int) else figure or ()
        if published and read[name] not in published:
            known = " or ".join(f"{value:,}" for value in published)
            differing.append(f"{name.replace('_', ' ')}: read {read[name]:,}, official {known}")
    if differing:
        # 3: this function, the reader, and then the line of the user
        warnings.warn(f"{dataset.name}: {'; '.join(differing)}", DatasetCountWarning, stacklevel=3)
    return dataset


def _count(dataset: TrackletDataset) -> dict[str, int]:
    counts = {}
    for split, records in dataset.splits():
        counts[f"{split}_tracklets"] = len(records)
        counts[f"{split}_images"] = sum(len(record.paths) for record in records)
        counts[f"{split}_pids"] = _num_pids(records)
    counts["cameras"] = len({record.camid for _, records in dataset.splits() for record in records})
    return counts


def _num_pids(records: Sequence[TrackletRecord]) -> int:
    return len({record.pid for record in records if record.pid > 0})
