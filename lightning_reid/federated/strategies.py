"""How a server makes one model of its clients' models, and what a client makes of the server's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_number
from lightning_reid.federated.averaging import NamedTensors, WeightedAverage, check_alike, interpolate
from lightning_reid.federated.sharing import AllowList, not_finite, payload_bytes

NETWORK = "network."
"""Under which a ``ReIDModule`` keeps its embedding network."""


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
    """

    strategy: str
    round: int
    tensors: dict[str, Tensor]
    clients: list[str]
    federation: str = ""


@dataclass(frozen=True)
class RoundReport:
    """What became of a round: whose replies were averaged, whose were not, and why.

    Attributes:
        round: Its number, from 0.
        used: Clients whose replies were averaged, sorted.
        left_out: Client to the reason why its reply was not.
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

    Raises:
        ValueError: No prefix, or a quorum out of range.

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

    def __init__(self, prefixes: tuple[str, ...] = (NETWORK,), quorum: float = 0.5) -> None:
        if not prefixes:
            raise ValueError("prefixes name what is shared: need one at least")
        require_number("quorum", quorum, above=0, high=1)
        self.prefixes, self.quorum = tuple(prefixes), quorum

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

    def receive(self, local: NamedTensors, message: NamedTensors) -> dict[str, Tensor]:
        """The tensors that a client goes on with when the server's message has come.

        Args:
            local: The shared tensors as the client ended its last round.
            message: What the server sent.
        """
        check_alike(local, message)
        return dict(message)

    def enough(self, state: ServerState) -> int:
        """How many replies a round needs to count: the quorum's share of the clients, rounded up."""
        return ceil(self.quorum * len(state.clients))

    def aggregate(self, state: ServerState, replies: Iterable[Reply], absent: Mapping[str, str] | None = None) -> RoundReport:
        """Average the replies into ``state``; replies are read one at a time, in the order in which they come.

        Whoever calls gives them in the order of their clients' ids, for the sum to round alike each time. A reply with a tensor that is
        not to be shared, of another shape, missing, or not finite is left out and named.

        Args:
            state: Is changed where enough replies can be used, and else left as it is.
            replies: At most one of each client.
            absent: Client to the reason why it sent none, where that is known when the replies are through.

        Raises:
            ValueError: A client answers that is not one of the server's, or twice; or all weights are 0.
        """
        allowed = self.allow_list(state.tensors)
        average, used, left_out, received = WeightedAverage(), [], {}, {}
        for reply in replies:
            if reply.client not in state.clients or reply.client in received:
                raise ValueError(f"{reply.client!r} answered twice or is no client of this server, they are {state.clients}")
            received[reply.client] = payload_bytes({name: t for name, t in reply.tensors.items() if isinstance(t, Tensor)})
            problem = _problem(allowed, reply)
            if problem is None:
                average.add({name: reply.tensors[name] for name in allowed.kinds}, reply.num_images)
                used.append(reply.client)
            else:
                left_out[reply.client] = problem
        reasons = absent or {}
        left_out |= {client: reasons.get(client, "no reply") for client in state.clients if client not in received}
        repeat = len(used) < self.enough(state)
        report = RoundReport(state.round, sorted(used), left_out, received, repeat)
        if not repeat:
            state.tensors = average.result()
            state.round += 1
        return report


class FedUReID(FedPav):
    """FedPav with the personalized update: a client goes on with ``mu theta_k + (1 - mu) theta``.

    The interpolation is done where theta_k is, at the client: the result is that of the text, where the cloud does it, and no server
    has to hold the models of all.

    Args:
        local_share: mu, in [0, 1]; 0 is FedPav. The text gives none.
        prefixes: See :class:`FedPav`.
        quorum: See :class:`FedPav`.

    Source: FedUReID, "personalized update".

    Example:
        >>> import torch
        >>> from lightning_reid.federated import FedUReID
        >>> local, message = {"network.weight": torch.tensor([1.0])}, {"network.weight": torch.tensor([3.0])}
        >>> FedUReID(local_share=0.25).receive(local, message)  # 0.25 * 1 + 0.75 * 3
        {'network.weight': tensor([2.5000])}
    """

    name: ClassVar[str] = "FedUReID"

    def __init__(self, local_share: float = 0.5, prefixes: tuple[str, ...] = (NETWORK,), quorum: float = 0.5) -> None:
        super().__init__(prefixes, quorum)
        require_number("local_share", local_share, low=0, high=1)
        self.local_share = local_share

    @override
    def receive(self, local: NamedTensors, message: NamedTensors) -> dict[str, Tensor]:
        """The interpolation of the client's own tensors and the server's: ``local_share`` of the former."""
        return interpolate(local, message, self.local_share)


class FedFR(FedPav):
    """FedPav of the backbone and of the public identities' proxies; those of local people stay with the clients.

    Source: thesis, section 7.3.3, eq. 7.2 and 7.4, algorithm 4. The public code never sends the averaged proxies back; here eq. 7.4 is
    what it says.

    Example:
        >>> import torch
        >>> from lightning_reid.federated import FedFR
        >>> module = {name: torch.zeros(1) for name in ("network.weight", "public_proxies", "local_proxies", "heads")}
        >>> sorted(FedFR().begin(module, clients=["office", "station"]).tensors)  # what the server holds
        ['network.weight', 'public_proxies']
    """

    name: ClassVar[str] = "FedFR"

    def __init__(self, prefixes: tuple[str, ...] = (NETWORK, "public_proxies"), quorum: float = 0.5) -> None:
        super().__init__(prefixes, quorum)


def _problem(allowed: AllowList, reply: Reply) -> str | None:
    try:
        allowed.check(reply.tensors)
    except ValueError as error:  # a client's mistake is told to the operator, and costs that client its round
        return str(error)
    if reply.num_images < 0:
        return f"it says it trained on {reply.num_images} images"
    broken = not_finite(reply.tensors)
    return None if broken is None else f"{broken} is NaN or infinite"
