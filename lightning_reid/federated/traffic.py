"""What devices tell each other, in bytes: by kind, straight from device to device and through a hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from lightning_reid.arguments import require_count
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.sharing import payload_bytes

CLASSIFIER = "classifier."
"""Under which a module keeps its classifier."""
LABEL_BYTES = 4
STATISTICS_BYTES = 24
"""Mean and deviation of three color channels in float32."""


class Bytes(NamedTuple):
    """Payload of one kind of message, in a whole run.

    Attributes:
        direct: From device to device.
        hub: Through a server, where what one device tells another goes up and down.
    """

    direct: int
    hub: int


class Crossing(NamedTuple):
    """One kind of message of one device.

    Attributes:
        kind: Of what crosses.
        device: Its id.
        direction: ``"up"`` is from the device, ``"down"`` to it.
    """

    kind: str
    device: str
    direction: Literal["up", "down"]


class Ledger:
    """What crossed in a run, in bytes of payload: by the hub, and as it would cross from device to device without one.

    Attributes:
        hub: Bytes by kind, device and direction.
        direct: The same without a hub: whatever goes up at one device comes down at another.
    """

    def __init__(self) -> None:
        self.hub: Counter[Crossing] = Counter()
        self.direct: Counter[Crossing] = Counter()

    def add_hub(self, kind: str, device: str, *, up: int = 0, down: int = 0) -> None:
        """Count a message between a device and the hub."""
        self.hub += Counter({Crossing(kind, device, "up"): up, Crossing(kind, device, "down"): down})  # which keeps no zeros

    def add_direct(self, kind: str, sender: str, receiver: str, size: int) -> None:
        """Count a message between two devices; what one tells itself does not cross."""
        if sender != receiver:
            self.direct += Counter({Crossing(kind, sender, "up"): size, Crossing(kind, receiver, "down"): size})

    def totals(self) -> dict[str, Bytes]:
        """Payload by kind, of those of which anything crossed."""
        kinds = dict.fromkeys(one.kind for one in (*self.hub, *self.direct))
        direct = {kind: sum(size for one, size in self.direct.items() if one.kind == kind and one.direction == "up") for kind in kinds}
        return {kind: Bytes(direct[kind], sum(size for one, size in self.hub.items() if one.kind == kind)) for kind in kinds}


@dataclass(frozen=True)
class EdgeRun:
    """Which run it is that the traffic follows from.

    Attributes:
        model_bytes: P, of what walks, without a classifier.
        memories: Camera's device to its number of memories; all M of them.
        walking: M', devices that are visited in stage 2: those with two tracklets or more.
        learning: M'', devices that are visited in stage 4: those with images, and more than one.
        visits: V of stage 2.
        incremental_visits: V of stage 4.
        labels: C, rows of the classifier that walks in stage 4; 0 where none does.
        width: D, numbers of a memory.
        memory_bytes: Of a number of a memory, 4 or 2.
        hub_device: h, the device that makes the graph where there is no hub; the first unless it is given.
        starts_at_hub: Whether stage 4 begins at h.
        style: ``None``, ``"statistics"``, or ``"cyclegan"`` with ``style_bytes``.
        style_bytes: Of the files of camera 1 that each other device gets.
        averaged_bn_bytes: b, of all running means and variances, where they are averaged at the end; else 0.
        pairwise: Whether each pair of devices compares its memories by itself, in place of one device for all.
    """

    model_bytes: int
    memories: Mapping[str, int]
    walking: Collection[str]
    learning: Collection[str]
    visits: int
    incremental_visits: int
    labels: int
    width: int
    memory_bytes: int = 4
    hub_device: str | None = None
    starts_at_hub: bool = True
    style: Literal["statistics", "cyclegan"] | None = None
    style_bytes: int = 0
    averaged_bn_bytes: int = 0
    pairwise: bool = False

    def __post_init__(self) -> None:
        for name in ("model_bytes", "visits", "incremental_visits", "labels", "width", "style_bytes", "averaged_bn_bytes"):
            require_count(name, getattr(self, name), low=0)
        if self.memory_bytes not in (2, 4):
            raise ValueError(f"a number of a memory has 2 or 4 bytes, got {self.memory_bytes}")
        strangers = {*self.walking, *self.learning, *([] if self.hub_device is None else [self.hub_device])} - {*self.memories}
        if strangers or not self.memories:
            raise ValueError(f"devices are {[*self.memories]}, and {sorted(strangers)} are none of them")


def expected_traffic(run: EdgeRun) -> dict[str, Bytes]:
    """Payload of a run of one cycle in which nobody is lost, by kind; names and framing are not counted.

    Source: edge-device text, section 4.4 ("communication packet analysis", whose Table 5 is empty).

    Args:
        run: What was done, in laps that visit each device once.

    Example:
        >>> from lightning_reid.federated.traffic import EdgeRun, expected_traffic
        >>> both = ["a", "b"]
        >>> run = EdgeRun(100, {"a": 3, "b": 2}, both, both, visits=3, incremental_visits=3, labels=4, width=8, hub_device="a")
        >>> traffic = expected_traffic(run)
        >>> traffic["model, stage 2"], traffic["memories"], traffic["labels"]
        (Bytes(direct=500, hub=1200), Bytes(direct=64, hub=160), Bytes(direct=8, hub=20))
    """
    counts, hub = [*run.memories.values()], _hub_device(run)
    devices, total, at_hub = len(counts), sum(counts), run.memories[hub]
    head = 4 * run.labels * run.width
    moved, walks, learns = run.model_bytes, len(run.walking) * run.visits, len(run.learning) * run.incremental_visits
    found = {
        "model, stage 2": Bytes(max(walks - 1, 0) * moved, 2 * walks * moved),
        "model to all": Bytes(2 * (devices - 1) * moved, 2 * devices * moved),
        "model, stage 4": Bytes(max(learns - 1, 0) * moved, 2 * learns * moved),
        "classifier": Bytes(max(learns - 1, 0) * head + (0 if run.starts_at_hub else head), 2 * learns * head),
        "memories": Bytes(_memories(counts, total - at_hub, run), total * run.width * run.memory_bytes),
        "labels": Bytes(LABEL_BYTES * (total - at_hub), LABEL_BYTES * total),
        "batch statistics": Bytes(2 * (devices - 1) * run.averaged_bn_bytes, 2 * devices * run.averaged_bn_bytes),
    }
    if run.style is not None:
        each = _style_bytes(run)
        found["style"] = Bytes((devices - 1) * each, devices * each)
    return {kind: size for kind, size in found.items() if size.direct or size.hub}


def expected_at_hub(run: EdgeRun) -> dict[Crossing, int]:
    """What ``expected_traffic`` has through the hub, by device and direction."""
    found = Ledger()
    head = 4 * run.labels * run.width
    for name, count in run.memories.items():
        walks, learns = run.visits * (name in run.walking), run.incremental_visits * (name in run.learning)
        found.add_hub("model, stage 2", name, up=walks * run.model_bytes, down=walks * run.model_bytes)
        found.add_hub("model to all", name, down=2 * run.model_bytes)
        found.add_hub("model, stage 4", name, up=learns * run.model_bytes, down=learns * run.model_bytes)
        found.add_hub("classifier", name, up=learns * head, down=learns * head)
        found.add_hub("memories", name, up=count * run.width * run.memory_bytes)
        found.add_hub("labels", name, down=LABEL_BYTES * count)
        found.add_hub("batch statistics", name, up=run.averaged_bn_bytes, down=run.averaged_bn_bytes)
        if run.style is not None:
            first = name == next(iter(run.memories))  # camera 1 sends, all others get
            found.add_hub("style", name, **{"up" if first else "down": _style_bytes(run)})
    return dict(found.hub)


def _style_bytes(run: EdgeRun) -> int:
    return STATISTICS_BYTES if run.style == "statistics" else run.style_bytes


def _hub_device(run: EdgeRun) -> str:
    return next(iter(run.memories)) if run.hub_device is None else run.hub_device


def _memories(counts: Sequence[int], beside_hub: int, run: EdgeRun) -> int:
    told = sum(count * (len(counts) - 1 - place) for place, count in enumerate(counts)) if run.pairwise else beside_hub
    return told * run.width * run.memory_bytes


def bytes_by_kind(message: NamedTensors) -> dict[str, int]:
    """Payload of a message that holds a model, its classifier apart.

    Example:
        >>> import torch
        >>> from lightning_reid.federated.traffic import bytes_by_kind
        >>> bytes_by_kind({"network.weight": torch.zeros(2), "classifier.weight": torch.zeros(3, 2)})
        {'model': 8, 'classifier': 24}
    """
    heads: dict[str, Tensor] = {name: tensor for name, tensor in message.items() if name.startswith(CLASSIFIER)}
    classifier = payload_bytes(heads)
    return {"model": payload_bytes(message) - classifier, "classifier": classifier}
