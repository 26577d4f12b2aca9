"""The server's side of a federation: rounds, averages between them, a checkpoint after each."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_reid.arguments import require_count, require_number, require_path, require_seed, require_switch, require_text
from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.strategies import Reply, RoundReport, ServerState
from lightning_reid.federation.client import LocalFit, LocalRound
from lightning_reid.federation.server_state import read_server_state, write_server_state
from lightning_reid.files import read_json, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a server hears from a client in a round, or of it.

    Attributes:
        client: Its id; ``node <number>`` of one that nobody knows by a client's name.
        fit: How it trained; ``None`` where nothing is known of it.
        reply: What it sends; ``None`` where it sends nothing that can be used.
        problem: Why it does not; empty where it does.
        sent: Bytes of the server's message to it, where it was sent and there is no fit to tell of them.
    """

    client: str
    fit: LocalFit | None = None
    reply: Reply | None = None
    problem: str = ""
    sent: int = 0


@dataclass(frozen=True)
class FederationRound:
    """A round as it went: what the server made of it, and each client's fit.

    Attributes:
        report: Who was averaged, who was left out and why, bytes up.
        fits: Each client's local fit.
        unanswered: Bytes of the server's message to each client that did not answer it.
    """

    report: RoundReport
    fits: dict[str, LocalFit]
    unanswered: dict[str, int] = field(default_factory=dict)

    @property
    def bytes_down(self) -> dict[str, int]:
        """Bytes of the server's message to each client, by id."""
        return {client: fit.bytes_down for client, fit in self.fits.items()}

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each client's local fit took, by id."""
        return {client: fit.seconds for client, fit in self.fits.items()}

    @property
    def steps(self) -> dict[str, int]:
        """Training steps of each client's local fit, by id."""
        return {client: fit.steps for client, fit in self.fits.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FederationRound:
        """The round that ``dataclasses.asdict`` turned into plain values."""
        fits = {client: LocalFit(**fit) for client, fit in content["fits"].items()}
        return cls(RoundReport(**content["report"]), fits, content.get("unanswered", {}))


class FederationServer(ABC):
    """Rounds until there are enough, whoever the clients are and however they are reached.

    After each round the state and how it went are written to ``output``: ``server.safetensors`` and ``rounds.json``. A server that was
    killed at any point goes on with ``resume``.

    Args:
        strategy: What is shared and how it is averaged.
        tensors: Of a client's module before the first round.
        clients: Ids of the clients.
        output: Folder of the state.
        epochs: Local epochs a round.
        deadline: Seconds that a client may take a round; ``None`` waits for everybody.
        seed: Of all draws.
        attempts: Times that a round is tried when too few clients reply; a new one begins where the first did, with other draws.
        walk: Which of several federations of a run this is, for clients that take part in more than one.
        resume: Go on from the state in ``output``, if there is one.
        quiet: Show no progress bars.

    Raises:
        ValueError: A number is out of range; no clients, two of one id, or a state in ``output`` of another strategy, network or
            other clients.
        FileExistsError: There is a state in ``output``, and ``resume`` is not asked for.
    """

    def __init__(
        self,
        strategy: FedPav,
        tensors: NamedTensors,
        clients: Sequence[str],
        output: str | Path,
        *,
        epochs: int = 1,
        deadline: float | None = None,
        seed: int = 0,
        attempts: int = 3,
        walk: str = "",
        resume: bool = False,
        quiet: bool = False,
    ) -> None:
        require_count("epochs", epochs)
        require_count("attempts", attempts)
        require_number("deadline", deadline, above=0, optional=True)
        require_seed("seed", seed)
        require_switch("resume", resume)
        require_switch("quiet", quiet)
        require_path("output", output)
        require_text("walk", walk)
        self.epochs, self.deadline, self.seed, self.walk = epochs, deadline, seed, walk
        self.strategy, self.output, self.attempts, self.quiet = strategy, Path(output), attempts, quiet
        self.rounds: list[FederationRound] = []
        self._told = 0
        self.heard: Callable[[], None] = lambda: None
        self.state = self._begin(tensors, clients, resume)

    @property
    def server_file(self) -> Path:
        """The file of the server's state, ``server.safetensors`` in ``output``."""
        return self.output / "server.safetensors"

    @property
    def rounds_file(self) -> Path:
        """The file that tells how the rounds went, ``rounds.json`` in ``output``, those of earlier sittings too."""
        return self.output / "rounds.json"

    def _begin(self, tensors: NamedTensors, clients: Sequence[str], resume: bool) -> ServerState:
        fresh = self.strategy.begin(tensors, clients)
        fresh.federation = uuid4().hex
        if not self.server_file.is_file():
            return fresh
        if not resume:
            raise FileExistsError(f"{self.output} holds the state of a federation: go on from it with resume, or take another folder")
        state = read_server_state(self.server_file)
        self.strategy.check_resumed(state, tensors, fresh.clients)
        if self.rounds_file.is_file():
            way_on = "remove it, and the federation goes on without what it tells of earlier rounds"
            content = read_json(self.rounds_file, {"rounds": list}, way_on=way_on)
            try:
                self.rounds = [FederationRound.from_json(one) for one in content["rounds"] if one["report"]["round"] < state.round]
                self._told = min(state.round, content.get("told", 0))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{self.rounds_file} was edited, or is not of this library ({error!r}): {way_on}") from error
        logger.info("%s: goes on after round %d", self.output, state.round)
        return state

    def fit(self, rounds: int, after_round: Callable[[int], object] | None = None) -> ServerState:
        """Run rounds until so many are done in all, those of an earlier sitting included.

        Args:
            rounds: In all.
            after_round: Called with the number of rounds that are done, after each. Where a sitting ended within such a call, or before it,
                the next one begins with it: it may see a round twice, and misses none.

        Raises:
            RuntimeError: A round found too few replies, again and again; the message names who was left out and why.
        """
        if not self.server_file.is_file():
            write_server_state(self.server_file, self.state)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, transient=True, disable=self.quiet) as progress:
            bar = progress.add_task("rounds", total=rounds, completed=self.state.round)
            self._tell(after_round)
            while not self.strategy.finished(self.state, rounds):
                self._run_round(progress)
                progress.update(bar, completed=self.state.round)
                self._tell(after_round)
        return self.state

    def _tell(self, after_round: Callable[[int], object] | None) -> None:
        """Of the rounds that are done, unless it was told before: by a sitting that was ended in between it was not."""
        if self._told >= self.state.round:
            return
        if after_round is not None:
            after_round(self.state.round)
        self._told = self.state.round
        self._write_rounds()

    def _write_rounds(self) -> None:
        write_json(self.rounds_file, {"rounds": [*map(asdict, self.rounds)], "told": self._told})

    def _run_round(self, progress: Progress) -> None:
        number = self.state.round
        for attempt in range(self.attempts):
            bar = progress.add_task(f"round {number}", total=len(self.strategy.asked(self.state)))
            self.heard = partial(progress.advance, bar)
            absent: dict[str, str] = {}
            fits: dict[str, LocalFit] = {}
            sent: dict[str, int] = {}
            report = self.strategy.aggregate(self.state, self._replies(self.answers(attempt), fits, absent, sent), absent)
            progress.remove_task(bar)
            for client, reason in report.left_out.items():
                logger.warning("round %d: client %s is left out: %s", number, client, reason)
            self.rounds.append(FederationRound(report, fits, sent))
            if not report.repeat:
                # first what is told: a round is over when the server's file says so
                self._write_rounds()
                write_server_state(self.server_file, self.state)
                return
        left_out = ", ".join(f"{client} ({reason})" for client, reason in self.rounds[-1].report.left_out.items())
        raise RuntimeError(f"round {number} found too few replies {self.attempts} times; left out: {left_out}")

    def local_round(self, attempt: int) -> LocalRound:
        """What clients are asked in the round that ``state`` is at."""
        state, deadline = self.state, self.deadline or 0.0
        factor = self.strategy.lr_factor(state)
        return LocalRound(state.federation, state.round, attempt, self.attempts, self.epochs, self.seed, deadline, factor, self.walk)

    def _replies(
        self, answers: Iterable[Answer], fits: dict[str, LocalFit], absent: dict[str, str], sent: dict[str, int]
    ) -> Iterator[Reply]:
        """The replies among the answers; ``fits``, ``absent`` and ``sent`` are the books that are kept of the others."""
        for answer in answers:
            if answer.sent:
                sent[answer.client] = answer.sent
            if answer.fit is not None:
                fits[answer.client] = answer.fit
            if answer.reply is None:
                absent[answer.client] = answer.problem
            else:
                yield answer.reply

    @abstractmethod
    def answers(self, attempt: int) -> Iterator[Answer]:
        """What the clients answer in the round that ``state`` is at, one at a time, replies in the order of their ids.

        At most one answer a client, and none of one that nothing is known of; then those of nodes that are no client's.
        Calls ``heard`` when a client is done with.

        Args:
            attempt: How often the round was begun before.
        """
