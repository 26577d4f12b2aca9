"""How a server makes one model of its clients' models, and what a client makes of the server's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from torch import Tensor

from lightning_reid.arguments import require_count, require_number, require_texts
from lightning_reid.federated.averaging import NamedTensors, WeightedAverage, check_alike
from lightning_reid.federated.plausibility import implausible
from lightning_reid.federated.sharing import AllowList, payload_bytes

NETWORK = "network."
"""Under which a ``ReIDModule`` keeps its embedding network."""
MAX_IMAGES = 10_000_000
"""Of a client that signs up, unless a strategy is told otherwise: more than there are in any public data set."""


@dataclass(frozen=True)
class Reply:
    """What a client sends back.

    Attributes:
        client: Its id.
        tensors: What the method shares.
        num_images: It trained on, its weight.
    """

    client: str
    tensors: NamedTensors
    num_images: int


@dataclass
class ServerState:
    """All that a server knows, and what its checkpoint holds.

    Attributes:
        strategy: Name of the strategy it was made by.
        round: Rounds that are done.
        tensors: The shared model.
        clients: Ids of the clients, sorted.
        federation: Tells it from any other; a client that has learned in another one has a state that does not belong here.
        signed_up: Client to the images of its first reply that was averaged: it may say fewer later, and never more.
        owed: Of a walk, clients that were not reached in this lap, in the order in which they are asked again at its end.
        retried: Of a walk, how many rounds asked a client again.
    """

    strategy: str
    round: int
    tensors: dict[str, Tensor]
    clients: list[str]
    federation: str = ""
    signed_up: dict[str, int] = field(default_factory=dict)
    owed: list[str] = field(default_factory=list)
    retried: int = 0


@dataclass(frozen=True)
class RoundReport:
    """What became of a round: whose replies were averaged, whose were not, and why.

    Attributes:
        round: Its number, from 0.
        used: Clients whose replies were averaged, sorted.
        left_out: Client to the reason why its reply was not; ``node <number>`` where nobody knows whose node it is.
        bytes_up: Client to the bytes of its reply.
        repeat: Whether too few were used: the model is as before, and the round is to be run again.
    """

    round: int
    used: list[str]
    left_out: dict[str, str] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    repeat: bool = False


_TODAY = {"FedAvg": "FedPav"}
"""Names in states of version 0.1 that others stand for now."""


class FedPav:
    """What is shared is averaged, weighted by the clients' numbers of images; classifiers stay with the clients.

    Source: McMahan et al. 2017 (FedAvg, arXiv:1602.05629); Zhuang et al. 2020 (FedPav: of the backbone, arXiv:2008.11560), section 3.3;
    thesis, section 7.3.2. FedPav's public code averages parameters only; here batch normalization's running statistics are averaged too,
    since a network tested with one client's statistics and everybody's weights fits neither.

    Args:
        prefixes: Of the names that are shared. The default is the embedding network: identities differ from client to client, and so do
            classifiers.
        quorum: Replies that a round needs, a share of the clients in (0, 1].
        max_images: Most that a client may say in its first reply, at least 1; later it may say no more than then.

    Raises:
        ValueError: No prefix, or a number out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.federated import FedPav
        >>> from lightning_reid.federated.strategies import Reply
        >>> strategy = FedPav()
        >>> state = strategy.begin({"network.weight": torch.zeros(1), "classifier.weight": torch.zeros(4, 1)}, clients=["a", "b"])
        >>> replies = [Reply("a", {"network.weight": torch.tensor([1.0])}, 30), Reply("b", {"network.weight": torch.tensor([5.0])}, 10)]
        >>> report = strategy.aggregate(state, replies)
        >>> report.used, state.tensors  # (30 * 1 + 10 * 5) / 40; classifiers stay with the clients
        (['a', 'b'], {'network.weight': tensor([2.])})
    """

    name: ClassVar[str] = "FedPav"

    def __init__(self, prefixes: tuple[str, ...] = (NETWORK,), quorum: float = 0.5, max_images: int = MAX_IMAGES) -> None:
        require_texts("prefixes", prefixes)
        if not prefixes:
            raise ValueError("prefixes name what is shared: need one at least")
        require_number("quorum", quorum, above=0, high=1)
        require_count("max_images", max_images)
        self.prefixes, self.quorum, self.max_images = tuple(prefixes), quorum, max_images

    def allow_list(self, tensors: NamedTensors) -> AllowList:
        """What crosses the boundary, of a module's tensors."""
        return AllowList.of(tensors, self.prefixes)

    def begin(self, tensors: NamedTensors, clients: Iterable[str]) -> ServerState:
        """The server before the first round, with the shared ones of a module's tensors.

        Raises:
            ValueError: No clients, or an id twice.
        """
        ids = sorted(clients)
        if not ids or len(set(ids)) < len(ids):
            raise ValueError(f"a federation needs clients of different ids, got {ids}")
        return ServerState(self.name, 0, self.allow_list(tensors).pick(tensors), ids)

    def check_resumed(self, state: ServerState, tensors: NamedTensors, clients: Iterable[str]) -> None:
        """Whether a server's state is that of this strategy, network and clients.

        Raises:
            ValueError: It is not; the message says in what.
        """
        made_by = _TODAY.get(state.strategy, state.strategy)
        if made_by != self.name:
            raise ValueError(f"the server's state is of {state.strategy}, this is {self.name}: give the same strategy, or start anew")
        ids = sorted(clients)
        if ids != state.clients:
            gone, new = sorted(set(state.clients) - set(ids)), sorted(set(ids) - set(state.clients))
            raise ValueError(f"the clients are not those of the server's state: {gone} are missing, {new} are new")
        check_alike(self.allow_list(tensors).pick(tensors), state.tensors)

    def download(self, state: ServerState, client: str | None = None) -> dict[str, Tensor]:
        """What the server sends to a client; ``None`` where it does not know whom it asks."""
        return dict(state.tensors)

    def check_download(self, own: NamedTensors, message: NamedTensors) -> None:
        """Whether a server's message is one that a client can go on with.

        Args:
            own: All tensors of the client's module.
            message: What the server sent.

        Raises:
            ValueError: A name, shape or dtype is not that of the client's, one is missing, or numbers are such as no training leaves.
        """
        try:
            self.allow_list(own).check(message)
        except ValueError as error:
            raise ValueError(f"the server's message is not of this client's network: {error}") from error
        problem = implausible(message, own)
        if problem is not None:
            raise ValueError(f"the server sent what no training leaves behind: {problem}. Look at the server's state, or begin it anew")

    def receive(self, local: NamedTensors, message: NamedTensors) -> dict[str, Tensor]:
        """The tensors that a client goes on with when the server's message has come.

        Args:
            local: The shared tensors as the client ended its last round.
            message: What the server sent.
        """
        check_alike(local, message)
        return dict(message)

    def asked(self, state: ServerState) -> list[str]:
        """The clients that take part in the round that ``state`` is at, sorted by id."""
        return list(state.clients)

    def finished(self, state: ServerState, rounds: int) -> bool:
        """Whether so many rounds are done."""
        return state.round >= rounds

    def lr_factor(self, state: ServerState) -> float:
        """What the learning rates of the round that ``state`` is at are multiplied by, in (0, 1]."""
        return 1.0

    def enough(self, state: ServerState) -> int:
        """How many replies a round needs to count: the quorum's share of the clients that are asked, rounded up."""
        return ceil(self.quorum * len(self.asked(state)))

    def aggregate(self, state: ServerState, replies: Iterable[Reply], absent: Mapping[str, str] | None = None) -> RoundReport:
        """Average the replies into ``state``; replies are read one at a time, in the order in which they come.

        Whoever calls gives them in the order of their clients' ids, for the sum to round alike each time. A reply with a tensor that is
        not to be shared, of another shape, missing, or such as no training leaves behind (see ``implausible``), or with a number of
        images out of range, is left out and named.

        Args:
            state: Is changed where enough replies can be used, and else left as it is.
            replies: At most one of each client.
            absent: Client, or node, to the reason why it sent none, where that is known when the replies are through.

        Raises:
            ValueError: A client answers that was not asked, or twice.
        """
        asked = self.asked(state)
        allowed = self.allow_list(state.tensors)
        average, left_out, received = WeightedAverage(), {}, {}
        used: dict[str, int] = {}
        for reply in replies:
            if reply.client not in asked or reply.client in received:
                raise ValueError(f"{reply.client!r} answered twice or was not asked, {asked} were")
            received[reply.client] = payload_bytes({name: t for name, t in reply.tensors.items() if isinstance(t, Tensor)})
            problem = _problem(allowed, reply, state, self.max_images)
            if problem is None:
                average.add({name: reply.tensors[name] for name in allowed.kinds}, reply.num_images)
                used[reply.client] = reply.num_images
            else:
                left_out[reply.client] = problem
        reasons = absent or {}
        left_out |= {client: reasons.get(client, "no reply") for client in asked if client not in received}
        left_out |= {node: reason for node, reason in reasons.items() if node not in state.clients}
        repeat = len(used) < self.enough(state)
        report = RoundReport(state.round, sorted(used), left_out, received, repeat)
        if not repeat:
            state.tensors = average.result()
            state.signed_up.update({client: images for client, images in used.items() if client not in state.signed_up})
            state.round += 1
        return report


def _problem(allowed: AllowList, reply: Reply, state: ServerState, max_images: int) -> str | None:
    try:
        allowed.check(reply.tensors)
    except ValueError as error:  # a client's mistake is told to the operator, and costs that client its round
        return str(error)
    images, signed_up = reply.num_images, state.signed_up.get(reply.client)
    if type(images) is not int or images < 1:  # True is an int to isinstance
        return f"it says it trained on {images!r} images, expected a whole number of at least 1"
    if images > (signed_up or max_images):
        most = f"it signed up with {signed_up}" if signed_up else f"at most {max_images} may be (max_images of the strategy)"
        return f"it says it trained on {images} images, {most}"
    return implausible(reply.tensors, state.tensors)
