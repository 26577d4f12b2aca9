"""The data set ``generated-people``: its name with options, its records, and the addresses that stand where others have files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from typing_extensions import override

from lightning_reid.datamodules.generated.people import FIRST_OF_TEST, GeneratedPeople
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.wide_wardrobe import CODE
from lightning_reid.records import DISTRACTOR_PID, DRAWN, ImageRecord, ReIDDataset

NAME = "generated-people"
TEST_CAMERAS, TEST_VISITS = 8, 4
"""Cameras of the test part, and how many of them see one person."""
_LEAST = {"people": 2, "cameras": 2, "visits": 2, "shots": 1, "test_people": 2, "seed": 0}
_ADDRESS = re.compile(re.escape(DRAWN) + r"(\d{1,18})/([1-9]\d{0,17})/([1-9]\d{0,17})/(\d{1,18})(?:\+(\d{1,18}))?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class PeopleAddress:
    """Where a crop of ``GeneratedPeople`` is found: ``generated-people://<seed>/<pid>/<camid>/<shot>``, or ``.../<shot>+<stride>``.

    With a stride it stands for a crop that is another in every epoch: shot, shot + stride, shot + 2 stride, ...
    """

    seed: int
    pid: int
    camid: int
    shot: int
    stride: int = 0

    @override
    def __str__(self) -> str:
        """As a record's path."""
        return f"{DRAWN}{self.seed}/{self.pid}/{self.camid}/{self.shot}" + (f"+{self.stride}" if self.stride else "")

    @classmethod
    def of(cls, path: str) -> Self:
        """The address that a record's path is.

        Raises:
            ValueError: It is none; the message says how one looks.
        """
        found = _ADDRESS.fullmatch(path)
        if not found:
            raise ValueError(f"{path!r} is no address of a generated person: give {DRAWN}<seed>/<pid>/<camid>/<shot>, pid and camid from 1")
        return cls(*(int(number or 0) for number in found.groups()))

    def draw(self) -> np.ndarray:
        """The crop ``[height, width, 3]`` uint8 RGB; errors as of ``GeneratedPeople.crop``."""
        return GeneratedPeople(self.seed).crop(self.pid, self.camid, self.shot)


def of_epoch(path: str, epoch: int) -> str:
    """What a record's path stands for in an epoch, counted from 0: the path itself, but for addresses with a stride."""
    if not path.startswith(DRAWN):
        return path
    address = PeopleAddress.of(path)
    return str(PeopleAddress(address.seed, address.pid, address.camid, address.shot + epoch * address.stride))


@dataclass(frozen=True)
class PeopleData:
    """How many generated people there are, and who sees them.

    On a command line it is a name with options, ``generated-people,people=5000,cameras=200``; what is left out is as here. The test part
    shows other people in other cameras, the same ones for each seed, whatever there is to train on.

    Attributes:
        people: Identities to train on, at least 2.
        cameras: Cameras they pass, at least 2.
        visits: Most cameras that see one person of them, at least 2.
        shots: Training crops of a person in a camera in one epoch, at least 1. The next epoch shows others of them.
        test_people: Identities of the test part, at least 2.
        seed: Of people and cameras, at least 0. It is not the seed of a training, which may differ on the same people.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> from lightning_reid.datamodules import ImageReIDDataModule
        >>> from lightning_reid.datamodules.generated import PeopleData
        >>> name = str(PeopleData(people=40, cameras=6, shots=2))
        >>> name
        'generated-people,people=40,cameras=6,shots=2'
        >>> data = ImageReIDDataModule(name, image_size=(64, 32), num_workers=0)
        >>> data.setup("fit")
        >>> data.num_classes, next(iter(data.train_dataloader()))["images"].shape
        (36, torch.Size([64, 3, 64, 32]))
    """

    people: int = 1000
    cameras: int = 64
    visits: int = 4
    shots: int = 4
    test_people: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in _LEAST.items():
            if not low <= getattr(self, name) < FIRST_OF_TEST:
                raise ValueError(f"{NAME} needs {name} of at least {low} and below {FIRST_OF_TEST}, got {getattr(self, name)}")

    @override
    def __str__(self) -> str:
        """The name that stands for it, without the options that are as usual."""
        options = ((one.name, getattr(self, one.name), one.default) for one in fields(self))
        return ",".join([NAME, *(f"{name}={value}" for name, value, usual in options if value != usual)])

    @classmethod
    def named(cls, name: str | os.PathLike[str]) -> Self | None:
        """The data that a name stands for; ``None`` for names of other data sets.

        Raises:
            ValueError: An option is unknown, comes twice or is no number; the message lists those that exist.
        """
        first, *options = os.fspath(name).split(",")
        if first != NAME:
            return None
        pairs = [option.partition("=") for option in options]
        known = [one.name for one in fields(cls)]
        wrong = [option for option, (key, _, value) in zip(options, pairs, strict=True) if key not in known or not _NUMBER.fullmatch(value)]
        if wrong or len({key for key, _, _ in pairs}) < len(pairs):
            raise ValueError(
                f"cannot make {name!r}{f' of {wrong[0]!r}' if wrong else ''}: give each option once and as a whole number, as in"
                f" {NAME},people=500; the options are {', '.join(known)}"
            )
        return cls(**{key: int(value) for key, _, value in pairs})

    def read(self) -> ReIDDataset:
        """The records: paths are addresses, and nothing is drawn yet.

        A person of the test part is queried once in each camera that sees them; the gallery holds their other crops, and as many of people
        whom nobody asks for.
        """
        asked, end = FIRST_OF_TEST + self.test_people, FIRST_OF_TEST + 2 * self.test_people
        shown = [record for pid in range(FIRST_OF_TEST, asked) for record in self._test_crops(pid, pid, 4)]
        strangers = [record for pid in range(asked, end) for record in self._test_crops(pid, DISTRACTOR_PID, 2)]
        return ReIDDataset(
            str(self),
            train=tuple(record for pid in range(1, self.people + 1) for record in self._train_crops(pid)),
            query=tuple(record for record in shown if record.frame == 0),
            gallery=(*(record for record in shown if record.frame), *strangers),
            notes=("people who never were",),
        )

    def _train_crops(self, pid: int) -> Iterator[ImageRecord]:
        for camid in self._cameras_of(pid, 1, self.cameras, self.visits):
            for shot in range(self.shots):
                address = PeopleAddress(self.seed, pid, camid, shot, stride=self.shots)
                yield ImageRecord(str(address), pid, camid, str(self), shot)

    def _test_crops(self, pid: int, known_as: int, shots: int) -> Iterator[ImageRecord]:
        for camid in self._cameras_of(pid, FIRST_OF_TEST, TEST_CAMERAS, TEST_VISITS):
            for shot in range(shots):
                address = PeopleAddress(self.seed, pid, camid, shot)
                yield ImageRecord(str(address), known_as, camid, str(self), shot)

    def _cameras_of(self, pid: int, first: int, total: int, visits: int) -> list[int]:
        rng = stream(self.seed, CODE, Stream.ITINERARY, pid)
        return sorted((first + rng.choice(total, min(visits, total), replace=False)).tolist())
