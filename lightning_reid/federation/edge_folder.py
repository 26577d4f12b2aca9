"""Whose the folder of devices that learn together is: of some options, start weights and devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federation.edge_device import DeviceFacts, digest
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.files import read_json, write_json

FILE = "edge.json"


def claim_folder(folder: Path, options: EdgeOptions, start: NamedTensors, facts: Mapping[str, DeviceFacts], *, resume: bool) -> None:
    """Say in ``edge.json`` whose a folder is: its memories, labels and walks are no other run's.

    Args:
        folder: Of the run.
        options: How devices learn.
        start: Tensors of the network that they begin with.
        facts: What each device says of itself.
        resume: Go on where it was used before.

    Raises:
        FileExistsError: It was used, and ``resume`` is not asked for.
        ValueError: It holds another run; what differs is named.
    """
    here = {**asdict(options), "start": digest(start), "devices": [*facts]}
    here |= {f"what {name} has": asdict(one) for name, one in facts.items()}
    file = folder / FILE
    if not file.is_file():
        write_json(file, here)
        return
    if not resume:
        raise FileExistsError(f"{folder} holds what devices learned: go on from it with resume, or take another folder")
    there = read_json(file, way_on="take another folder")
    other = [f"{name} was {there.get(name)}, is {told}" for name, told in here.items() if there.get(name) != told]
    if other:
        raise ValueError(f"{folder} holds another run: {'; '.join(other)}. Give it the same again, or take another folder")
