"""A federation over Flower: the same strategies and clients, with a network between them (extra ``federated``).

The server's part runs in a ``ServerApp``, a client's in a ``ClientApp``; which machines those are, how they find each other, and who may
join is Flower's affair.
"""

from __future__ import annotations

import logging
import math
import reprlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError
from safetensors.torch import load_file, save_file
from typing_extensions import override

from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation import messages
from lightning_reid.federation.client import LONGEST_TEXT, LocalFit
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.federation.server import Answer, FederationServer

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2
REPLIES = "replies-"
"""Begins the name of the folder that a round's replies are kept in."""
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DecodeError)
"""What Flower raises of replies that it cannot put together."""


def client_app(build: Callable[[Context], LocalTraining]) -> ClientApp:
    """A client's part: it fits when the server asks for it, and tests its personal model.

    Flower may start a process for each message, so that a client lives in its file: it is built, restored, and written again. A file lock
    keeps a late round and the next one from training at the same time.

    Args:
        build: From Flower's context, whose ``node_config`` tells which client this is and ``run_config`` what is run, to its training.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        training = build(context)
        with _alone(training):
            training.restore()
            allowed = training.strategy.allow_list(training.client.module.state_dict())
            asked, tensors = messages.read_fit_request(message, allowed)
            fit = training.fit(asked, tensors)
        reply = training.reply() if not fit.problem else Reply(training.client.id, {}, training.client.num_images)
        return Message(messages.fit_reply(fit, reply), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        training = build(context)
        with _alone(training):
            training.restore()
        federation, number = messages.read_scores_request(message)
        training.check_asked(federation, number)
        return Message(messages.scores_reply(training.client.id, number, training.test()), reply_to=message)

    return app


class FlowerFederation(FederationServer):
    """The server's part: rounds of whoever is connected, to be run in a ``ServerApp``.

    Replies are kept on disk as they come and averaged one after another, in the order of the clients' ids. A client that does not answer
    before the deadline, or whose node is lost, or that sends what it must not, is left out of the round; it takes part again when it is
    back. Two nodes that say they are one client are both left out.

    Args:
        grid: Flower's, of the run.
        strategy: What is shared and how it is averaged; the clients must have the same.
        tensors: Of a client's module before the first round.
        clients: Ids of the clients.
        output: Folder of the server's state.
        patience: Seconds to wait, at the start of each round, for enough nodes to be connected: all in the first, a quorum in later ones.
        grace: Seconds that a server which was resumed after a round waits for all to be back, before it goes on with a quorum.
        options: Further arguments of :class:`FederationServer`. The deadline counts from the server's asking; clients end
            their fits then too.

    Raises:
        ValueError: See :class:`FederationServer`; or a number is out of range.
        FileExistsError: See :class:`FederationServer`.
    """

    def __init__(
        self,
        grid: Grid,
        strategy: FedPav,
        tensors: NamedTensors,
        clients: Sequence[str],
        output: str | Path,
        *,
        patience: float = 600.0,
        grace: float = 30.0,
        **options: Any,
    ) -> None:
        if patience < 0 or grace < 0:
            raise ValueError(f"nodes are waited for 0 seconds or more, got patience={patience}, grace={grace}")
        super().__init__(strategy, tensors, clients, output, **options)
        self.grid, self.patience, self.grace = grid, patience, grace
        self._client_of: dict[int, str] = {}
        for left in self.output.glob(f"{REPLIES}*"):  # by a server that was killed
            shutil.rmtree(left)

    @override
    def answers(self, attempt: int) -> Iterator[Answer]:
        """Ask every node for a fit, and give what has come when all have answered or the deadline has passed.

        Of a node that nobody knows by a client's name, and that sent what cannot be read, the answer is of ``node <number>``.
        """
        asked, sent = self.local_round(attempt), self.strategy.download(self.state)
        allowed = self.strategy.allow_list(sent)
        nodes = self._connected(self.strategy.enough(self.state))
        fits: dict[str, LocalFit] = {}
        images: dict[str, int] = {}
        absent: dict[str, str] = {}
        said: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(dir=self.output, prefix=REPLIES) as folder:
            for node, message in self._answers(messages.fit_request(asked, sent), MessageType.TRAIN, nodes, absent):
                self.heard()
                try:
                    fit, reply = messages.read_fit_reply(message, asked, allowed, self.state.clients)
                except ValueError as error:  # what a stranger sends is told, and must not stop the others
                    self._lost(node, f"its reply cannot be read: {error}", absent)
                    continue
                client = reply.client
                said[client] += 1
                self._client_of[node], fits[client], absent[client] = client, fit, fit.problem
                if not fit.problem:
                    save_file(dict(reply.tensors), Path(folder) / f"{self.state.clients.index(client)}.safetensors")
                    images[client] = reply.num_images
            for client in _said_twice(said, absent):
                images.pop(client, None)
            for number, client in enumerate(self.state.clients):
                if client in images:
                    yield Answer(client, fits[client], Reply(client, load_file(Path(folder) / f"{number}.safetensors"), images[client]))
                elif client in absent:
                    yield Answer(client, fits.get(client), problem=absent[client])
            yield from (Answer(node, problem=reason) for node, reason in absent.items() if node not in self.state.clients)

    def test_clients(self) -> dict[str, dict[str, float]]:
        """The scores of the personal models of all clients that answer, on their own test sets, fractions in [0, 1].

        Those that do not, or send what are no scores, are left out, and a warning says why.
        """
        found: dict[str, dict[str, float]] = {}
        absent: dict[str, str] = {}
        said: Counter[str] = Counter()
        asked = messages.scores_request(self.state.federation, self.state.round)
        for node, message in self._answers(asked, MessageType.EVALUATE, self._connected(1), absent):
            try:
                client, scores = messages.read_scores_reply(message, self.state.round, self.state.clients)
            except ValueError as error:
                self._lost(node, f"its scores cannot be read: {error}", absent)
                continue
            said[client] += 1
            self._client_of[node], found[client] = client, scores
        for client in _said_twice(said, absent):
            del found[client]
        silent = {client: "no reply" for client in self.state.clients if client not in found}
        for client, reason in (silent | absent).items():
            logger.warning("after round %d: the scores of client %s are left out: %s", self.state.round, client, reason)
        return dict(sorted(found.items()))

    def _connected(self, enough: int) -> list[int]:
        """Nodes, as soon as there are enough, or when patience has ended; a sitting that knows nobody yet waits for all first."""
        waits_for_all = 0.0 if self._client_of else self.grace if self.state.round else math.inf
        began = time.monotonic()
        while True:
            nodes, waited = sorted(self.grid.get_node_ids()), time.monotonic() - began
            needed = len(self.state.clients) if waited < waits_for_all else enough
            if len(nodes) >= needed:
                return nodes
            if waited > self.patience:
                logger.warning("%d nodes are connected after %g s, %d were waited for", len(nodes), self.patience, needed)
                return nodes
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _answers(self, content: RecordDict, kind: str, nodes: Iterable[int], absent: dict[str, str]) -> Iterator[tuple[int, Message]]:
        """Send to all nodes; their answers as they come, with who was asked, without those that are errors."""
        until = None if self.deadline is None else time.monotonic() + self.deadline
        waiting: dict[str, int] = {}
        for node in nodes:
            message = Message(content, node, kind, ttl=self.deadline, group_id=str(self.state.round))
            waiting |= dict.fromkeys(self.grid.push_messages([message]), node)
        while waiting and (until is None or time.monotonic() < until):
            for sent in list(waiting):
                try:
                    messages_of_node = [*self.grid.pull_messages([sent])]
                except _MALFORMED as error:  # one id is asked at a time, so that it is this node's
                    self._lost(waiting.pop(sent), f"its reply cannot be put together: {reprlib.repr(error)}", absent)
                    continue
                if not messages_of_node:
                    continue
                node, message = waiting.pop(sent), messages_of_node[0]
                if message.has_error():
                    self._lost(node, _line(message.error.reason or "an error without a reason"), absent)
                else:
                    yield node, message
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for node in waiting.values():
            self._lost(node, f"no reply after {self.deadline:g} s", absent)

    def _lost(self, node: int, reason: str, absent: dict[str, str]) -> None:
        """A node is known by its client's name once it has answered."""
        absent[self._client_of.get(node, f"node {node}")] = reason


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_TEXT])


def _said_twice(said: Counter[str], absent: dict[str, str]) -> list[str]:
    """The clients that several nodes say that they are; it is told of them."""
    twice = [client for client, times in said.items() if times > 1]
    absent |= {client: f"{said[client]} nodes say that they are it" for client in twice}
    return twice


def _alone(training: LocalTraining) -> FileLock:
    training.file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(training.file.with_suffix(".lock"))
