"""A federation over Flower: the same strategies and clients, with a network between them (extra ``federated``).

The server's part runs in a ``ServerApp``, a client's in a ``ClientApp``; which machines those are, how they find each other, and who may
join is Flower's affair. Nothing but what the strategy shares, a few numbers and the client's id is in a reply.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from safetensors.torch import load_file, save_file
from typing_extensions import override

from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation.client import LocalFit, LocalRound
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.federation.server import Answer, FederationServer

logger = logging.getLogger(__name__)

MODEL, ASKED, FIT, CLIENT, SCORES = "model", "asked", "fit", "client", "scores"
"""Names of the records in a message."""
SECONDS_BETWEEN_LOOKS = 0.2
REPLIES = "replies-"
"""Begins the name of the folder that a round's replies are kept in."""


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
            arrays, asked = message.content.array_records[MODEL], message.content.config_records[ASKED]
            fit = training.fit(_round_from(asked), arrays.to_torch_state_dict(keep_input=False))
        content = RecordDict({FIT: ConfigRecord(asdict(fit))})
        reply = training.reply() if not fit.problem else Reply(training.client.id, {}, training.client.num_images)
        content[CLIENT] = ConfigRecord({"id": reply.client, "num_images": reply.num_images})
        if not fit.problem:
            content[MODEL] = ArrayRecord(dict(reply.tensors))
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        training = build(context)
        with _alone(training):
            training.restore()
        content = RecordDict({SCORES: MetricRecord({**training.test()}), CLIENT: ConfigRecord({"id": training.client.id})})
        return Message(content, reply_to=message)

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
        """Ask every node for a fit, and give what has come when all have answered or the deadline has passed."""
        asked = self.local_round(attempt)
        content = RecordDict({MODEL: ArrayRecord(self.strategy.download(self.state)), ASKED: ConfigRecord(asdict(asked))})
        nodes = self._connected(self.strategy.enough(self.state))
        fits: dict[str, LocalFit] = {}
        images: dict[str, int] = {}
        absent: dict[str, str] = {}
        said: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(dir=self.output, prefix=REPLIES) as folder:
            for message in self._answers(content, MessageType.TRAIN, nodes, absent):
                self.heard()
                node = message.metadata.src_node_id
                try:
                    client, num_images, fit = self._read(message)
                    if not fit.problem:
                        tensors = message.content.array_records[MODEL].to_torch_state_dict(keep_input=False)
                        save_file(dict(tensors), Path(folder) / f"{self.state.clients.index(client)}.safetensors")
                except (KeyError, TypeError, ValueError) as error:  # what a stranger sends is told, and must not stop the others
                    self._lost(node, f"its reply cannot be read: {error!r}", absent)
                    continue
                said[client] += 1
                self._client_of[node], fits[client], absent[client] = client, fit, fit.problem
                if not fit.problem:
                    images[client] = num_images
            for client in [client for client, times in said.items() if times > 1]:
                absent[client] = f"{said[client]} nodes say that they are it"
                images.pop(client, None)
            for number, client in enumerate(self.state.clients):
                if client in images:
                    yield Answer(client, fits[client], Reply(client, load_file(Path(folder) / f"{number}.safetensors"), images[client]))
                elif client in absent:
                    yield Answer(client, fits.get(client), problem=absent[client])

    def test_clients(self) -> dict[str, dict[str, float]]:
        """The scores of the personal models of all clients that answer, on their own test sets, fractions in [0, 1]."""
        found = {}
        for message in self._answers(RecordDict(), MessageType.EVALUATE, self._connected(1), {}):
            client = str(message.content.config_records[CLIENT]["id"])
            found[client] = {name: _real(value) for name, value in message.content.metric_records[SCORES].items()}
        return dict(sorted(found.items()))

    def _read(self, message: Message) -> tuple[str, int, LocalFit]:
        told, fit = message.content.config_records[CLIENT], _fit_from(message.content.config_records[FIT])
        client = told["id"]
        if not isinstance(client, str) or client not in self.state.clients:
            raise ValueError(f"it says that it is {client!r}, who is none of {self.state.clients}")
        if not fit.problem and MODEL not in message.content.array_records:
            raise ValueError("it holds no model")
        return client, _whole(told["num_images"]), fit

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

    def _answers(self, content: RecordDict, kind: str, nodes: Iterable[int], absent: dict[str, str]) -> Iterator[Message]:
        """Send to all nodes; their answers as they come, without those that are errors."""
        until = None if self.deadline is None else time.monotonic() + self.deadline
        waiting: dict[str, int] = {}
        for node in nodes:
            message = Message(content, node, kind, ttl=self.deadline, group_id=str(self.state.round))
            waiting |= dict.fromkeys(self.grid.push_messages([message]), node)
        while waiting and (until is None or time.monotonic() < until):
            for sent in list(waiting):
                for message in self.grid.pull_messages([sent]):
                    node = waiting.pop(sent)
                    if message.has_error():
                        self._lost(node, message.error.reason or "an error without a reason", absent)
                    else:
                        yield message
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for node in waiting.values():
            self._lost(node, f"no reply after {self.deadline:g} s", absent)

    def _lost(self, node: int, reason: str, absent: dict[str, str]) -> None:
        """A node is known by its client's name once it has answered."""
        if node in self._client_of:
            absent[self._client_of[node]] = reason
        else:
            logger.warning("round %d: node %d, whose client is not known yet: %s", self.state.round, node, reason)


def _alone(training: LocalTraining) -> FileLock:
    training.file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(training.file.with_suffix(".lock"))


def _round_from(record: ConfigRecord) -> LocalRound:
    whole = {name: _whole(record[name]) for name in ("round", "attempt", "attempts", "epochs", "seed")}
    return LocalRound(str(record["federation"]), **whole, deadline=_real(record["deadline"]))


def _fit_from(record: ConfigRecord) -> LocalFit:
    whole = {name: _whole(record[name]) for name in ("round", "attempt", "bytes_down", "steps")}
    return LocalFit(**whole, problem=str(record["problem"]), seconds=_real(record["seconds"]))


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a message holds {value!r} where a whole number belongs")
    return value


def _real(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a message holds {value!r} where a number belongs")
    return float(value)
