"""A client of a federation, what it is asked, what came of it, and its file."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_reid.arguments import require_number
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.federated.plausibility import LARGEST_COUNT
from lightning_reid.files import write_atomically
from lightning_reid.modules import ReIDModule
from lightning_reid.networks.archives import write_archive

LONGEST_TEXT = 1000
"""Characters of what a client or server may say in words."""


@dataclass
class Client:
    """A member of a federation: data and a module that never leave it.

    Attributes:
        id: Unlike any other's.
        module: Is trained; only what the strategy shares is sent.
        data: Its own images, set up.
        callbacks: Of its local fits, the same objects in every round.

    Example:
        >>> from lightning_reid.datamodules import ImageReIDDataModule
        >>> from lightning_reid.federation import Client
        >>> from lightning_reid.modules import SupervisedReID
        >>> data = ImageReIDDataModule(market, image_size=(64, 32), p=4, val_identities=0)  # market: a folder in the Market naming
        >>> data.setup("fit")
        >>> model = SupervisedReID(backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
        >>> client = Client("office", model, data)
        >>> client.id, client.num_images == len(data.dataset.train)
        ('office', True)
    """

    id: str
    module: ReIDModule
    data: ImageReIDDataModule
    callbacks: Sequence[pl.Callback] = ()

    @property
    def num_images(self) -> int:
        """How many images it trains on: its weight in the average."""
        return self.data.num_images


@dataclass(frozen=True)
class LocalRound:
    """What a server asks of its clients beside sending the model.

    Attributes:
        federation: Which one, see ``ServerState``.
        round: Of the federation, from 0.
        attempt: How often the round was begun before.
        attempts: Most that there may be, so that no two fits draw alike.
        epochs: Of the fit, at least 1.
        seed: Of the federation.
        deadline: Seconds of a fit, checked at batch ends; 0 for none.
        lr_factor: What learning rates are multiplied by, in (0, 1].
        walk: Which of several federations of a run asks; empty where there is one.

    Raises:
        ValueError: A value is of another type or out of range; it may have come from elsewhere.
    """

    federation: str
    round: int
    attempt: int = 0
    attempts: int = 3
    epochs: int = 1
    seed: int = 0
    deadline: float = 0.0
    lr_factor: float = 1.0
    walk: str = ""

    def __post_init__(self) -> None:
        _check_text("federation", self.federation)
        _check_text("walk", self.walk)
        for name, lowest in {"round": 0, "attempt": 0, "attempts": 1, "epochs": 1, "seed": -LARGEST_COUNT}.items():
            _check_whole(name, getattr(self, name), lowest)
        if self.attempt >= self.attempts:
            raise ValueError(f"attempt must be below the number of attempts, got {self.attempt} of {self.attempts}")
        _check_seconds("deadline", self.deadline)
        require_number("lr_factor", self.lr_factor, above=0, high=1)


@dataclass(frozen=True)
class LocalFit:
    """A client's fit in a round, as its file tells it.

    Attributes:
        round: Of the federation, from 0.
        attempt: How often the round was begun before.
        problem: Why it cannot be used; empty where it can.
        bytes_down: Of the server's message.
        seconds: It took.
        steps: Training steps.

    Raises:
        ValueError: A value is of another type or out of range; it may have come from elsewhere.
    """

    round: int
    attempt: int
    problem: str
    bytes_down: int
    seconds: float
    steps: int

    def __post_init__(self) -> None:
        _check_text("problem", self.problem)
        for name in ("round", "attempt", "bytes_down", "steps"):
            _check_whole(name, getattr(self, name), 0)
        _check_seconds("seconds", self.seconds)


def write_client(path: Path, client: Client, fit: LocalFit, federation: str) -> None:
    """Write a client's personal state, atomically: its module, what its data believes, its callbacks, and how its fit went."""
    content: dict[str, Any] = {"state_dict": client.module.state_dict(), "fit": asdict(fit), "federation": federation}
    client.module.on_save_checkpoint(content)
    content |= {"data": client.data.state_dict(), "callbacks": {one.state_key: one.state_dict() for one in client.callbacks}}
    write_atomically(path, partial(write_archive, content))


def restore_client(client: Client, content: dict[str, Any]) -> LocalFit:
    """Put a client where its file left it; how its fit went."""
    client.module.on_load_checkpoint(content)
    client.module.load_state_dict(content["state_dict"])
    client.data.load_state_dict(content["data"])
    for callback in client.callbacks:
        if callback.state_key in content["callbacks"]:
            callback.load_state_dict(content["callbacks"][callback.state_key])
    return LocalFit(**content["fit"])


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise ValueError(f"{name} must be a line of at most {LONGEST_TEXT} characters, got {reprlib.repr(value)}")


def _check_whole(name: str, value: object, lowest: int) -> None:
    if type(value) is not int or not lowest <= value <= LARGEST_COUNT:  # True is an int to isinstance
        raise ValueError(f"{name} must be a whole number in {lowest} to {LARGEST_COUNT}, got {reprlib.repr(value)}")


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number of seconds, 0 or more, got {reprlib.repr(value)}")
