"""``GeneratedTracklets``: people who never were, filmed, in the layout of MARS."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import cv2

from lightning_reid.datamodules.generated.appearance import draw_person, draw_shared_clothes
from lightning_reid.datamodules.generated.itinerary import Itinerary
from lightning_reid.datamodules.generated.photograph import Site, build_site
from lightning_reid.datamodules.generated.presets import GENERATOR_VERSION
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.tracklet_crossings import STRETCH, Clothes, Stretch, draw_stretch
from lightning_reid.datamodules.generated.tracklet_frame import Seen, TrackletFrame, draw_frame
from lightning_reid.datamodules.generated.tracklet_itinerary import TrackletItinerary
from lightning_reid.datamodules.generated.tracklet_presets import TRACKLET_PRESETS, TRACKLET_VERSION, TrackletPreset
from lightning_reid.datamodules.generated.tracklet_script import Script, draw_script
from lightning_reid.datamodules.generated.tracklet_writer import write_tracklets
from lightning_reid.datamodules.generated.writer import show_progress, write_dataset
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID

LEAST = {"seed": 0, "num_train_pids": 1, "num_test_pids": 1, "num_distractors": 0, "height": 32, "width": 16}
"""Smallest value of each number."""
MAX_PEOPLE = 9999
"""What four digits of a file name can number; distractors are numbered by four digits too."""
MAX_FRAMES = 999
"""What three digits of a file name can number."""


@dataclass(frozen=True)
class GeneratedTracklets:
    """Procedural tracklets: people walk past cameras, and a detector and a tracker follow them as well as they can.

    The noise is that of MARS as the thesis shows it (section 2.4, Fig. 2.6): boxes that sit beside the person, too large or too
    small, second people in them, things in front, and runs of frames in which the box is on somebody else.

    A frame is a function of ``(seed, preset, pid, camid, number of the tracklet, number of the frame)`` and its size, and of nothing
    else: neither of the order of the calls nor of how many others there are.

    Attributes:
        preset: ``"mars-like"`` (summer, 6 cameras, weak detector and tracker) or ``"dukev-like"`` (winter, 8 cameras, boxes drawn by hand).
        seed: At least 0; another seed gives other people and places of the same kind.
        num_train_pids: Identities to train on, at least 1.
        num_test_pids: Identities that are queried, at least 1; disjoint from the training identities.
        num_distractors: ``0000`` tracklets, with a ``00-1`` junk tracklet to every two of them (mars-like), or people of the gallery
            whom no query asks for (dukev-like).
        frames: Least and greatest number of frames of a tracklet, 1 to 999.
        height: Of a frame in pixels, at least 32.
        width: Of a frame in pixels, at least 16.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> from lightning_reid.datamodules.generated import GeneratedTracklets
        >>> from lightning_reid.datamodules.readers import read_mars_folder
        >>> walks = GeneratedTracklets(num_train_pids=2, num_test_pids=1, num_distractors=1, frames=(3, 5), height=64, width=32)
        >>> dataset = read_mars_folder(walks.write(folder / "walks", progress=False))
        >>> len({record.pid for record in dataset.train}), 3 <= len(dataset.train[0].paths) <= 5
        (2, True)
    """

    preset: str = "mars-like"
    seed: int = 0
    num_train_pids: int = 100
    num_test_pids: int = 60
    num_distractors: int = 40
    frames: tuple[int, int] = (8, 20)
    height: int = 128
    width: int = 64

    def __post_init__(self) -> None:
        if self.preset not in TRACKLET_PRESETS:
            raise ValueError(f"preset must be one of {', '.join(map(repr, TRACKLET_PRESETS))}, got {self.preset!r}")
        for name, low in LEAST.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        object.__setattr__(self, "frames", tuple(self.frames))  # a list, as configuration files have it, would not be hashable
        if len(self.frames) != 2 or not 1 <= self.frames[0] <= self.frames[1] <= MAX_FRAMES:
            raise ValueError(f"frames must be the least and the greatest length of a tracklet, 1 to {MAX_FRAMES}, got {self.frames}")
        people = self.num_train_pids + self.num_test_pids + self.num_distractors
        if people > MAX_PEOPLE:
            raise ValueError(f"file names hold four digits, got {people} people and distractors: ask for at most {MAX_PEOPLE} in all")

    @property
    def domain(self) -> TrackletPreset:
        """The settings of the preset that ``preset`` names."""
        return TRACKLET_PRESETS[self.preset]

    @cached_property
    def itinerary(self) -> TrackletItinerary:
        """Which tracklets the data set consists of."""
        people = (self.num_train_pids, self.num_test_pids, self.num_distractors)
        return TrackletItinerary(self.domain, Itinerary(self.domain.domain, self.seed, *people, images_per_camera=2), self.frames)

    def render(self, pid: int, camid: int, number: int, frame: int) -> TrackletFrame:
        """One frame before JPEG compression, and the people who can be seen in it.

        Args:
            pid: Identity from 1; 0 is for each tracklet somebody else or a box with nobody in it, -1 a badly placed box.
            camid: Camera, 1..C.
            number: Of the tracklet among those of the person in the camera, from 1.
            frame: From 0.

        Raises:
            ValueError: An argument is out of its range.
        """
        num_cameras = len(self.domain.domain.cameras)
        if pid < JUNK_PID or number < 1 or frame < 0 or not 1 <= camid <= num_cameras:
            raise ValueError(
                f"need pid >= -1, camid in 1..{num_cameras}, number >= 1 and frame >= 0, "
                f"got pid={pid}, camid={camid}, number={number}, frame={frame}"
            )
        middle = frame // STRETCH
        # what is drawn for a stretch may begin before it and end after it
        stretches = tuple(_stretch(self.preset, self.seed, pid, camid, number, middle + step) for step in (-1, 0, 1))
        rng = stream(self.seed, self.domain.domain.code, Stream.FRAME, pid, camid, number, frame)
        site = _site(self.preset, self.seed, camid, self.height, self.width)
        return draw_frame(rng, site, _script(self.preset, self.seed, pid, camid, number), stretches, frame)

    def encode(self, pid: int, camid: int, number: int, frame: int) -> tuple[bytes, tuple[Seen, ...]]:
        """A frame as a JPEG file of the camera's quality, and who can be seen in it; arguments and errors as ``render``."""
        drawn = self.render(pid, camid, number, frame)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.domain.domain.cameras[camid - 1].quality]
        return cv2.imencode(".jpg", cv2.cvtColor(drawn.image, cv2.COLOR_RGB2BGR), quality)[1].tobytes(), drawn.people

    def write(self, root: str | Path, *, progress: bool = True) -> Path:
        """Write the data set as the folder ``root``, or find it there.

        It goes to a hidden folder beside ``root`` that is renamed at the end: ``root`` holds all or does not exist. Beside the layout
        of MARS there is ``boxes.csv``, where people can be seen in the frames; ``GeneratedBoxDetector`` reads it.

        Args:
            root: The folder that is to hold ``bbox_train``, ``bbox_test`` and ``info``.
            progress: Whether to show a progress bar.

        Returns:
            ``root``.

        Raises:
            FileExistsError: ``root`` holds something else, or a data set made with other arguments or by another version.
            RuntimeError: ``root`` was generated with these arguments but files are missing.
            OSError: Writing failed; nothing is left behind.
        """
        root, tracklets = Path(root), list(self.itinerary.tracklets())
        counts: Counter[str] = Counter()
        for tracklet in tracklets:
            counts[tracklet.folder] += tracklet.num_frames

        def fill(draft: Path) -> None:
            write_tracklets(draft, show_progress(tracklets, f"generating {root.name}", progress=progress), self.encode)

        versions = {"version": GENERATOR_VERSION, "tracklet_version": TRACKLET_VERSION}
        return write_dataset(root, {**versions, **asdict(self), "frames": list(self.frames)}, counts, fill)


