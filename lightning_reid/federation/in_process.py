"""A federation in one process: its clients are trained one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from lightning_reid.arguments import require_path, require_text
from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import check_alike
from lightning_reid.federation.client import Client
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.federation.server import Answer, FederationServer


class Federation(FederationServer):
    """Runs a whole federation in one process, client after client.

    Beside the server's files each client has ``clients/<id>.ckpt`` in ``output``. A run that was killed at any point goes on with
    ``resume``: clients that had finished the round are not trained again. Seeds depend on (seed, client, round, attempt), so that it
    gives what an unbroken run gives. A client whose weights are no longer finite goes back to where it was before the round.

    Args:
        strategy: What is shared and how it is averaged.
        clients: Their modules must have the same shared tensors.
        output: Folder of the state.
        accelerator: Of the clients' Trainers.
        options: Further arguments of :class:`FederationServer`. The deadline is checked at batch ends.

    Raises:
        ValueError: Clients of one id, of different networks, or without images; a number out of range; or a state in ``output`` of
            another strategy, network or other clients.
        FileExistsError: There is a state in ``output``, and ``resume`` is not asked for.

    Example:
        >>> from lightning_reid.datamodules import FederatedData
        >>> from lightning_reid.federated import FedPav
        >>> from lightning_reid.federation import Client, Federation
        >>> from lightning_reid.modules import SupervisedReID
        >>> data = FederatedData([market], "identity", num_clients=2, image_size=(32, 16), p=2, k=2, num_workers=0)
        >>> data.setup()  # market: a folder in the Market naming
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
        >>> clients = [Client(name, SupervisedReID(**tiny), images) for name, images in data.clients.items()]
        >>> federation = Federation(FedPav(), clients, folder, accelerator="cpu", quiet=True)
        >>> federation.fit(rounds=1).round, federation.rounds[0].report.used
        (1, ['client0', 'client1'])
    """

    def __init__(
        self,
        strategy: FedPav,
        clients: Sequence[Client],
        output: str | Path,
        *,
        accelerator: str = "auto",
        **options: Any,
    ) -> None:
        require_path("output", output)
        require_text("accelerator", accelerator)
        if not clients:
            raise ValueError("a federation needs clients")
        folder = Path(output) / "clients"
        members = sorted(clients, key=lambda client: client.id)
        self.members = [LocalTraining(one, strategy, folder / f"{one.id}.ckpt", accelerator) for one in members]
        first = members[0].module.state_dict()
        shared = strategy.begin(first, [members[0].id]).tensors
        for client in members[1:]:
            try:
                check_alike(strategy.begin(client.module.state_dict(), [client.id]).tensors, shared)
            except ValueError as error:
                raise ValueError(f"client {client.id} has another network than client {members[0].id}: {error}") from error
        super().__init__(strategy, first, [one.id for one in members], output, **options)
        if options.get("resume"):
            for member in self.members:
                member.restore()

    @property
    def clients(self) -> list[Client]:
        """The clients of the federation, sorted by id."""
        return [member.client for member in self.members]

    @override
    def answers(self, attempt: int) -> Iterator[Answer]:
        """Train the clients one after another; each model is averaged before the next client begins."""
        asked, clients = self.local_round(attempt), self.strategy.asked(self.state)
        for member in self.members:
            if member.client.id not in clients:
                continue
            fit = member.fit(asked, self.strategy.download(self.state, member.client.id))
            yield Answer(member.client.id, fit, None if fit.problem else member.reply(), fit.problem)
            self.heard()

    def test_clients(self) -> dict[str, dict[str, float]]:
        """The scores of every client's personal model on its own test set, fractions in [0, 1]."""
        return {member.client.id: member.test() for member in self.members}

    def test_server(self) -> dict[str, dict[str, float]]:
        """The scores of the server's model on every client's test set; personal models are as before afterwards."""
        return {member.client.id: member.test(self.state.tensors) for member in self.members}
