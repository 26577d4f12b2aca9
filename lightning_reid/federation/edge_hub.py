"""How whoever makes the graph reaches the devices of cameras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federation.edge_device import Bank, DeviceFacts, EdgeDevice, LabelTask, check_bank
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.in_process import Federation
from lightning_reid.federation.server import FederationServer


class EdgeHub(ABC):
    """The devices, whoever they are and however they are reached.

    Attributes:
        facts: Id to what a device says of itself, in the order of their cameras.
    """

    facts: dict[str, DeviceFacts]

    @abstractmethod
    def check_options(self, options: EdgeOptions) -> None:
        """Refuse other options than devices have, as far as those are known here.

        Raises:
            ValueError: They are others.
        """

    @abstractmethod
    def federation(
        self, walk: str, strategy: FedPav, tensors: NamedTensors, members: Sequence[str], output: Path, **options: Any
    ) -> FederationServer:
        """The server of a walk.

        Args:
            walk: Its name, which devices know.
            strategy: Of the walk.
            tensors: A module's, with what walks among them.
            members: Who takes part.
            output: Folder of the server's state.
            options: Of :class:`FederationServer`.
        """

    @abstractmethod
    def install(self, tensors: NamedTensors) -> dict[str, str]:
        """Give every device the middle of the network, or statistics of it; the digest of what each has then."""

    @abstractmethod
    def banks(self) -> dict[str, Bank]:
        """Each device's memories by the network that it was last given, checked as they cross."""

    @abstractmethod
    def statistics(self) -> dict[str, dict[str, Tensor]]:
        """Each device's own running statistics of the middle by the network that it was last given."""

    @abstractmethod
    def tell(self, walk: str, tasks: Mapping[str, LabelTask]) -> None:
        """Tell each device the labels of its tracklets for a walk."""


class DevicesHere(EdgeHub):
    """Devices in this process, asked one after another.

    Args:
        devices: In the order of their cameras.

    Raises:
        ValueError: Two of one id.
    """

    def __init__(self, devices: Sequence[EdgeDevice]) -> None:
        self.devices = {one.id: one for one in devices}
        if len(self.devices) < len(devices):
            raise ValueError(f"devices need ids of their own, got {[one.id for one in devices]}")
        self.facts = {name: one.facts for name, one in self.devices.items()}

    @override
    def check_options(self, options: EdgeOptions) -> None:
        for name, one in self.devices.items():
            if one.options != options:
                raise ValueError(f"{name} learns by other options than the run: {one.options}, expected {options}")

    @override
    def federation(
        self, walk: str, strategy: FedPav, tensors: NamedTensors, members: Sequence[str], output: Path, **options: Any
    ) -> Federation:
        clients = [self.devices[name].client(walk) for name in members]
        for client in clients:  # they begin with what the server sends; a federation in one process takes that from the first of them
            own = client.module.state_dict()
            client.module.load_state_dict(own | {name: tensor for name, tensor in tensors.items() if name in own})
        accelerator = self.devices[members[0]].accelerator
        return Federation(strategy, clients, output, accelerator=accelerator, **options)

    @override
    def install(self, tensors: NamedTensors) -> dict[str, str]:
        return {name: one.install(tensors) for name, one in self.devices.items()}

    @override
    def banks(self) -> dict[str, Bank]:
        found = {name: one.bank() for name, one in self.devices.items()}
        for name, bank in found.items():
            device = self.devices[name]
            try:
                check_bank(bank, self.facts[name], device.width, half=device.options.half)
            except ValueError as error:
                error.add_note(f"of device {name}")
                raise
        return found

    @override
    def statistics(self) -> dict[str, dict[str, Tensor]]:
        return {name: one.statistics() for name, one in self.devices.items()}

    @override
    def tell(self, walk: str, tasks: Mapping[str, LabelTask]) -> None:
        for name, task in tasks.items():
            self.devices[name].take_task(walk, task)
