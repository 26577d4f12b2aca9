"""The data set ``generated-people``: its name with options, and its records, of images or of tracklets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, Self

from typing_extensions import override

from lightning_reid.arguments import is_number
from lightning_reid.datamodules.generated.people import FIRST_OF_TEST
from lightning_reid.datamodules.generated.people_address import PeopleAddress, kinds_of
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.wide_variation import Variation, checked_kinds
from lightning_reid.datamodules.generated.wide_wardrobe import CODE
from lightning_reid.records import DISTRACTOR_PID, ImageRecord, ReIDDataset, TrackletDataset, TrackletRecord

NAME = "generated-people"
TEST_CAMERAS, TEST_VISITS = 8, 4
"""Cameras of the test part, and how many of them see one person."""
MOST_ADDRESSES = 10_000_000
"""Of the training part: a few gigabytes of memory."""
NOTES = ("people who never were",)
_LEAST = {"people": 2, "cameras": 2, "visits": 2, "shots": 1, "test_people": 2, "seed": 0, "frames": 1}
_NUMBER, _KINDS = re.compile(r"[0-9]{1,9}"), re.compile(r"[a-z+]{1,99}")


@dataclass(frozen=True)
class _People:
    """What ``PeopleData`` and ``PeopleTracklets`` share."""

    people: int = 1000
    cameras: int = 64
    visits: int = 4
    shots: int = 4
    test_people: int = 100
    seed: int = 0
    without: tuple[Variation, ...] = ()

    def __post_init__(self) -> None:
        for name, low in ((name, low) for name, low in _LEAST.items() if hasattr(self, name)):
            if not is_number(getattr(self, name), Integral):
                raise ValueError(f"{NAME} needs {name} as a whole number, got {getattr(self, name)!r}")
            if not low <= getattr(self, name) < FIRST_OF_TEST:
                raise ValueError(f"{NAME} needs {name} of at least {low} and below {FIRST_OF_TEST}, got {getattr(self, name)}")
        object.__setattr__(self, "without", checked_kinds(self.without))
        addresses = self.people * min(self.visits, self.cameras) * self.shots * getattr(self, "frames", 1)
        if addresses > MOST_ADDRESSES:
            raise ValueError(
                f"{self} would be {addresses:,} crops an epoch, more than {MOST_ADDRESSES:,}: ask for fewer shots or people, other crops"
                " come in each epoch"
            )

    @override
    def __str__(self) -> str:
        """The name that stands for it, without the options that are as usual."""
        options = ((one.name, getattr(self, one.name), one.default) for one in fields(self))
        told = {name: value for name, value, usual in options if value != usual}
        return ",".join([NAME, *(f"{name}={'+'.join(value) if isinstance(value, tuple) else value}" for name, value in told.items())])

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
        patterns = {name: _KINDS if name == "without" else _NUMBER for name in known}
        wrong = [
            option for option, (key, _, value) in zip(options, pairs, strict=True) if key not in known or not patterns[key].fullmatch(value)
        ]
        if wrong or len({key for key, _, _ in pairs}) < len(pairs):
            raise ValueError(
                f"cannot make {name!r}{f' of {wrong[0]!r}' if wrong else ''}: give each option once and as a whole number, as in"
                f" {NAME},people=500,without=light; the options are {', '.join(known)}"
            )
        told: dict[str, Any] = {key: kinds_of(value) if key == "without" else int(value) for key, _, value in pairs}
        return cls(**told)

    def _visits(self) -> Iterator[tuple[int, int, PeopleAddress]]:
        """Of the training part, each person, camera and first address."""
        for pid in range(1, self.people + 1):
            for camid in self._cameras_of(pid, 1, self.cameras, self.visits):
                yield pid, camid, PeopleAddress(self.seed, pid, camid, 0, stride=self.shots, without=self.without)

    def _test_visits(self) -> Iterator[tuple[int, int, PeopleAddress]]:
        """Of the test part: the pid under which somebody is known, 0 of those whom nobody asks for."""
        asked, end = FIRST_OF_TEST + self.test_people, FIRST_OF_TEST + 2 * self.test_people
        for pid in range(FIRST_OF_TEST, end):
            for camid in self._cameras_of(pid, FIRST_OF_TEST, TEST_CAMERAS, TEST_VISITS):
                yield pid if pid < asked else DISTRACTOR_PID, camid, PeopleAddress(self.seed, pid, camid, 0)

    def _cameras_of(self, pid: int, first: int, total: int, visits: int) -> list[int]:
        rng = stream(self.seed, CODE, Stream.ITINERARY, pid)
        return sorted((first + rng.choice(total, min(visits, total), replace=False)).tolist())


@dataclass(frozen=True)
class PeopleData(_People):
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
        without: Kinds of variation that are left out of the training part, see ``Variation``; with plus signs between on a command line,
            ``generated-people,without=light+views``.

    Raises:
        ValueError: A number is out of its range, or a kind of variation is unknown.

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

    def read(self) -> ReIDDataset:
        """The records: paths are addresses, and nothing is drawn yet.

        A person of the test part is queried once in each camera that sees them; the gallery holds their other crops, and as many of people
        whom nobody asks for.
        """
        name = str(self)
        shown = [
            ImageRecord(str(replace(address, shot=shot)), pid, camid, name, shot)
            for pid, camid, address in self._test_visits()
            for shot in range(4 if pid != DISTRACTOR_PID else 2)
        ]
        train = (
            ImageRecord(str(replace(address, shot=shot)), pid, camid, name, shot)
            for pid, camid, address in self._visits()
            for shot in range(self.shots)
        )
        asked_for = {record.path for record in shown if record.pid != DISTRACTOR_PID and record.frame == 0}
        return ReIDDataset(
            name,
            train=tuple(train),
            query=tuple(record for record in shown if record.path in asked_for),
            gallery=tuple(record for record in shown if record.path not in asked_for),
            notes=NOTES,
        )


@dataclass(frozen=True)
class PeopleTracklets(_People):
    """How many generated people there are to be filmed, and who sees them: ``PeopleData`` for video.

    On a command line ``generated-people,people=5000,frames=24``. A tracklet is one walk past a camera, at some ten frames a second.

    Attributes:
        people: Identities to train on, at least 2.
        cameras: Cameras they pass, at least 2.
        visits: Most cameras that see one person of them, at least 2.
        shots: Training tracklets of a person in a camera in one epoch, at least 1. The next epoch shows other walks.
        test_people: Identities of the test part, at least 2.
        seed: Of people and cameras, at least 0; the people are those of ``PeopleData`` with the same seed.
        without: Kinds of variation that are left out of the training part, see ``Variation``.
        frames: Of a tracklet, at least 1.

    Raises:
        ValueError: A number is out of its range, or a kind of variation is unknown.

    Example:
        >>> from lightning_reid.datamodules import VideoReIDDataModule
        >>> from lightning_reid.datamodules.generated import PeopleTracklets
        >>> name = str(PeopleTracklets(people=10, frames=8))
        >>> data = VideoReIDDataModule(name, image_size=(64, 32), clip_length=4, p=2, k=2, num_workers=0)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["clips"].shape
        torch.Size([4, 4, 3, 64, 32])
    """

    shots: int = 1
    frames: int = 16

    def read(self) -> TrackletDataset:
        """The records: paths are addresses, and nothing is drawn yet.

        A person of the test part is queried once in each camera that sees them; the gallery holds another walk of theirs in each, and one
        of people whom nobody asks for.
        """
        train = [self._tracklet(*one, shot) for one in self._visits() for shot in range(self.shots)]
        test = list(self._test_visits())
        return TrackletDataset(
            str(self),
            train=tuple(train),
            query=tuple(self._tracklet(*one, 0) for one in test if one[0] != DISTRACTOR_PID),
            gallery=tuple(self._tracklet(*one, 1) for one in test),
            notes=NOTES,
        )

    def _tracklet(self, pid: int, camid: int, address: PeopleAddress, visit: int) -> TrackletRecord:
        paths = (str(replace(address, shot=visit, frame=frame)) for frame in range(self.frames))
        return TrackletRecord(tuple(paths), pid, camid, str(self), visit)
