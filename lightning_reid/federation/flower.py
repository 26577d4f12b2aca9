"""A federation over Flower: the same strategies and clients, with a network between them (extra ``federated``).

The server's part runs in a ``ServerApp``, a client's in a ``ClientApp``; which machines those are, how they find each other, and who may
join is Flower's affair.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from safetensors.torch import load_file, save_file
from typing_extensions import override

from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation import messages
from lightning_reid.federation.client import LocalFit
from lightning_reid.federation.flower_nodes import FlowerNodes
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.federation.server import Answer, FederationServer

logger = logging.getLogger(__name__)

REPLIES = "replies-"
"""Begins the name of the folder that a round's replies are kept in."""


def client_app(build: Callable[[Context], LocalTraining]) -> ClientApp:
    """A client's part: it says who it is, fits when the server asks for it, and tests its personal model.

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
            return fitted(training, message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        training = build(context)
        with _alone(training):
            training.restore()
        federation, number = messages.read_scores_request(message)
        training.check_asked(federation, number)
        return Message(messages.scores_reply(training.client.id, number, training.test()), reply_to=message)

    @app.query("who")
    def who(message: Message, context: Context) -> Message:
        return Message(messages.who_reply(build(context).client.id), reply_to=message)

    return app


def fitted(training: LocalTraining, message: Message) -> Message:
    """The answer to a message that asks for a fit."""
    training.restore()
    allowed = training.strategy.allow_list(training.client.module.state_dict())
    asked, tensors = messages.read_fit_request(message, allowed)
    fit = training.fit(asked, tensors)
    reply = training.reply() if not fit.problem else Reply(training.client.id, {}, training.client.num_images)
    return Message(messages.fit_reply(fit, reply), reply_to=message)


class FlowerFederation(FederationServer):
    """The server's part: rounds of whoever is connected, to be run in a ``ServerApp``.

    Replies are kept on disk as they come and averaged one after another, in the order of the clients' ids. A client that does not answer
    before the deadline, or whose node is lost, or that sends what it must not, is left out of the round; it takes part again when it is
    back. Nodes that say they are one client are left out, but for the one that was it before. Where a round asks some clients alone,
    and the node of one is not known, nodes are asked who they are.

    Args:
        grid: Flower's, of the run.
        strategy: What is shared and how it is averaged; the clients must have the same.
        tensors: Of a client's module before the first round.
        clients: Ids of the clients.
        output: Folder of the server's state.
        patience: Seconds to wait, at the start of each round, for enough nodes to be connected: all in the first, a quorum in later ones.
        grace: Seconds that a server which was resumed after a round waits for all to be back, before it goes on with a quorum; and that
            a round which asks some clients alone waits for their nodes.
        nodes: Of the run, where several federations share what is known of them, with a patience and grace of their own.
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
        nodes: FlowerNodes[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(strategy, tensors, clients, output, **options)
        self.grid = grid
        self.nodes: FlowerNodes[Any] = nodes or FlowerNodes(grid, clients, self._read_who, patience=patience, grace=grace)
        for left in self.output.glob(f"{REPLIES}*"):  # by a server that was killed
            shutil.rmtree(left)

    @override
    def answers(self, attempt: int) -> Iterator[Answer]:
        """Ask for a fit, and give what has come when all have answered or the deadline has passed.

        Of a node that nobody knows by a client's name, and that sent what cannot be read, the answer is of ``node <number>``.
        """
        asked, sent = self.local_round(attempt), self.strategy.download(self.state)
        allowed = self.strategy.allow_list(sent)
        clients, nodes = self.strategy.asked(self.state), self._connected(self.strategy.enough(self.state))
        missing: dict[str, str] = {}
        if len(clients) < len(self.nodes.clients):  # else whoever is there is asked, and says in the reply who it is
            found, missing = self.nodes.find(clients, self.deadline)
            nodes = [*found.values()]
        with tempfile.TemporaryDirectory(dir=self.output, prefix=REPLIES) as folder:

            def read(node: int, message: Message) -> tuple[str, tuple[LocalFit, Path, int]]:
                self.heard()
                fit, reply = messages.read_fit_reply(message, asked, allowed, self.state.clients)
                file = Path(folder) / f"{node}.safetensors"
                if not fit.problem:
                    save_file(dict(reply.tensors), file)
                return reply.client, (fit, file, reply.num_images)

            contents = dict.fromkeys(nodes, messages.fit_request(asked, sent))
            heard, absent = self.nodes.believed(contents, MessageType.TRAIN, read, self.deadline, str(asked.round))
            for client in clients:
                if client in heard:
                    fit, file, images = heard[client]
                    yield Answer(client, fit, None if fit.problem else Reply(client, load_file(file), images), fit.problem)
            yield from (
                Answer(name, problem=reason, sent=allowed.num_bytes if name in clients and name in absent else 0)
                for name, reason in (missing | absent).items()
            )

    def test_clients(self) -> dict[str, dict[str, float]]:
        """The scores of the personal models of all clients that answer, on their own test sets, fractions in [0, 1].

        Those that do not, or send what are no scores, are left out, and a warning says why.
        """

        def read(node: int, message: Message) -> tuple[str, dict[str, float]]:
            return messages.read_scores_reply(message, self.state.round, self.state.clients)

        asked = messages.scores_request(self.state.federation, self.state.round)
        contents = dict.fromkeys(self._connected(1), asked)
        found, absent = self.nodes.believed(contents, MessageType.EVALUATE, read, self.deadline, str(self.state.round))
        silent = {client: "no reply" for client in self.state.clients if client not in found}
        for client, reason in (silent | absent).items():
            logger.warning("after round %d: the scores of client %s are left out: %s", self.state.round, client, reason)
        return dict(sorted(found.items()))

    def _read_who(self, message: Message) -> tuple[str, None]:
        return messages.read_who_reply(message, self.state.clients), None

    def _connected(self, enough: int) -> list[int]:
        return self.nodes.connected(enough, len(self.state.clients), resumed=bool(self.state.round))


def _alone(training: LocalTraining) -> FileLock:
    training.file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(training.file.with_suffix(".lock"))
