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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

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
_Said = TypeVar("_Said")


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
    back. Nodes that say they are one client are left out, but for the one that was it before.

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
        with tempfile.TemporaryDirectory(dir=self.output, prefix=REPLIES) as folder:

            def read(node: int, message: Message) -> tuple[str, tuple[LocalFit, Path, int]]:
                self.heard()
                fit, reply = messages.read_fit_reply(message, asked, allowed, self.state.clients)
                file = Path(folder) / f"{node}.safetensors"
                if not fit.problem:
                    save_file(dict(reply.tensors), file)
                return reply.client, (fit, file, reply.num_images)

            heard, absent = self._believed(messages.fit_request(asked, sent), MessageType.TRAIN, nodes, read)
            for client in self.state.clients:
                if client in heard:
                    fit, file, images = heard[client]
                    yield Answer(client, fit, None if fit.problem else Reply(client, load_file(file), images), fit.problem)
            yield from (Answer(name, problem=reason) for name, reason in absent.items())

    def test_clients(self) -> dict[str, dict[str, float]]:
        """The scores of the personal models of all clients that answer, on their own test sets, fractions in [0, 1].

        Those that do not, or send what are no scores, are left out, and a warning says why.
        """

        def read(node: int, message: Message) -> tuple[str, dict[str, float]]:
            return messages.read_scores_reply(message, self.state.round, self.state.clients)

        asked = messages.scores_request(self.state.federation, self.state.round)
        found, absent = self._believed(asked, MessageType.EVALUATE, self._connected(1), read)
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

    def _believed(
        self, content: RecordDict, kind: str, nodes: Iterable[int], read: Callable[[int, Message], tuple[str, _Said]]
    ) -> tuple[dict[str, _Said], dict[str, str]]:
        """What each client says; and by client, or by node where nobody knows whose it is, why others are not believed.

        A node stays the client that it was when it first answered, and of several nodes that say they are one client that one is
        believed which was it before; where none was, nobody is.
        """
        lost: dict[int, str] = {}
        said: dict[str, dict[int, _Said]] = {}
        for node, message in self._answers(content, kind, nodes, lost):
            try:
                client, found = read(node, message)
                before = self._client_of.get(node, client)
                if client != before:
                    raise ValueError(f"it says that it is {client}, and was {before}: resume the server, if nodes have been set up anew")
            except ValueError as error:  # what a stranger sends is told, and must not stop the others
                lost[node] = f"its reply cannot be read: {error}"
                continue
            said.setdefault(client, {})[node] = found
        believed: dict[str, _Said] = {}
        absent: dict[str, str] = {}
        for client, by_node in said.items():
            of_client = [node for node in by_node if len(by_node) == 1 or node in self._client_of]
            if len(of_client) != 1:
                absent[client] = f"{len(by_node)} nodes say that they are it"
                continue
            self._client_of[of_client[0]], believed[client] = client, by_node[of_client[0]]
            lost |= {node: f"it says that it is {client}, who is node {of_client[0]}" for node in by_node if node != of_client[0]}
        for node, reason in lost.items():
            known = self._client_of.get(node)
            absent[f"node {node}" if known is None or known in believed else known] = reason
        return believed, absent

    def _answers(self, content: RecordDict, kind: str, nodes: Iterable[int], lost: dict[int, str]) -> Iterator[tuple[int, Message]]:
        """Send to all nodes; their answers as they come, with who was asked; ``lost`` tells of those that are errors, or do not come."""
        until = None if self.deadline is None else time.monotonic() + self.deadline
        waiting: dict[str, int] = {}
        for node in nodes:
            message = Message(content, node, kind, ttl=self.deadline, group_id=str(self.state.round))
            waiting |= dict.fromkeys(self.grid.push_messages([message]), node)
        while waiting and (until is None or time.monotonic() < until):
            for sent in list(waiting):
                try:
                    arrived = [*self.grid.pull_messages([sent])]
                except _MALFORMED as error:  # one id is asked at a time, so that it is this node's
                    lost[waiting.pop(sent)] = f"its reply cannot be put together: {reprlib.repr(error)}"
                    continue
                if not arrived:
                    continue
                node = waiting.pop(sent)
                if arrived[0].has_error():
                    lost[node] = _line(arrived[0].error.reason or "an error without a reason")
                else:
                    yield node, arrived[0]
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for node in waiting.values():
            lost[node] = f"no reply after {self.deadline:g} s"


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_TEXT])


def _alone(training: LocalTraining) -> FileLock:
    training.file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(training.file.with_suffix(".lock"))
