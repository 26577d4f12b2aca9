"""A federation by plain options, as a command line has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.datamodules.client_splits import ClientSplit
from lightning_reid.federated import FedAvg
from lightning_reid.runners.federation import Federation
from lightning_reid.runners.federation_client import Client


@dataclass
class FederationOptions:
    """Who the clients are, and how long and where their federations run.

    Attributes:
        output: Folder of the federations, the tables and the split.
        root: Folder that holds the data sets; none: ./data.
        split: What decides who gets which images, see ``split_clients``.
        num_clients: Clients of each data set, for ``"identity"`` and ``"dirichlet"``.
        concentration: Of the Dirichlet split, above 0: small is unequal.
        rounds: Of a federation, at least 1.
        epochs: Most local epochs a round, at least 1.
        deadline: Seconds that a client may take a round; none waits for everybody.
        accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, as Lightning names them.
        seed: Of weights, draws and the split.
        resume: Go on with the federations in ``output``.
        quiet: Show no progress bars.
    """

    output: str = "runs/federation"
    root: str | None = None
    split: ClientSplit = "dataset"
    num_clients: int | None = None
    concentration: float = 1.0
    rounds: int = 30
    epochs: int = 4
    deadline: float | None = None
    accelerator: str = "auto"
    seed: int = 0
    resume: bool = False
    quiet: bool = False

    @classmethod
    def add_to(cls, parser: ArgumentParser, **defaults: Any) -> None:
        """Give a parser these options at its top level; the two switches are flags without a value."""
        parser.add_class_arguments(cls, None, skip={"resume", "quiet"})
        parser.add_argument("--resume", action="store_true", help="go on with the federations in --output")
        parser.add_argument("--quiet", action="store_true", help="show no progress bars")
        parser.set_defaults(defaults)

    @classmethod
    def of(cls, cfg: Namespace) -> FederationOptions:
        """The options among parsed arguments."""
        return cls(**{field.name: cfg[field.name] for field in fields(cls)})

    def split_arguments(self) -> dict[str, Any]:
        """What ``FederatedDataModule`` is told of the split."""
        names = ("root", "split", "num_clients", "concentration", "seed")
        return {name: getattr(self, name) for name in names}

    def federation(self, row: str, strategy: FedAvg, clients: Sequence[Client]) -> Federation:
        """The federation of a row of a table, in a folder of its own."""
        names = ("epochs", "deadline", "resume", "seed", "accelerator", "quiet")
        return Federation(strategy, clients, Path(self.output) / row.replace(" ", "-"), **{name: getattr(self, name) for name in names})
