"""A server that sees a row for each local person, and keeps the rows apart: what FedFR is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, TypeGuard

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_number
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.plausibility import implausible
from lightning_reid.federated.sharing import AllowList, payload_bytes
from lightning_reid.federated.strategies import MAX_IMAGES, NETWORK, FedPav, Reply, RoundReport, ServerState
from lightning_reid.losses.spread_out import spread_out_loss


class FedFace(FedPav):
    """FedAvg of the backbone by a server that also sees the proxies of all local people, and pushes them apart: to compare with.

    It gives away what the other strategies refuse to share: a row for each local person. Each client gets its own rows back. With one
    person a client, as in the paper, nothing else would tell that person from others.

    Args:
        margin: Of ``spread_out_loss``, in (0, 2).
        rate: Of the one step that the proxies take along its negative gradient each round, above 0. The text gives neither number.
        prefixes: See :class:`FedPav`.
        quorum: See :class:`FedPav`.
        max_images: See :class:`FedPav`.

    Source: Aggarwal et al. 2021 (arXiv:2104.03008); thesis, section 7.4.3.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.federated import FedFace
        >>> from lightning_reid.federated.strategies import Reply
        >>> module = {"network.weight": torch.zeros(1), "local_proxies": torch.eye(2)}
        >>> strategy = FedFace()
        >>> state = strategy.begin(module, clients=["office", "station"])
        >>> report = strategy.aggregate(state, [Reply(client, module, num_images=10) for client in state.clients])
        >>> sorted(strategy.download(state, "office"))  # the average network, and rows of its own people, pushed apart
        ['local_proxies', 'network.weight']
    """

    name: ClassVar[str] = "FedFace"
    proxies: ClassVar[str] = "local_proxies"

    def __init__(
        self,
        margin: float = 0.7,
        rate: float = 0.1,
        prefixes: tuple[str, ...] = (NETWORK,),
        quorum: float = 0.5,
        max_images: int = MAX_IMAGES,
    ) -> None:
        super().__init__(prefixes, quorum, max_images)
        require_number("margin", margin, above=0, below=2)
        require_number("rate", rate, above=0)
        self.margin, self.rate = margin, rate

    @override
    def allow_list(self, tensors: NamedTensors) -> AllowList:
        return AllowList.of(tensors, (*self.prefixes, self.proxies) if self.proxies in tensors else self.prefixes)

    @override
    def begin(self, tensors: NamedTensors, clients: Iterable[str]) -> ServerState:
        return super().begin(self._without_proxies(tensors), clients)

    @override
    def check_resumed(self, state: ServerState, tensors: NamedTensors, clients: Iterable[str]) -> None:
        super().check_resumed(replace(state, tensors=self._shared(state)), self._without_proxies(tensors), clients)

    @override
    def download(self, state: ServerState, client: str | None = None) -> dict[str, Tensor]:
        if client is None:
            raise ValueError("FedFace sends every client its own proxies, and must know whom it asks: run it in one process")
        own = state.tensors.get(f"{self.proxies}/{client}")
        return self._shared(state) if own is None else self._shared(state) | {self.proxies: own}

    @override
    def check_download(self, own: NamedTensors, message: NamedTensors) -> None:
        super().check_download(own if self.proxies in message else self._without_proxies(own), message)

    @override
    def receive(self, local: NamedTensors, message: NamedTensors) -> dict[str, Tensor]:
        return super().receive(local if self.proxies in message else self._without_proxies(local), message)

    @override
    def aggregate(self, state: ServerState, replies: Iterable[Reply], absent: Mapping[str, str] | None = None) -> RoundReport:
        rows = {name.partition("/")[2]: tensor for name, tensor in state.tensors.items() if name.startswith(f"{self.proxies}/")}
        kept = replace(state, tensors=self._shared(state))
        arrived: dict[str, Tensor] = {}

        def networks() -> Iterable[Reply]:
            for reply in replies:
                proxies = reply.tensors.get(self.proxies)
                if _is_matrix(proxies, [*rows.values(), *arrived.values()]):
                    arrived[reply.client] = proxies
                    yield Reply(reply.client, self._without_proxies(reply.tensors), reply.num_images)
                else:  # with what should not be there, so that it is refused by name
                    yield reply

        report = super().aggregate(kept, networks(), absent)
        for client, proxies in arrived.items():
            report.bytes_up[client] += payload_bytes({self.proxies: proxies})
        if not report.repeat:
            rows |= {client: arrived[client] for client in report.used if client in arrived}
            state.tensors = kept.tensors | {f"{self.proxies}/{client}": tensor for client, tensor in self._spread(rows).items()}
            state.round = kept.round
        return report

    def _spread(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not rows:
            return {}
        together = torch.cat([rows[client] for client in sorted(rows)]).double().requires_grad_()
        (gradient,) = torch.autograd.grad(spread_out_loss(together, self.margin), together)
        moved = (together.detach() - self.rate * gradient).split([len(rows[client]) for client in sorted(rows)])
        return {client: part.to(rows[client].dtype).clone() for client, part in zip(sorted(rows), moved, strict=True)}

    def _shared(self, state: ServerState) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in state.tensors.items() if name.startswith(self.prefixes)}

    def _without_proxies(self, tensors: NamedTensors) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in tensors.items() if name != self.proxies}


def _is_matrix(value: object, like: Sequence[Tensor]) -> TypeGuard[Tensor]:
    """Whether it is a matrix of numbers that training leaves behind, as wide as others."""
    if not isinstance(value, Tensor) or value.ndim != 2 or not value.is_floating_point():
        return False
    return implausible({"": value}, {"": value}) is None and all(value.shape[1] == other.shape[1] for other in like)
