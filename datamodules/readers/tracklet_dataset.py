"""The record that readers of video sets make: ``ReIDDataset`` with tracklets in the place of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, TrackletRecord


@dataclass(frozen=True)
class TrackletDataset:
    """A video data set as its reader found it: who to train on, and the queries and gallery of its test protocol.

    Attributes:
        name: Short name, the ``domain`` of its records.
        train: Labelled training tracklets.
        query: Probe tracklets.
        gallery: Tracklets the probes are searched in; may hold junk (-1) and distractors (0), and, as in MARS, the queries themselves.
        notes: What a user should know of how it was read (split, queries in the gallery), shown with every score.
    """

    name: str
    train: tuple[TrackletRecord, ...]
    query: tuple[TrackletRecord, ...] = ()
    gallery: tuple[TrackletRecord, ...] = ()
    notes: tuple[str, ...] = ()

    def splits(self) -> Iterator[tuple[str, tuple[TrackletRecord, ...]]]:
        """Yield ``("train", records)``, ``("query", records)``, ``("gallery", records)``."""
        yield from (("train", self.train), ("query", self.query), ("gallery", self.gallery))


def require_identified_tracklets(query: Iterable[TrackletRecord]) -> None:
    """Check that every query shows somebody.

    Raises:
        ValueError: A query has the identity of a distractor (0) or of junk (-1).
    """
    nobody = [record for record in query if record.pid <= 0]
    if nobody:
        raise ValueError(
            f"the query tracklet that begins with {nobody[0].paths[0]} has pid {nobody[0].pid}, as have {len(nobody) - 1} others with pid "
            "0 or less: 0 means distractor and -1 junk, which only a gallery may hold. Number people from 1"
        )


def gallery_note(query: Sequence[TrackletRecord], gallery: Sequence[TrackletRecord]) -> str:
    """The sentence that says what a gallery holds besides answers: queries, distractors and junk."""
    held = {_first_image(record) for record in gallery}
    found = sum(_first_image(record) in held for record in query)
    distractors, junk = (sum(record.pid == pid for record in gallery) for pid in (DISTRACTOR_PID, JUNK_PID))
    return (
        f"the gallery holds {found} of the {len(query)} queries themselves, {distractors} distractor (pid 0) "
        f"and {junk} junk (pid -1) tracklets"
    )


def _first_image(record: TrackletRecord) -> tuple[int, int, str]:
    """What tells a tracklet, also where query and gallery are copies in two folders."""
    return record.pid, record.camid, Path(record.paths[0]).name
