"""A federation in one process: rounds of local fits by ordinary Trainers, averages between them, a checkpoint after each."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import override

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.federated import FedAvg, Reply, RoundReport, ServerState, check_alike, not_finite, payload_bytes
from lightning_reid.files import write_atomically, write_json
from lightning_reid.modules import ReIDModule
from lightning_reid.networks.weights import read_checkpoint
from lightning_reid.runners.stages import ignore_what_nobody_can_act_on

logger = logging.getLogger(__name__)


@dataclass
class Client:
    """A member of a federation: data and a module that never leave it.

    Attributes:
        id: Unlike any other's.
        module: Is trained; only what the strategy shares is sent.
        data: Its own images, set up.
        callbacks: Of its local fits, the same objects in every round.
    """

    id: str
    module: ReIDModule
    data: ImageReIDDataModule
    callbacks: Sequence[pl.Callback] = ()

    @property
    def num_images(self) -> int:
        """It trains on, its weight in the average."""
        return self.data.num_images


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
    """

    round: int
    attempt: int
    problem: str
    bytes_down: int
    seconds: float
    steps: int


@dataclass(frozen=True)
class FederationRound:
    """A round as it went.

    Attributes:
        report: Who was averaged, who was left out and why, bytes up.
        fits: Each client's local fit.
    """

    report: RoundReport
    fits: dict[str, LocalFit]

    @property
    def bytes_down(self) -> dict[str, int]:
        """Of the server's message to each client."""
        return {client: fit.bytes_down for client, fit in self.fits.items()}

    @property
    def seconds(self) -> dict[str, float]:
        """Of each client's local fit."""
        return {client: fit.seconds for client, fit in self.fits.items()}

    @property
    def steps(self) -> dict[str, int]:
        """Training steps of each client's local fit."""
        return {client: fit.steps for client, fit in self.fits.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FederationRound:
        """What ``dataclasses.asdict`` made of one."""
        return cls(RoundReport(**content["report"]), {client: LocalFit(**fit) for client, fit in content["fits"].items()})


class Deadline(pl.Callback):
    """Ends a fit at the first batch that ends after so many seconds.

    Attributes:
        passed: Whether it did so.

    Args:
        seconds: Above 0.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.passed = seconds, False
        self._began = 0.0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        if time.monotonic() - self._began > self.seconds:
            self.passed = trainer.should_stop = True


class Federation:
    """Runs the rounds of a federation in one process, client after client.

    After each client and each round what is known is written to ``output``: ``server.safetensors``, ``clients/<id>.ckpt`` and
    ``rounds.json``. A run that was killed at any point goes on with ``resume``: clients that had finished the round are not trained
    again. Seeds depend on (seed, client, round, attempt), so that it gives what an unbroken run gives. A client whose weights are no
    longer finite goes back to where it was before the round.

    Args:
        strategy: What is shared and how it is averaged.
        clients: Their modules must have the same shared tensors.
        output: Folder of the state.
        epochs: Local epochs a round.
        deadline: Seconds that a client's local fit may take, checked at batch ends; its reply is left out if it takes longer. ``None``
            waits for everybody.
        attempts: Times that a round is tried when too few clients reply; clients that trained in it go on from where they were then.
        resume: Go on from the state in ``output``, if there is one.
        seed: Of all draws.
        accelerator: Of the clients' Trainers.
        quiet: Show no progress bars.

    Raises:
        ValueError: Clients of one id, of different networks, or without images; a number out of range; or a state in ``output`` of
            another strategy, network or other clients.
        FileExistsError: There is a state in ``output``, and ``resume`` is not asked for.
    """

    def __init__(
        self,
        strategy: FedAvg,
        clients: Sequence[Client],
        output: str | Path,
        *,
        epochs: int = 1,
        deadline: float | None = None,
        attempts: int = 3,
        resume: bool = False,
        seed: int = 0,
        accelerator: str = "auto",
        quiet: bool = False,
    ) -> None:
        if epochs < 1 or attempts < 1 or (deadline is not None and not deadline > 0):
            raise ValueError(f"need epochs and attempts of at least 1 and a deadline above 0, got {epochs}, {attempts} and {deadline}")
        self.strategy, self.output = strategy, Path(output)
        self.clients = sorted(clients, key=lambda client: client.id)
        self.epochs, self.deadline, self.attempts, self.seed = epochs, deadline, attempts, seed
        self.accelerator, self.quiet = accelerator, quiet
        if not self.clients:
            raise ValueError("a federation needs clients")
        for client in self.clients:
            if not client.num_images:
                raise ValueError(f"client {client.id} has no training images: leave it out")
        self.rounds: list[FederationRound] = []
        self._latest: dict[str, LocalFit] = {}
        self._attempt = 0
        self.state = self._begin(resume)

    @property
    def server_file(self) -> Path:
        """Where the server's state is kept."""
        return self.output / "server.safetensors"

    @property
    def rounds_file(self) -> Path:
        """Where it is told how the rounds went, those of earlier sittings too."""
        return self.output / "rounds.json"

    def client_file(self, client: Client) -> Path:
        """Where a client's personal state is kept."""
        return self.output / "clients" / f"{client.id}.ckpt"

    def _begin(self, resume: bool) -> ServerState:
        first = self.clients[0].module.state_dict()
        fresh = self.strategy.begin(first, [client.id for client in self.clients])
        for client in self.clients[1:]:
            try:
                check_alike(self.strategy.allow_list(first).pick(client.module.state_dict()), fresh.tensors)
            except ValueError as error:
                raise ValueError(f"client {client.id} has another network than client {self.clients[0].id}: {error}") from error
        if not self.server_file.is_file():
            return fresh
        if not resume:
            raise FileExistsError(f"{self.output} holds the state of a federation: go on from it with resume, or take another folder")
        state = read_server_state(self.server_file)
        self.strategy.check_resumed(state, first, fresh.clients)
        for client in self.clients:
            if self.client_file(client).is_file():
                self._latest[client.id] = restore_client(client, read_checkpoint(self.client_file(client)))
        if self.rounds_file.is_file():
            told = json.loads(self.rounds_file.read_text(encoding="utf-8"))["rounds"]
            self.rounds = [FederationRound.from_json(one) for one in told if one["report"]["round"] < state.round]
        logger.info("%s: goes on after round %d", self.output, state.round)
        return state

    def fit(self, rounds: int) -> ServerState:
        """Run rounds until so many are done in all, those of an earlier sitting included.

        Raises:
            RuntimeError: A round found too few replies, again and again; the message names who was left out and why.
        """
        if not self.server_file.is_file():
            write_server_state(self.server_file, self.state)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, transient=True, disable=self.quiet) as progress:
            bar = progress.add_task("rounds", total=rounds, completed=self.state.round)
            while self.state.round < rounds:
                self._run_round(progress)
                progress.update(bar, completed=self.state.round)
        return self.state

    def _run_round(self, progress: Progress) -> None:
        number = self.state.round
        for attempt in range(self.attempts):
            self._attempt = attempt
            bar = progress.add_task(f"round {number}", total=len(self.clients))
            absent: dict[str, str] = {}
            report = self.strategy.aggregate(self.state, self._replies(absent, partial(progress.advance, bar)), absent)
            progress.remove_task(bar)
            for client, reason in report.left_out.items():
                logger.warning("round %d: client %s is left out: %s", number, client, reason)
            self.rounds.append(FederationRound(report, dict(self._latest)))
            if not report.repeat:
                # first what is told: a round is over when the server's file says so
                write_json(self.rounds_file, {"rounds": [*map(asdict, self.rounds)]})
                write_server_state(self.server_file, self.state)
                return
        left_out = ", ".join(f"{client} ({reason})" for client, reason in self.rounds[-1].report.left_out.items())
        raise RuntimeError(f"round {number} found too few replies {self.attempts} times; left out: {left_out}")

    def _replies(self, absent: dict[str, str], advance: Callable[[], None]) -> Iterator[Reply]:
        """Train the clients one after another; each model is averaged before the next client begins."""
        allowed = self.strategy.allow_list(self.state.tensors)
        for number, client in enumerate(self.clients):
            latest = self._latest.get(client.id)
            if latest is None or (latest.round, latest.attempt) != (self.state.round, self._attempt):
                latest = self._latest[client.id] = self._train_or_undo(client, number)
            # else a run that was killed had trained it in this round
            absent[client.id] = latest.problem
            if not latest.problem:
                yield Reply(client.id, allowed.pick(client.module.state_dict()), client.num_images)
            advance()

    def _train_or_undo(self, client: Client, number: int) -> LocalFit:
        """A local fit, kept in the client's file; weights that are not finite go back to what they were."""
        file = self.client_file(client)
        untouched = None if file.is_file() else copy.deepcopy(client.module)
        fit = self._train(client, number, self.strategy.download(self.state))
        if fit.problem and not_finite(client.module.state_dict()) is not None:
            if untouched is not None:
                client.module = untouched
                return fit
            restore_client(client, read_checkpoint(file))
        write_client(file, client, fit)
        return fit

    def _train(self, client: Client, number: int, message: dict[str, Tensor]) -> LocalFit:
        """A local fit from the server's message."""
        own = client.module.state_dict()
        local = {name: own[name].cpu() for name in message}
        received = message if self.state.round == 0 else self.strategy.receive(local, message)
        client.module.load_state_dict(own | received)
        draws = np.random.SeedSequence([self.seed, self.state.round, self._attempt, number])
        pl.seed_everything(int(draws.generate_state(1)[0]), verbose=False)
        client.data.epochs_before = (self.state.round * self.attempts + self._attempt) * self.epochs
        deadline = Deadline(self.deadline) if self.deadline is not None else None
        began = time.monotonic()
        trainer = self.trainer(client, [deadline] if deadline is not None else [])
        try:
            trainer.fit(client.module, client.data)
        except Exception as error:
            error.add_note(f"in round {self.state.round} of client {client.id}")
            raise
        seconds, problem = time.monotonic() - began, ""
        broken = not_finite(client.module.state_dict())
        if broken is not None:
            problem = f"{broken} is NaN or infinite"
        elif deadline is not None and deadline.passed:
            problem = f"it passed its deadline of {self.deadline:g} s"
        return LocalFit(self.state.round, self._attempt, problem, payload_bytes(message), seconds, trainer.global_step)

    def trainer(self, client: Client, more: Sequence[pl.Callback] = ()) -> pl.Trainer:
        """A Trainer for one local fit, or for a test."""
        ignore_what_nobody_can_act_on()
        return pl.Trainer(
            accelerator=self.accelerator,
            devices=1,
            max_epochs=self.epochs,
            callbacks=[*client.callbacks, *more],
            logger=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            default_root_dir=self.output,
        )

    def test_clients(self) -> dict[str, dict[str, float]]:
        """The scores of every client's personal model on its own test set, fractions in [0, 1]."""
        return {client.id: self._test(client, client.module.state_dict()) for client in self.clients}

    def test_server(self) -> dict[str, dict[str, float]]:
        """The scores of the server's model on every client's test set; personal models are as before afterwards."""
        return {client.id: self._test(client, client.module.state_dict() | self.state.tensors) for client in self.clients}

    def _test(self, client: Client, tensors: dict[str, Tensor]) -> dict[str, float]:
        personal = {name: tensor.clone() for name, tensor in client.module.state_dict().items()}
        client.module.load_state_dict(tensors)
        trainer = self.trainer(Client(client.id, client.module, client.data))
        scores = trainer.test(client.module, client.data, verbose=False)[0]
        client.module.load_state_dict(personal)
        return {name.removeprefix("test/"): float(value) for name, value in scores.items()}


