"""Which person is seen when by which camera, and how the two official layouts name the crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lightning_reid.datamodules.generated.presets import DomainPreset
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
MAX_QUERIES = 3
"""Most cameras in which one test identity is a query."""


@dataclass(frozen=True)
class Crop:
    """One file to be written: ``folder`` and ``name`` in the official layout, and what ``render`` needs to know."""

    folder: str
    name: str
    pid: int
    camid: int
    k: int


@dataclass(frozen=True)
class Itinerary:
    """Who is seen where: which crops a generated data set consists of.

    Attributes:
        preset: The domain.
        seed: Seed of the data set.
        num_train_pids: Identities to train on.
        num_test_pids: Identities that are queried.
        num_distractors: Gallery crops (market-like) or people (duke-like) that belong to no query.
        images_per_camera: Most crops of one visit, at least 2.
    """

    preset: DomainPreset
    seed: int
    num_train_pids: int
    num_test_pids: int
    num_distractors: int
    images_per_camera: int

    def pids(self) -> tuple[list[int], list[int]]:
        """Training and test identities, numbered from 1 and mixed as in the official sets; each list ascends."""
        total = self.num_train_pids + self.num_test_pids
        order = stream(self.seed, self.preset.code, Stream.IDENTITIES).permutation(total) + 1
        return sorted(order[: self.num_train_pids].tolist()), sorted(order[self.num_train_pids :].tolist())

    def visits(self, pid: int, *, cameras: int | None = None) -> list[tuple[int, int]]:
        """``(camid, number of crops)`` of one identity; ``cameras`` fixes how many it is seen by, else at least two at random."""
        rng = stream(self.seed, self.preset.code, Stream.ITINERARY, pid)
        total = len(self.preset.cameras)
        seen = cameras or 2 + int(rng.binomial(total - 2, self.preset.camera_share))
        traffic = np.array([camera.traffic for camera in self.preset.cameras])
        chosen = np.sort(rng.choice(total, seen, replace=False, p=traffic / traffic.sum())) + 1
        return [(int(camid), int(rng.integers(2, self.images_per_camera + 1))) for camid in chosen]

    def crops(self) -> Iterator[Crop]:
        """Every file of the data set: training, query and gallery crops, then distractors and junk."""
        train, test = self.pids()
        for pid in train:
            for camid, count in self.visits(pid):
                yield from (self._crop(TRAIN, pid, camid, k) for k in range(count))
        for pid in test:
            yield from self._test_crops(pid)
        yield from self._nobodys_crops()

    def _test_crops(self, pid: int) -> Iterator[Crop]:
        rng = stream(self.seed, self.preset.code, Stream.ITINERARY, pid, 1)
        visits = self.visits(pid)
        asked = set(rng.permutation(len(visits))[:MAX_QUERIES].tolist())
        for number, (camid, count) in enumerate(visits):
            query = int(rng.integers(count)) if number in asked else -1
            yield from (self._crop(QUERY if k == query else GALLERY, pid, camid, k) for k in range(count))

    def _nobodys_crops(self) -> Iterator[Crop]:
        """Gallery crops without a query: ``0000`` and ``-1`` in Market-1501, people of one camera only in DukeMTMC-reID."""
        if self.preset.layout == "dukemtmc":
            first = self.num_train_pids + self.num_test_pids + 1
            for pid in range(first, first + self.num_distractors):
                for camid, count in self.visits(pid, cameras=1):
                    yield from (self._crop(GALLERY, pid, camid, k) for k in range(count))
            return
        for pid, count in ((DISTRACTOR_PID, self.num_distractors), (JUNK_PID, round(self.preset.junk * self.num_distractors))):
            rng = stream(self.seed, self.preset.code, Stream.ITINERARY, pid)
            for k in range(count):
                yield self._crop(GALLERY, pid, int(rng.integers(len(self.preset.cameras))) + 1, k)

    def _crop(self, folder: str, pid: int, camid: int, k: int) -> Crop:
        rng = stream(self.seed, self.preset.code, Stream.ITINERARY, pid, camid)
        if pid <= 0:  # crops without identity share pid and often camera: k keeps their frames apart
            frame, sequence = 40 * k + int(rng.integers(40)), 1 + k % 3
        else:
            frame, sequence = int(rng.integers(1, 60000)) + k * int(rng.integers(20, 60)), int(rng.integers(1, 4))
        if self.preset.layout == "dukemtmc":
            return Crop(folder, f"{pid:04d}_c{camid}_f{frame:07d}.jpg", pid, camid, k)
        label = f"{pid:04d}" if pid >= 0 else f"{pid:d}"
        return Crop(folder, f"{label}_c{camid}s{sequence}_{frame:06d}_{1 + (frame + k) % 4:02d}.jpg", pid, camid, k)
