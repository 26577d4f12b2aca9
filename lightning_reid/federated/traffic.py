"""What devices tell each other, in bytes: by kind, straight from device to device and through a hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class EdgeRun:
    """Which run it is that the traffic follows from.

    Attributes:
        model_bytes: P, of what walks, without a classifier.
        memories: Camera's device to its number of memories; all M of them.
        walking: M', devices with two tracklets or more.
        visits: V of stage 2.
        incremental_visits: V of stage 4.
        labels: C, rows of the classifier that walks in stage 4; 0 where none does.
        width: D, numbers of a memory.
        memory_bytes: Of a number of a memory, 4 or 2.
        hub_device: h, the device that makes the graph.
        starts_at_hub: Whether stage 4 begins at h.
        style: ``None``, ``"statistics"``, or ``"cyclegan"`` with ``style_bytes``.
        style_bytes: Of the files of camera 1 that each other device gets.
        averaged_bn_bytes: b, of all running means and variances, where they are averaged at the end; else 0.
        pairwise: Whether each pair of devices compares its memories by itself, in place of one device for all.
    """

    model_bytes: int
    memories: Mapping[str, int]
    walking: int
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


def expected_traffic(run: EdgeRun) -> dict[str, Bytes]:
    """Payload of a run in which nobody is lost, by kind; names and framing are not counted.

    Source: edge-device text, section 4.4 ("communication packet analysis", whose Table 5 is empty).

    Args:
        run: What was done.

    Raises:
        ValueError: There is no device, ``hub_device`` is none of them, or a number is below 0.

    Example:
        >>> from lightning_reid.federated.traffic import EdgeRun, expected_traffic
        >>> run = EdgeRun(100, {"a": 3, "b": 2}, walking=2, visits=3, incremental_visits=3, labels=4, width=8, hub_device="a")
        >>> traffic = expected_traffic(run)
        >>> traffic["model, stage 2"], traffic["memories"], traffic["labels"]
        (Bytes(direct=500, hub=1200), Bytes(direct=64, hub=160), Bytes(direct=8, hub=20))
    """
    counts = [*run.memories.values()]
    for name in ("model_bytes", "walking", "visits", "incremental_visits", "labels", "width", "style_bytes", "averaged_bn_bytes"):
        require_count(name, getattr(run, name), low=0)
    if run.memory_bytes not in (2, 4):
        raise ValueError(f"a number of a memory has 2 or 4 bytes, got {run.memory_bytes}")
    hub = next(iter(run.memories), None) if run.hub_device is None else run.hub_device
    if hub is None or hub not in run.memories:
        raise ValueError(f"hub_device is {hub!r}, devices are {[*run.memories]}")
    devices, total, at_hub = len(counts), sum(counts), run.memories[hub]
    remembering = sum(count > 0 for count in counts)
    head = 4 * run.labels * run.width
    moved, heads = run.model_bytes, remembering * run.incremental_visits
    found = {
        "model, stage 2": Bytes(max(run.walking * run.visits - 1, 0) * moved, 2 * run.walking * run.visits * moved),
        "model to all": Bytes(2 * (devices - 1) * moved, 2 * devices * moved),
        "model, stage 4": Bytes(max(heads - 1, 0) * moved, 2 * heads * moved),
        "classifier": Bytes(max(heads - 1, 0) * head + (0 if run.starts_at_hub else head), 2 * heads * head),
        "memories": Bytes(_memories(counts, total - at_hub, run), total * run.width * run.memory_bytes),
        "labels": Bytes(LABEL_BYTES * (total - at_hub), LABEL_BYTES * total),
        "batch statistics": Bytes(2 * (devices - 1) * run.averaged_bn_bytes, 2 * devices * run.averaged_bn_bytes),
    }
    if run.style is not None:
        each = STATISTICS_BYTES if run.style == "statistics" else run.style_bytes
        found["style"] = Bytes((devices - 1) * each, devices * each)
    return found


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
