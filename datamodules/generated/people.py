"""``GeneratedPeople``: an endless stream of crops, drawn when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lightning_reid.arguments import require_count
from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.wide_camera import WideCamera, draw_wide_camera
from lightning_reid.datamodules.generated.wide_crop import begin_walk, take_crop
from lightning_reid.datamodules.generated.wide_place import Place, draw_place
from lightning_reid.datamodules.generated.wide_variation import (
    Variation,
    camera_without,
    checked_kinds,
    person_without,
    place_without,
    walk_without,
)
from lightning_reid.datamodules.generated.wide_wardrobe import CODE, draw_somebody

NUM_PLACES = 64
"""Cameras are without number; of places only so many are drawn, some 0.7 MB each, and cameras whose numbers are so far apart share one."""
FIRST_OF_TEST = 1_000_001
"""People and cameras from this number on are for test parts, and these cameras see other places than those before."""


@dataclass(frozen=True)
class GeneratedPeople:
    """People who never were, as any number of cameras see them: the wide preset, in which everything varies that varies in the world.

    A crop is a function of ``(seed, pid, camid, shot)`` and of nothing else: it is the same in every process, whatever was drawn before.
    It comes in the size at which its camera recorded it, 36 to 256 pixels high, compressed and decoded again as a file would be.

    Attributes:
        seed: At least 0; another seed gives other people at other places.
        without: Kinds of variation that are left out, see ``Variation``; everything else is drawn as it is with them.

    Raises:
        ValueError: ``seed`` is negative, or a kind of variation is unknown or named twice.

    Example:
        >>> from lightning_reid.datamodules.generated import GeneratedPeople
        >>> crop = GeneratedPeople(seed=0).crop(pid=12, camid=3, shot=0)
        >>> crop.shape[2], crop.dtype
        (3, dtype('uint8'))
    """

    seed: int = 0
    without: tuple[Variation, ...] = ()

    def __post_init__(self) -> None:
        require_count("seed", self.seed, low=0)
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "without", checked_kinds(self.without))

    def crop(self, pid: int, camid: int, shot: int) -> NDArray[np.uint8]:
        """One crop of a person.

        Args:
            pid: Identity, at least 1.
            camid: Camera, at least 1.
            shot: At least 0. Some follow each other in one walk past the camera, the others are of other days.

        Returns:
            ``[height, width, 3]`` uint8 RGB.

        Raises:
            ValueError: A number is out of its range.
        """
        pid, camid, shot = _numbers(pid, camid, shot=shot)
        visit, step = divmod(shot, SHOTS_A_WALK)
        return self._take(stream(self.seed, CODE, Stream.PICTURE, pid, camid, shot), pid, camid, visit, step)

    def frame(self, pid: int, camid: int, visit: int, number: int) -> NDArray[np.uint8]:
        """One frame of a tracklet, at some ten frames a second: of the walk that shots ``4 visit`` to ``4 visit + 3`` of ``crop`` show.

        Who and what stands in front stays there for some frames.

        Args:
            pid: Identity, at least 1.
            camid: Camera, at least 1.
            visit: At least 0; each is another walk past the camera.
            number: At least 0, the place of the frame in the tracklet.

        Returns:
            ``[height, width, 3]`` uint8 RGB; the height is the same in all frames of a visit.

        Raises:
            ValueError: A number is out of its range.
        """
        pid, camid, visit, number = _numbers(pid, camid, visit=visit, number=number)
        company = stream(self.seed, CODE, Stream.FRAME, pid, camid, visit, number // FRAMES_IN_COMPANY)
        rng = stream(self.seed, CODE, Stream.FRAME, pid, camid, visit, number // FRAMES_IN_COMPANY, number)
        return self._take(rng, pid, camid, visit, number * STEPS_A_FRAME, company)

    def _take(
        self, rng: np.random.Generator, pid: int, camid: int, visit: int, step: float, company: np.random.Generator | None = None
    ) -> NDArray[np.uint8]:
        seed, without = self.seed, self.without
        wide = camera_without(_camera(seed, camid), without)
        person, place = _person(seed, pid, without), _place(seed, _place_of(camid), without)
        walk = walk_without(begin_walk(stream(seed, CODE, Stream.VISIT, pid, camid, visit), wide, person), without)
        return take_crop(rng, wide, place, walk, lambda number: _passer_by(seed, number, without), step, company)


def _numbers(pid: int, camid: int, **others: int) -> list[int]:
    """The numbers as Python's own: those of fixed width overflow where a stream is drawn from them."""
    for name, value in {"pid": pid, "camid": camid}.items():
        require_count(name, value)
    for name, value in others.items():
        require_count(name, value, low=0)
    return [int(value) for value in (pid, camid, *others.values())]


SHOTS_A_WALK = 4
"""Crops of one walk; then the person comes again, at another hour."""
STEPS_A_FRAME, FRAMES_IN_COMPANY = 0.35, 4
"""How far somebody walks between two frames, in the steps between two crops; and frames that show the same people and things beside."""


@lru_cache(maxsize=4096)
def _person(seed: int, pid: int, without: tuple[Variation, ...]) -> Person:
    return person_without(draw_somebody(seed, Stream.PERSON, pid, dull="palette" in without), without)


@lru_cache(maxsize=512)
def _passer_by(seed: int, number: int, without: tuple[Variation, ...]) -> Person:
    return person_without(draw_somebody(seed, Stream.PASSER_BY, number, dull="palette" in without), without)


@lru_cache(maxsize=1024)
def _camera(seed: int, camid: int) -> WideCamera:
    return draw_wide_camera(stream(seed, CODE, Stream.CAMERA, camid))


def _place_of(camid: int) -> int:
    return (camid - 1) % NUM_PLACES + (NUM_PLACES if camid >= FIRST_OF_TEST else 0)


@lru_cache(maxsize=NUM_PLACES + 16)
def _place(seed: int, number: int, without: tuple[Variation, ...]) -> Place:
    return place_without(draw_place(seed, number, _camera(seed, number + 1).camera), without)
