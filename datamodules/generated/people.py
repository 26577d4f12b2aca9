"""``GeneratedPeople``: an endless stream of crops, drawn when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.wide_camera import WideCamera, draw_wide_camera
from lightning_reid.datamodules.generated.wide_crop import begin_walk, take_crop
from lightning_reid.datamodules.generated.wide_place import Place, draw_place
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

    Raises:
        ValueError: ``seed`` is negative.

    Example:
        >>> from lightning_reid.datamodules.generated import GeneratedPeople
        >>> crop = GeneratedPeople(seed=0).crop(pid=12, camid=3, shot=0)
        >>> crop.shape[2], crop.dtype
        (3, dtype('uint8'))
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

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
        if pid < 1 or camid < 1 or shot < 0:
            raise ValueError(f"need pid >= 1, camid >= 1 and shot >= 0, got pid={pid}, camid={camid}, shot={shot}")
        wide, place = _camera(self.seed, camid), _place(self.seed, _place_of(camid))
        walk = begin_walk(stream(self.seed, CODE, Stream.VISIT, pid, camid, shot // SHOTS_A_WALK), wide, _person(self.seed, pid))
        rng = stream(self.seed, CODE, Stream.PICTURE, pid, camid, shot)
        return take_crop(rng, wide, place, walk, lambda number: _passer_by(self.seed, number), shot % SHOTS_A_WALK)


SHOTS_A_WALK = 4
"""Crops of one walk; then the person comes again, at another hour."""


@lru_cache(maxsize=4096)
def _person(seed: int, pid: int) -> Person:
    return draw_somebody(seed, Stream.PERSON, pid)


@lru_cache(maxsize=512)
def _passer_by(seed: int, number: int) -> Person:
    return draw_somebody(seed, Stream.PASSER_BY, number)


@lru_cache(maxsize=1024)
def _camera(seed: int, camid: int) -> WideCamera:
    return draw_wide_camera(stream(seed, CODE, Stream.CAMERA, camid))


def _place_of(camid: int) -> int:
    return (camid - 1) % NUM_PLACES + (NUM_PLACES if camid >= FIRST_OF_TEST else 0)


@lru_cache(maxsize=NUM_PLACES + 16)
def _place(seed: int, number: int) -> Place:
    return draw_place(seed, number, _camera(seed, number + 1).camera)