@lru_cache(maxsize=16)
def _site(preset: str, seed: int, camid: int, height: int, width: int) -> Site:
    domain = TRACKLET_PRESETS[preset].domain
    return build_site(stream(seed, domain.code, Stream.CAMERA, camid), domain.cameras[camid - 1], height, width)


@lru_cache(maxsize=16)
def _clothes(preset: str, seed: int) -> Clothes:
    domain = TRACKLET_PRESETS[preset].domain
    return draw_shared_clothes(stream(seed, domain.code, Stream.WARDROBE), domain.wardrobe)


@lru_cache(maxsize=8)
def _script(preset: str, seed: int, pid: int, camid: int, number: int) -> Script:
    tracklets, clothes = TRACKLET_PRESETS[preset], _clothes(preset, seed)
    domain = tracklets.domain
    rng = stream(seed, domain.code, Stream.TRACKLET, pid, camid, number)
    anybody = pid <= DISTRACTOR_PID
    person = draw_person(rng if anybody else stream(seed, domain.code, Stream.PERSON, pid), domain.wardrobe, *clothes)
    nobody = pid == DISTRACTOR_PID and bool(rng.random() < tracklets.noise.false_box)
    return draw_script(rng, tracklets, domain.cameras[camid - 1], person, clothes, nobody=nobody, missed=pid == JUNK_PID)


@lru_cache(maxsize=24)
def _stretch(preset: str, seed: int, pid: int, camid: int, number: int, stretch: int) -> Stretch:
    tracklets = TRACKLET_PRESETS[preset]
    rng = stream(seed, tracklets.domain.code, Stream.STRETCH, pid, camid, number, stretch)
    return draw_stretch(rng, tracklets, tracklets.domain.cameras[camid - 1], _clothes(preset, seed), stretch * STRETCH)
