"""The addresses that stand where others have files: a crop of a generated person, or a frame of their tracklet."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self, cast

import numpy as np
from typing_extensions import override

from lightning_reid.datamodules.generated.people import GeneratedPeople
from lightning_reid.datamodules.generated.wide_variation import Variation
from lightning_reid.records import DRAWN

_ADDRESS = re.compile(
    re.escape(DRAWN) + r"(?:without=([a-z+]{1,99})/)?(\d{1,18})/([1-9]\d{0,17})/([1-9]\d{0,17})/(\d{1,18})"
    r"(?:\.(\d{1,18}))?(?:\+(\d{1,18}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class PeopleAddress:
    """Where a crop of ``GeneratedPeople`` is found: ``generated-people://<seed>/<pid>/<camid>/<shot>``, or ``.../<shot>+<stride>``.

    A frame of a tracklet is ``.../<visit>.<frame>``. With a stride it stands for a crop that is another in every epoch: shot (or visit),
    shot + stride, shot + 2 stride, ... What is left out of the preset stands before the seed: ``generated-people://without=light+views/<seed>/...``.
    """

    seed: int
    pid: int
    camid: int
    shot: int
    frame: int | None = None
    stride: int = 0
    without: tuple[Variation, ...] = ()

    @override
    def __str__(self) -> str:
        """As a record's path."""
        frame, stride = "" if self.frame is None else f".{self.frame}", f"+{self.stride}" if self.stride else ""
        without = f"without={'+'.join(self.without)}/" if self.without else ""
        return f"{DRAWN}{without}{self.seed}/{self.pid}/{self.camid}/{self.shot}{frame}{stride}"

    @classmethod
    def of(cls, path: str) -> Self:
        """The address that a record's path is.

        Raises:
            ValueError: It is none; the message says how one looks.
        """
        found = _ADDRESS.fullmatch(path)
        if not found:
            raise ValueError(f"{path!r} is no address of a generated person: give {DRAWN}<seed>/<pid>/<camid>/<shot>, pid and camid from 1")
        without, seed, pid, camid, shot, frame, stride = found.groups()
        place = (int(seed), int(pid), int(camid), int(shot))
        return cls(*place, None if frame is None else int(frame), int(stride or 0), kinds_of(without or ""))

    def draw(self) -> np.ndarray:
        """The crop ``[height, width, 3]`` uint8 RGB; errors as of ``GeneratedPeople.crop``."""
        people = GeneratedPeople(self.seed, self.without)
        if self.frame is None:
            return people.crop(self.pid, self.camid, self.shot)
        return people.frame(self.pid, self.camid, self.shot, self.frame)


def of_epoch(path: str, epoch: int) -> str:
    """What a record's path stands for in an epoch, counted from 0: the path itself, but for addresses with a stride."""
    if not path.startswith(DRAWN):
        return path
    address = PeopleAddress.of(path)
    return str(replace(address, shot=address.shot + epoch * address.stride, stride=0))


def kinds_of(told: str) -> tuple[Variation, ...]:
    """Kinds of variation between plus signs; they are checked where they are used."""
    return cast(tuple[Variation, ...], tuple(told.split("+") if told else ()))