def write_server_state(path: Path, state: ServerState) -> None:
    """Write a server's state as safetensors, atomically."""
    about = {"strategy": state.strategy, "round": str(state.round), "clients": json.dumps(state.clients)}
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    write_atomically(path, lambda file: save_file(tensors, file, metadata=about))


def read_server_state(path: Path) -> ServerState:
    """The way back."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dictionary)
    return ServerState(about["strategy"], int(about["round"]), tensors, json.loads(about["clients"]))


def write_client(path: Path, client: Client, fit: LocalFit) -> None:
    """Write a client's personal state, atomically: its module, what its data believes, its callbacks, and how its fit went."""
    content: dict[str, Any] = {"state_dict": client.module.state_dict(), "fit": asdict(fit)}
    client.module.on_save_checkpoint(content)
    content |= {"data": client.data.state_dict(), "callbacks": {one.state_key: one.state_dict() for one in client.callbacks}}
    write_atomically(path, lambda file: torch.save(content, file))


def restore_client(client: Client, content: dict[str, Any]) -> LocalFit:
    """Put a client where its file left it; how its fit went."""
    client.module.on_load_checkpoint(content)
    client.module.load_state_dict(content["state_dict"])
    client.data.load_state_dict(content["data"])
    for callback in client.callbacks:
        if callback.state_key in content["callbacks"]:
            callback.load_state_dict(content["callbacks"][callback.state_key])
    return LocalFit(**content["fit"])
