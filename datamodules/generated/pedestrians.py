"""``GeneratedPedestrians``: crops of people who never were, in the layouts of Market-1501 and DukeMTMC-reID."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.appearance import Bottom, Person, Top, draw_person, draw_shared_clothes
from lightning_reid.datamodules.generated.itinerary import GALLERY, QUERY, TRAIN, Itinerary
from lightning_reid.datamodules.generated.photograph import Site, begin_visit, build_site, take_photograph
from lightning_reid.datamodules.generated.presets import GENERATOR_VERSION, PRESETS, DomainPreset
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.writer import show_progress, write_dataset
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID

LEAST = {"seed": 0, "num_train_pids": 1, "num_test_pids": 1, "images_per_camera": 2, "num_distractors": 0, "height": 32, "width": 16}
"""Smallest value of each argument."""
MAX_PEOPLE = 9999
"""What four digits of a file name can number."""


@dataclass(frozen=True)
class GeneratedPedestrians:
    """Procedural person crops with identities, cameras and the difficulties of re-identification.

    A picture is a function of ``(seed, preset, pid, camid, k)`` and the crop's size, and of nothing else: neither of the
    order of the calls nor of how many other pictures there are.

    Attributes:
        preset: ``"market-like"`` (summer, 6 cameras, tight detector boxes) or ``"duke-like"`` (winter, 8 cameras).
        seed: At least 0; another seed gives other people and places of the same kind.
        num_train_pids: Identities to train on, at least 1.
        num_test_pids: Identities that are queried, at least 1; disjoint from the training identities.
        images_per_camera: Most crops of one person in one camera, at least 2; every visit has between 2 and this many.
        num_distractors: Gallery crops (market-like, with 3 junk boxes to every 4 of them) or gallery people (duke-like)
            that belong to no query.
        height: Of a crop in pixels, at least 32.
        width: Of a crop in pixels, at least 16.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> from lightning_reid.datamodules.generated import GeneratedPedestrians
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> people = GeneratedPedestrians("market-like", num_train_pids=3, num_test_pids=2, num_distractors=1, height=64, width=32)
        >>> people.render(pid=1, camid=2, k=0).shape
        (64, 32, 3)
        >>> dataset = read_market_folder(people.write(folder / "people", progress=False))
        >>> len({record.pid for record in dataset.train}), len({record.pid for record in dataset.query})
        (3, 2)
    """

    preset: str = "market-like"
    seed: int = 0
    num_train_pids: int = 150
    num_test_pids: int = 90
    images_per_camera: int = 4
    num_distractors: int = 80
    height: int = 128
    width: int = 64

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(map(repr, PRESETS))}, got {self.preset!r}")
        for name, low in LEAST.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        people = self.num_train_pids + self.num_test_pids
        if self.domain.layout == "dukemtmc":  # its distractors are people with numbers of their own
            people += self.num_distractors
        if people > MAX_PEOPLE:
            raise ValueError(f"file names hold four digits of identity, got {people} people: ask for at most {MAX_PEOPLE} in all")

    @property
    def domain(self) -> DomainPreset:
        """The settings of the preset that ``preset`` names."""
        return PRESETS[self.preset]

    @cached_property
    def itinerary(self) -> Itinerary:
        """Which crops the data set consists of."""
        return Itinerary(self.domain, self.seed, self.num_train_pids, self.num_test_pids, self.num_distractors, self.images_per_camera)

    def render(self, pid: int, camid: int, k: int) -> NDArray[np.uint8]:
        """Crop ``k`` of one person in one camera, before JPEG compression.

        Args:
            pid: Identity from 1; 0 is a passer-by who is somebody else for each ``k``, -1 a badly placed box.
            camid: Camera, 1..C.
            k: Number of the crop within the visit, from 0.

        Returns:
            ``[height, width, 3]`` uint8 RGB.

        Raises:
            ValueError: ``pid``, ``camid`` or ``k`` is out of its range.
        """
        domain, num_cameras = self.domain, len(self.domain.cameras)
        if pid < JUNK_PID or k < 0 or not 1 <= camid <= num_cameras:
            raise ValueError(f"need pid >= -1, camid in 1..{num_cameras} and k >= 0, got pid={pid}, camid={camid}, k={k}")
        site = _site(self.preset, self.seed, camid, self.height, self.width)
        nobody = pid <= DISTRACTOR_PID  # then each crop is a visit, and a person, of its own
        rng = stream(self.seed, domain.code, Stream.VISIT, pid, camid, k if nobody else 0)
        person = _dress(self.preset, self.seed, rng) if nobody else _person(self.preset, self.seed, pid)
        visit = begin_visit(rng, site.camera, person)
        rng = stream(self.seed, domain.code, Stream.PICTURE, pid, camid, k)
        return take_photograph(rng, domain, site, visit, 0 if nobody else k, missed=pid == JUNK_PID)

    def encode(self, pid: int, camid: int, k: int) -> bytes:
        """A crop as a JPEG file of the camera's quality; arguments and errors as ``render``."""
        image = cv2.cvtColor(self.render(pid, camid, k), cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.domain.cameras[camid - 1].quality])[1].tobytes()

    def write(self, root: str | Path, *, progress: bool = True) -> Path:
        """Write the data set as the folder ``root``, or find it there.

        The crops go to a hidden folder beside ``root`` that is renamed at the end: ``root`` holds all or does not exist.

        Args:
            root: The folder that is to hold ``bounding_box_train``, ``query`` and ``bounding_box_test``.
            progress: Whether to show a progress bar.

        Returns:
            ``root``.

        Raises:
            FileExistsError: ``root`` holds something else, or a data set made with other arguments or by another version.
            RuntimeError: ``root`` was generated with these arguments but files are missing.
            OSError: Writing failed; nothing is left behind.
        """
        root, crops = Path(root), list(self.itinerary.crops())

        def fill(draft: Path) -> None:
            for folder in (TRAIN, QUERY, GALLERY):
                (draft / folder).mkdir()
            for crop in show_progress(crops, f"generating {root.name}", progress=progress):
                (draft / crop.folder / crop.name).write_bytes(self.encode(crop.pid, crop.camid, crop.k))

        counts = Counter(crop.folder for crop in crops)
        return write_dataset(root, {"version": GENERATOR_VERSION, **asdict(self)}, counts, fill)


@lru_cache(maxsize=16)
def _site(preset: str, seed: int, camid: int, height: int, width: int) -> Site:
    domain = PRESETS[preset]
    return build_site(stream(seed, domain.code, Stream.CAMERA, camid), domain.cameras[camid - 1], height, width)


@lru_cache(maxsize=16)
def _shared_clothes(preset: str, seed: int) -> tuple[tuple[Top, ...], tuple[Bottom, ...]]:
    domain = PRESETS[preset]
    return draw_shared_clothes(stream(seed, domain.code, Stream.WARDROBE), domain.wardrobe)


def _dress(preset: str, seed: int, rng: np.random.Generator) -> Person:
    return draw_person(rng, PRESETS[preset].wardrobe, *_shared_clothes(preset, seed))


@lru_cache(maxsize=64)
def _person(preset: str, seed: int, pid: int) -> Person:
    return _dress(preset, seed, stream(seed, PRESETS[preset].code, Stream.PERSON, pid))
