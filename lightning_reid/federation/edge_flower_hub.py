"""The hub of devices of cameras that are reached over Flower (extra ``federated``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor
from typing_extensions import override

from lightning_reid.federated import FedPav
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.sharing import AllowList
from lightning_reid.federation import edge_messages
from lightning_reid.federation.edge_device import Bank, DeviceFacts, LabelTask
from lightning_reid.federation.edge_hub import EdgeHub
from lightning_reid.federation.edge_messages import BANK, INSTALL, STATISTICS, TELL
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.flower import FlowerFederation
from lightning_reid.federation.flower_nodes import SECONDS_BETWEEN_LOOKS, FlowerNodes
from lightning_reid.federation.messages import query_request, read_who_reply
from lightning_reid.modules import TrackletReID

logger = logging.getLogger(__name__)
_Said = TypeVar("_Said")


class DevicesOverFlower(EdgeHub):
    """Devices far away, to be reached from a ``ServerApp``.

    A device that misses a visit is visited again at the end of the lap. All others are needed: what the hub asks is asked again until every
    device has answered or patience has ended.

    Args:
        grid: Flower's, of the run.
        devices: Ids, in the order of their cameras.
        module: As ``edge_module`` makes it, of the network that all have.
        half: Whether memories cross in half precision.
        patience: Seconds that devices are waited for, when the run begins and whenever all are needed.
        grace: Seconds that a visit waits for its device to be connected.
        deadline: Seconds that a visit may take, counted from the asking; ``None`` waits as long as the device is connected.

    Raises:
        ValueError: Two devices of one id; a number is out of range; or a device sends what it must not, which is said of it.
        RuntimeError: A device did not answer.
    """

    def __init__(
        self,
        grid: Grid,
        devices: Sequence[str],
        module: TrackletReID,
        *,
        half: bool = False,
        patience: float = 600.0,
        grace: float = 30.0,
        deadline: float | None = None,
    ) -> None:
        if len({*devices}) < len(devices):
            raise ValueError(f"devices need ids of their own, got {list(devices)}")
        self.grid, self.half, self.deadline = grid, half, deadline
        self.width = module.network.num_features
        self.middle = AllowList.of(module.state_dict(), module.walking_prefixes)
        self.nodes: FlowerNodes[DeviceFacts] = FlowerNodes(grid, devices, self._read_who, patience=patience, grace=grace)
        self._models: dict[str, str] = {}
        self._meet(devices)
        self.facts = {name: self.nodes.introduced[name] for name in devices}

    @override
    def check_options(self, options: EdgeOptions) -> None:
        if options.half != self.half:
            raise ValueError(f"memories are expected with half={self.half}, and the options of the run say {options.half}")

    @override
    def federation(
        self, walk: str, strategy: FedPav, tensors: NamedTensors, members: Sequence[str], output: Path, **options: Any
    ) -> FlowerFederation:
        told = {"nodes": self.nodes, "walk": walk, "deadline": self.deadline, **options}
        return FlowerFederation(self.grid, strategy, tensors, members, output, **told)

    @override
    def install(self, tensors: NamedTensors) -> dict[str, str]:
        contents = dict.fromkeys(self.facts, edge_messages.install_request(tensors))
        self._models = self._ask(INSTALL, contents, partial(edge_messages.read_install_reply, clients=[*self.facts]))
        return dict(self._models)

    @override
    def banks(self) -> dict[str, Bank]:
        def read(message: Message) -> tuple[str, Bank]:
            return edge_messages.read_bank_reply(message, self.facts, self._models, self.width, half=self.half)

        return self._ask(BANK, self._queries(BANK), read)

    @override
    def statistics(self) -> dict[str, dict[str, Tensor]]:
        allowed = edge_messages.statistics_list(self.middle)

        def read(message: Message) -> tuple[str, dict[str, Tensor]]:
            return edge_messages.read_statistics_reply(message, self.facts, self._models, allowed)

        return self._ask(STATISTICS, self._queries(STATISTICS), read)

    @override
    def tell(self, walk: str, tasks: Mapping[str, LabelTask]) -> None:
        contents = {name: edge_messages.task_request(walk, task) for name, task in tasks.items()}
        self._ask(TELL, contents, lambda one: (read_who_reply(one, [*self.facts]), None))

    def _read_who(self, message: Message) -> tuple[str, DeviceFacts]:
        return edge_messages.read_who_reply(message, self.nodes.clients, self.nodes.introduced)

    def _queries(self, kind: str) -> dict[str, RecordDict]:
        if not self._models:
            raise RuntimeError("devices are asked about the network that they were given: install one first")
        return dict.fromkeys(self.facts, query_request(kind))

    def _meet(self, devices: Sequence[str]) -> None:
        """Wait until all have said who they are."""
        until = time.monotonic() + self.nodes.patience
        self.nodes.connected(len(devices), len(devices), resumed=False)
        while True:
            _, reasons = self.nodes.find(devices)
            missing = [name for name in devices if name not in self.nodes.introduced]
            if not missing:
                return
            self._wait(until, "who they are", missing, reasons)

    def _ask(self, query: str, contents: Mapping[str, RecordDict], read: Callable[[Message], tuple[str, _Said]]) -> dict[str, _Said]:
        """What each device answers; those whose answers are lost are asked again, and a wrong answer is raised as it is."""
        until, heard = time.monotonic() + self.nodes.patience, dict[str, _Said]()
        while True:
            nodes, reasons = self.nodes.find([name for name in contents if name not in heard])
            sent = {name: contents[name] for name in nodes}
            said, lost = self._ask_once(query, sent, nodes, read, max(until - time.monotonic(), 0.0))
            heard |= said
            missing = [name for name in contents if name not in heard]
            if not missing:
                return {name: heard[name] for name in contents}
            self._wait(until, query, missing, reasons | lost)

    def _ask_once(
        self,
        query: str,
        contents: Mapping[str, RecordDict],
        nodes: Mapping[str, int],
        read: Callable[[Message], tuple[str, _Said]],
        seconds: float,
    ) -> tuple[dict[str, _Said], dict[str, str]]:
        names, refused = {node: name for name, node in nodes.items()}, dict[str, ValueError]()

        def reading(node: int, message: Message) -> tuple[str, _Said]:
            try:
                client, said = read(message)
                if client != names[node]:
                    raise ValueError(f"it says that it is {client}")
            except ValueError as error:
                refused[names[node]] = error
                raise
            return client, said

        found = self.nodes.believed({nodes[name]: content for name, content in contents.items()}, query, reading, seconds, query)
        for name, wrong in refused.items():
            wrong.add_note(f"of device {name}")
            raise wrong
        return found

    def _wait(self, until: float, query: str, missing: Sequence[str], reasons: Mapping[str, str]) -> None:
        """A moment, before devices are asked again."""
        told = f"{', '.join(missing)} did not answer {query!r} ({'; '.join(f'{name}: {reason}' for name, reason in reasons.items())})"
        if time.monotonic() >= until:
            raise RuntimeError(f"{told} for {self.nodes.patience:g} s: all devices are needed. Look at them, and resume")
        logger.warning("%s: asked again", told)
        time.sleep(SECONDS_BETWEEN_LOOKS)
