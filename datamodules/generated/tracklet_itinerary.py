"""Which tracklets a generated video set consists of, and how MARS names their frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_reid.datamodules.generated.itinerary import MAX_QUERIES, Itinerary
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.tracklet_presets import TrackletPreset
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID

TRAIN, TEST = "bbox_train", "bbox_test"
MAX_TRACKLETS = 3
"""Most tracklets of one person in one camera."""


@dataclass(frozen=True)
class Tracklet:
    """One tracklet to be written; ``number`` counts those of a person and camera from 1."""

    folder: str
    pid: int
    camid: int
    number: int
    num_frames: int
    is_query: bool = False

    @property
    def label(self) -> str:
        """The person as four characters, junk as ``00-1``."""
        return f"{self.pid:04d}" if self.pid >= 0 else f"00{self.pid}"

    def names(self) -> list[str]:
        """The files of the frames, in order."""
        return [f"{self.label}C{self.camid}T{self.number:04d}F{frame:03d}.jpg" for frame in range(1, self.num_frames + 1)]


@dataclass(frozen=True)
class TrackletItinerary:
    """Who is filmed where, and how often.

    Attributes:
        preset: The domain.
        visits: Who is seen by which cameras.
        frames: Least and greatest number of frames of a tracklet.
    """

    preset: TrackletPreset
    visits: Itinerary
    frames: tuple[int, int]

    def tracklets(self) -> Iterator[Tracklet]:
        """Every tracklet: training people, then junk, distractors and test people as MARS sorts them."""
        train, test = self.visits.pids()
        for pid in train:
            yield from self._of_person(TRAIN, pid, self._camids(pid), asked=0)
        people = self.preset.domain.layout == "dukemtmc"
        if not people:
            yield from self._nobodys()
        for pid in test:
            yield from self._of_person(TEST, pid, self._camids(pid), asked=MAX_QUERIES)
        if people:
            first = self.visits.num_train_pids + self.visits.num_test_pids + 1
            for pid in range(first, first + self.visits.num_distractors):
                yield from self._of_person(TEST, pid, [camid for camid, _ in self.visits.visits(pid, cameras=1)], asked=0)

    def _camids(self, pid: int) -> list[int]:
        return [camid for camid, _ in self.visits.visits(pid)]

    def _of_person(self, folder: str, pid: int, camids: list[int], *, asked: int) -> Iterator[Tracklet]:
        rng = stream(self.visits.seed, self.preset.domain.code, Stream.ITINERARY, pid, 0)
        least = 2 if len(camids) == 2 else 1  # four tracklets a person are what a batch wants
        counts = rng.integers(least, MAX_TRACKLETS + 1, len(camids)).tolist()
        cameras = set(rng.permutation(len(camids))[:asked].tolist())
        for place, (camid, count) in enumerate(zip(camids, counts)):
            query = 1 + int(rng.integers(count)) if place in cameras else 0
            for number in range(1, count + 1):
                yield Tracklet(folder, pid, camid, number, self._num_frames(pid, camid, number), number == query)

    def _nobodys(self) -> Iterator[Tracklet]:
        """``00-1`` and ``0000``: each tracklet is of somebody else, and they are numbered through."""
        domain, distractors = self.preset.domain, self.visits.num_distractors
        for pid, count in ((JUNK_PID, round(self.preset.noise.junk * distractors)), (DISTRACTOR_PID, distractors)):
            rng = stream(self.visits.seed, domain.code, Stream.ITINERARY, pid, 0)
            for number in range(1, count + 1):
                camid = int(rng.integers(len(domain.cameras))) + 1
                yield Tracklet(TEST, pid, camid, number, self._num_frames(pid, camid, number))

    def _num_frames(self, pid: int, camid: int, number: int) -> int:
        low, high = self.frames
        return int(stream(self.visits.seed, self.preset.domain.code, Stream.ITINERARY, pid, camid, number).integers(low, high + 1))
